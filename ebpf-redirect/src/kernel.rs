//! Steering by the kernel's eBPF hooks. One object of hooks sits on the cgroup v2 root and knows the enrolled pods by
//! their network namespaces; one small object per pod chooses the listener inside its namespace. All is
//! pinned, so that a pod stays steered (and is refused, rather than let go unproxied) while no daemon runs.
//!
//! This file is the public face and the path of a connection; it must not touch pins or programs itself.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
    path::PathBuf,
    sync::Arc,
};

use ebpf_redirect_abi::{Endpoint, Note, kind};

use crate::{
    Counter, Enrolled, Enrolment, FenceChoice, FencedPod, ListenPlan, Mechanism, Origin, Redirect,
    RedirectError, Side, Spared, canonical,
};

pub use trace::{Decision, Filter, Trace};

pub(crate) mod address;
mod exceptions;
mod fence;
mod hooks;
mod instance;
mod listeners;
mod lookup;
mod mounts;
mod networks;
mod object;
mod pod;
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
        // Any port: the lookup program gives the connections to the socket, whatever it is bound to. On
        // loopback, so that nobody outside the pod can dial the listener itself.
        let v4 = SocketAddr::from(([127, 0, 0, 1], 0));
        let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
        ListenPlan { outbound_v4: v4, outbound_v6: v6, inbound_v4: v4, inbound_v6: v6, transparent: false }
    }

    fn enrol(&self, pod: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError> {
        Ok(Box::new(pod::EnrolledPod::new(&self.state, pod)?))
    }

    fn exempt(&self, socket: BorrowedFd<'_>, client: Option<SocketAddr>) -> Result<(), RedirectError> {
        let note = match client {
            None => Note { kind: kind::EXEMPT, ..Note::default() },
            Some(client) => {
                Note { kind: kind::DELIVERY, own: Endpoint::default(), peer: address::endpoint(client) }
            }
        };
        let sockets = &self.state.tables.sockets;
        sockets.set(&socket.as_raw_fd(), &note).map_err(|e| RedirectError::syscall("exempt", "a socket", e))
    }

    fn origin(
        &self,
        accepted: BorrowedFd<'_>,
        side: Side,
        accept_addr: SocketAddr,
    ) -> Result<Origin, RedirectError> {
        match side {
            Side::Outbound => self.outbound_origin(accepted),
            Side::Inbound => inbound_origin(accepted, accept_addr),
        }
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
}

impl KernelRedirect {
    /// One look at the socket's note: only a steered connection has one.
    fn outbound_origin(&self, accepted: BorrowedFd<'_>) -> Result<Origin, RedirectError> {
        let note = self.state.tables.sockets.get(&accepted.as_raw_fd());
        let note = note.map_err(|error| RedirectError::syscall("origin", "an accepted socket", error))?;
        let note = note.filter(|note| note.kind == kind::ACCEPTED).ok_or(RedirectError::NotSteered)?;
        Ok(Origin { destination: address::socket_addr(&note.peer), client: address::socket_addr(&note.own) })
    }
}

/// The kernel keeps both addresses of a connection that was given to another listener.
fn inbound_origin(accepted: BorrowedFd<'_>, accept_addr: SocketAddr) -> Result<Origin, RedirectError> {
    let destination = rustix::net::getsockname(accepted)
        .map_err(|errno| RedirectError::syscall("getsockname", "an accepted socket", errno.into()))?;
    let destination = SocketAddr::try_from(destination)
        .map_err(|errno| RedirectError::syscall("getsockname", "an accepted socket", errno.into()))?;
    let destination = canonical(destination);
    if destination.ip().is_loopback() {
        // Inbound connections to loopback pass by; this one dialled the listener's own port.
        return Err(RedirectError::NotSteered);
    }
    Ok(Origin { destination, client: canonical(accept_addr) })
}
