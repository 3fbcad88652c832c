//! What this machine allows, asked of the kernel itself: every program is given to its verifier and let go again.
//! Nothing is attached, pinned or mounted.

use std::{os::fd::AsFd as _, path::Path};

use ebpf_redirect_abi::Hook;
use socket2::{Domain, Socket, Type};

use crate::{
    RedirectError,
    kernel::{self, Probe},
    sys,
};

/// Something that steering by the kernel needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name, for example `connect4`.
    pub name: &'static str,
    /// What would be missing without it.
    pub needed_for: &'static str,
    /// The first kernel that has it, for example `5.9`.
    pub minimum_kernel: &'static str,
    /// Whether this machine has it.
    pub state: State,
}

/// Whether a feature is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is.
    Available,
    /// It is not.
    Missing {
        /// What the kernel said; for a program, its verifier's log.
        why: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

/// Everything that steering by the kernel needs, in the order in which it is needed.
pub fn probe() -> Vec<Feature> {
    let mut features = vec![
        feature(
            "programs",
            "everything",
            "any",
            kernel::built(),
            "build without CANOPY_SKIP_EBPF=1, or use iptables",
        ),
        feature("cgroup2", "the connect hooks", "4.10", kernel::cgroup2().map(drop), CGROUP2),
        feature(
            "bpffs",
            "steering that outlives the process",
            "4.4",
            kernel::bpffs(Path::new("/sys/fs/bpf")),
            BPFFS,
        ),
        feature("netns_cookie", "telling pods apart", "5.14", netns_cookie(), KERNEL),
    ];
    let mut programs = Probe::new();
    features.extend(Hook::ALL.map(|hook| {
        let tried = programs.try_hook(hook);
        let remedy = match tried {
            Err(RedirectError::Permission { .. }) => ROOT,
            _ if matches!(hook, Hook::FenceSend | Hook::FenceReceive) => NO_FENCE,
            _ => KERNEL,
        };
        feature(hook.name(), needed_for(hook), kernel::minimum_kernel(hook), tried, remedy)
    }));
    features
}

fn feature(
    name: &'static str,
    needed_for: &'static str,
    minimum_kernel: &'static str,
    tried: Result<(), RedirectError>,
    remedy: &'static str,
) -> Feature {
    let state = match tried {
        Ok(()) => State::Available,
        Err(error) => State::Missing { why: kernel::chain(&error), remedy },
    };
    Feature { name, needed_for, minimum_kernel, state }
}

fn needed_for(hook: Hook) -> &'static str {
    match hook {
        Hook::Connect4 => "steering IPv4 connections out of pods",
        Hook::Connect6 => "steering IPv6 connections out of pods",
        Hook::GetPeerName4 | Hook::GetPeerName6 => "the original destination, and the caller's true address",
        Hook::GetSockName4 | Hook::GetSockName6 => "the pod's true address in its applications",
        Hook::SockOps => "the original destination and the caller's address across the connection",
        Hook::FenceSend => "the fence: no TCP out of a pod past its proxy, and no forged address",
        Hook::FenceReceive => "the fence: nothing into a pod that is not for it, early denial",
        Hook::SkLookup => "steering connections into pods, and both ways to the pod's own listeners",
    }
}

fn netns_cookie() -> Result<(), RedirectError> {
    Socket::new(Domain::UNIX, Type::DGRAM, None)
        .and_then(|socket| sys::socket::netns_cookie(socket.as_fd()))
        .map(drop)
        .map_err(|error| RedirectError::syscall("SO_NETNS_COOKIE", "a socket", error))
}

const ROOT: &str = "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN";
const KERNEL: &str = "update the kernel, or steer by iptables";
const NO_FENCE: &str = "update the kernel; until then pods run without the fence (--fence auto)";
const CGROUP2: &str =
    "mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the host's /sys/fs/cgroup";
const BPFFS: &str = "mount -t bpf bpf /sys/fs/bpf; in a container, mount the host's";
