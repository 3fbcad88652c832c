//! Steering by the kernel's eBPF hooks. One object of hooks sits on the cgroup v2 root and knows the enrolled pods by
//! their network namespaces; one small object per pod chooses the listener inside its namespace. All is
//! pinned, so that a pod stays steered (and is refused, rather than let go unproxied) while no daemon runs.
//!
//! This file is the public face and the path of a connection; it must not touch pins or programs itself.

use std::{net::SocketAddr, os::fd::BorrowedFd, path::PathBuf, sync::Arc};

use crate::{
    Counter, Delegation, Enrolled, Enrolment, FenceChoice, FencedPod, Gate, ListenPlan, Mechanism, Origin,
    Redirect, RedirectError, Side, Spared,
};

pub use trace::{Decision, Filter, Trace};

pub(crate) mod address;
pub(crate) mod delegated;
mod exceptions;
mod fence;
mod gates;
mod hooks;
mod instance;
mod listeners;
mod lookup;
mod mounts;
mod networks;
mod object;
mod pod;
mod rates;
mod registry;
mod state;
mod tables;
mod trace;

pub(crate) use instance::{check_name, unpin_link};
pub(crate) use mounts::{cgroup2, probe_bpffs as bpffs};
pub(crate) use object::{Probe, built, chain, minimum_kernel};

/// Where and under which name to steer.
#[derive(Debug, Clone)]
pub struct Options {
    /// Keeps daemons on one kernel apart: two of different names do not meet, one that starts under the name of a dead
    /// one takes over what it left.
    pub instance: String,
    /// The root of the cgroup v2 hierarchy; found by itself if not given.
    pub cgroup: Option<PathBuf>,
    /// The bpf file system; mounted if it is not.
    pub bpffs: PathBuf,
    /// Whether a pod may be in the network namespace of this process: a sidecar's is, a node's never.
    pub own_netns: bool,
    /// Whether pods are fenced.
    pub fence: FenceChoice,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            instance: "default".to_owned(),
            cgroup: None,
            bpffs: "/sys/fs/bpf".into(),
            own_netns: false,
            fence: FenceChoice::default(),
        }
    }
}

/// A [`Redirect`] by eBPF hooks.
///
/// When it and the guards of all its pods are dropped, nothing is left in the kernel; but see
/// [`release_unclaimed`](Redirect::release_unclaimed).
#[derive(Debug)]
pub struct KernelRedirect {
    state: Arc<state::State>,
}

impl KernelRedirect {
    /// Loads and attaches the hooks, or takes over those that a dead process of the same instance left.
    pub fn open(options: Options) -> Result<Self, RedirectError> {
        Ok(Self { state: Arc::new(state::State::open(options)?) })
    }

    /// Pods that a dead process left steered, and that nobody has enrolled again: their connections are refused.
    pub fn unclaimed(&self) -> usize {
        self.state.registry.unclaimed()
    }

    /// Watches single decisions, from now on, until the value is dropped.
    pub fn trace(&self, filter: Filter) -> Result<Trace, RedirectError> {
        trace::subscribe(&self.state, filter)
    }
}

impl Redirect for KernelRedirect {
    fn mechanism(&self) -> Mechanism {
        Mechanism::Kernel
    }

    fn listen_plan(&self) -> ListenPlan {
        delegated::listen_plan()
    }

    fn enrol(&self, pod: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        Ok(Box::new(pod::EnrolledPod::new(&self.state, pod)?))
    }

    fn exempt(&self, socket: BorrowedFd<'_>, client: Option<SocketAddr>) -> Result<(), RedirectError> {
        delegated::exempt(&self.state.tables.sockets, socket, client)
    }

    fn origin(
        &self,
        accepted: BorrowedFd<'_>,
        side: Side,
        accept_addr: SocketAddr,
    ) -> Result<Origin, RedirectError> {
        delegated::origin(&self.state.tables.sockets, accepted, side, accept_addr)
    }

    fn release_unclaimed(&self, spared: Spared<'_>) -> Result<usize, RedirectError> {
        pod::release_unclaimed(&self.state, spared)
    }

    fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        self.state.tables.counters()
    }

    fn fences(&self) -> Result<Vec<FencedPod>, RedirectError> {
        self.state.fences.report(&self.state.registry, self.state.tables.cpus)
    }

    fn gate(&self) -> Option<Gate> {
        self.state.gateways.take()
    }

    fn delegate(&self) -> Result<Delegation, RedirectError> {
        let sockets = self.state.tables.sockets.try_clone();
        sockets.map(Delegation::kernel).map_err(|error| RedirectError::syscall("dup", "the notes", error))
    }
}
