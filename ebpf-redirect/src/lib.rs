//! Steering: how a pod's TCP connections come to the node proxy, and how the proxy's own pass by.
//!
//! One trait, [`Redirect`], with implementations for the kernel's eBPF hooks ([`kernel`]), for iptables, and a
//! fake for unit tests ([`fake`]). [`probe`] says what this machine allows. This crate decides nothing about a
//! connection; it must never terminate or relay one.
//!
//! # What a caller has to do
//! **Listeners.** Create them on a thread that is inside the pod's network namespace, bind them where
//! [`Redirect::listen_plan`] says (port 0: any will do), with
//! - `SO_REUSEADDR`, always: steered connections hold the pod's own ports, and without it an application that
//!   restarts gets `EADDRINUSE` (one that does not set it itself still may, while such connections live);
//! - `IPV6_V6ONLY` on the IPv6 ones; steered IPv4 connections, v4-mapped ones too, come to the IPv4 ones;
//! - no `TCP_FASTOPEN`, which would accept data before the original destination is known;
//! - no `SO_REUSEPORT`: the kernel gives all connections to the listener that was enrolled, and none to its group;
//! - `listen` before [`Redirect::enrol`], with a backlog for bursts (4096).
//!
//! **Replacing them.** [`Enrolled::replace_listeners`] moves new connections in one step. The old listeners' queues still
//! hold connections: accept them all (until `EAGAIN`) before closing, or they are reset.
//!
//! **Ending.** [`Enrolled::release`] hands new connections back to the pod at once. Connections that live go on for as long as
//! what it returns is held. [`Enrolled::leave`] leaves the pod refused beyond the life of the process.
//!
//! **Accepted connections.** Pass what `accept4` returned to [`Redirect::origin`] at once. `NotSteered` means that
//! somebody in the pod dialled the listener itself: close it.
//!
//! **Beginning.** [`remains::Remains`] holds the daemon's name and clears what a dead one of that name left by another mechanism, or
//! in another layout of pins; what is left by the mechanism that is opened, it takes over itself.
//!
//! **The proxy's own connections** are made on sockets that were created inside the pod's namespace and given to
//! [`Redirect::exempt`] before `connect`. Deliver to the pod's own address (never to loopback) and in the client's
//! family: an IPv6 client cannot be shown to an IPv4 server, which then sees the pod's address. A `client` is for
//! deliveries to the pod itself only. Sockets in the daemon's own namespace need no exemption.
//!
//! # What applications notice
//! `getpeername` and `getsockname` tell the truth. A captured `connect` succeeds as soon as the proxy accepts,
//! before the destination is reached (so a dual-stack client takes its first address). A socket bound to an interface is
//! moved to `lo`. An MPTCP application's own `getpeername` shows loopback. UDP, loopback and (without a fence) IPv6
//! link-local destinations are left alone. Where a pod is fenced ([`FenceChoice`]), TCP from raw and packet sockets is
//! dropped, and connecting to a link-local address fails with `EPERM`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
};

use ipnet::IpNet;

pub use address::canonical;
pub use delegation::Delegation;
pub use ebpf_redirect_abi::TUNNEL_PORT;
pub use error::RedirectError;
pub use fence::{Denial, FenceChoice, FenceState, FencedPackets, FencedPod};
pub use gate::Gate;

mod address;
pub mod delegation;
mod error;
pub mod fake;
mod fence;
mod gate;
pub mod iptables;
pub mod kernel;
mod lock;
mod netlink;
mod netns;
pub mod nftables;
pub mod probe;
pub mod remains;
mod sys;

/// A way of steering. Shared by all cells; every method may be called from any thread and takes no lock on
/// the path of a connection.
pub trait Redirect: Send + Sync + fmt::Debug {
    /// Which mechanism this is, for logs and `canopy check`.
    fn mechanism(&self) -> Mechanism;

    /// Where the listeners of an enrolled pod have to be bound, inside the pod's network namespace.
    fn listen_plan(&self) -> ListenPlan;

    /// Starts steering a pod's connections to its listeners. [Releasing](Enrolled::release) the guard stops it.
    ///
    /// The listeners stay the caller's; the implementation keeps no descriptor of them open.
    fn enrol(&self, pod: &Enrolment<'_>) -> Result<Box<dyn Enrolled>, RedirectError>;

    /// Marks a socket of the proxy, before `connect`, so that it is not steered again; and, where `client` is
    /// given, makes the server at the other end see that address as its peer's.
    fn exempt(&self, socket: BorrowedFd<'_>, client: Option<SocketAddr>) -> Result<(), RedirectError>;

    /// Where an accepted connection was going and where it came from. `accept_addr` is what `accept4` returned.
    fn origin(
        &self,
        accepted: BorrowedFd<'_>,
        side: Side,
        accept_addr: SocketAddr,
    ) -> Result<Origin, RedirectError>;

    /// Lets those pods go that a process which has ended left, or that [were left](Enrolled::leave) since, and that nobody has
    /// enrolled again; returns how many. Those to spare stay refused, until they are enrolled or a later call does not spare
    /// them. To be called once the first configuration is complete, and whenever it has changed; until the first call, what
    /// was found outlives also this value and the guards: a start that fails lets no pod go.
    fn release_unclaimed(&self, spared: Spared<'_>) -> Result<usize, RedirectError>;

    /// What the hooks have counted since they were attached, for metrics and `canopy check`.
    fn counters(&self) -> Result<Vec<Counter>, RedirectError>;

    /// What another process needs to carry connections: [`exempt`](Self::exempt) and [`origin`](Self::origin), for its own
    /// sockets, and nothing else.
    fn delegate(&self) -> Result<Delegation, RedirectError> {
        Err(RedirectError::CannotDelegate { mechanism: self.mechanism() })
    }

    /// A gate for one more tenant or pod; `None` where this mechanism has none, or none left.
    fn gate(&self) -> Option<Gate> {
        None
    }

    /// How every enrolled pod is fenced, and what its fence has counted. Mechanisms without a fence have nothing to say.
    fn fences(&self) -> Result<Vec<FencedPod>, RedirectError> {
        Ok(Vec::new())
    }
}

/// Keeps one pod steered. Dropping it detaches everything that is the pod's own, at once: connections between the proxy and
/// the pod's app may be cut. [`release`](Self::release) spares them.
pub trait Enrolled: Send + fmt::Debug {
    /// Stops steering: from now on connections begin as if there were no proxy, also where the rest of the pod's steering
    /// could not be taken down. What is returned, if anything is needed, keeps those that live going.
    fn release(self: Box<Self>) -> Option<Box<dyn WayBack>>;

    /// Leaves the pod as it says, until it is enrolled again, by this process or by the next of the instance, or until
    /// [`Redirect::release_unclaimed`] or [`remains::Remains::release`] lets it go. Connections that live go on; new ones are refused from now on, but for what
    /// waits in the listeners already.
    fn leave(self: Box<Self>, parting: Parting);

    /// Sends new connections to other listeners, in one step: none is lost or refused meanwhile.
    fn replace_listeners(&mut self, listeners: &Listeners<'_>) -> Result<(), RedirectError>;

    /// Leaves other connections alone than before, in place of those; whatever is neither in the old nor in the new list stays
    /// steered meanwhile. `listeners` are those of now.
    fn set_exclusions(
        &mut self,
        exclusions: &Exclusions,
        listeners: &Listeners<'_>,
    ) -> Result<(), RedirectError>;

    /// Drops new connections of these sources before the pod's TCP sees them, in the place of the denials that were set
    /// before; says whether there is a fence that does. It is an early refusal only: policy must refuse them as well
    /// (a delivery on the same node, or inside a tunnel, does not cross the fence). An error, such as too many, leaves the
    /// former ones in force. `spared` are addresses that no denial is about, such as the node's own, whose probes policy
    /// lets pass; nor is any about [`TUNNEL_PORT`], where many callers come from one address.
    fn set_denials(&mut self, denials: &[Denial], spared: &[IpAddr]) -> Result<bool, RedirectError> {
        let _ = (denials, spared);
        Ok(false)
    }

    /// Has the pod's own `connect` fail where all pods of its tenant together connect more often than so many times a second, and as
    /// many at once as were left unused in the last one; says whether this mechanism can. It is an early refusal only: whoever
    /// counts connections must refuse them as well. A tenant goes by a number, which is nobody else's as long as one of its pods is
    /// enrolled; a call for one of its pods is for all.
    fn set_connect_rate(&mut self, tenant: u32, per_second: Option<u64>) -> Result<bool, RedirectError> {
        let _ = (tenant, per_second);
        Ok(false)
    }

    /// Has the pod's own `connect` fail while one of these gates is shut: its tenant's, and its own. Without, it passes none.
    /// An early refusal only, as that for a rate: what comes to the pod, and what is begun before a gate is shut, is not kept out.
    fn set_gates(&mut self, gates: Option<(Gate, Gate)>) -> Result<(), RedirectError> {
        let _ = gates;
        Ok(())
    }

    /// How often a rate has made connects fail of its tenant's pods, all together, since one of them was told of the rate first.
    fn connects_refused(&self) -> Result<u64, RedirectError> {
        Ok(0)
    }
}

/// Pods that are to stay refused although nobody has enrolled them.
#[derive(Debug, Clone, Copy)]
pub enum Spared<'a> {
    /// Those in these network namespaces.
    These(&'a [BorrowedFd<'a>]),
    /// All: who they are is not known.
    All,
}

impl Spared<'static> {
    /// Nobody.
    pub const NOBODY: Self = Self::These(&[]);
}

/// How a pod is left whose daemon ends, or that is about to be enrolled anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// Nothing begins, in or out, but what is excluded.
    Closed,
    /// What the pod begins passes by, as if there were no proxy; what is begun with it is refused.
    OutboundOpen,
}

/// The way that packets of live connections take between a pod's app and the proxy, where it has to be kept for them. To be
/// held until the last of them has ended; dropping it takes the way away, on the calling thread, which waits.
pub trait WayBack: Send + fmt::Debug {}

/// The mechanism behind a [`Redirect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// eBPF hooks.
    Kernel,
    /// iptables rules in the pod's network namespace.
    Iptables,
    /// nftables rules in the proxy's own network namespace, which is its pod's.
    Nftables,
    /// Nothing is steered; for unit tests.
    Fake,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "ebpf",
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Fake => "fake",
        })
    }
}

/// Which way a captured connection goes, as seen from its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// From the pod.
    Outbound,
    /// To the pod.
    Inbound,
}

/// Addresses to bind the four listeners of a pod to. Port 0 where any will do. An IPv6 address is left out
/// by the caller where the pod has no IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenPlan {
    /// For outbound connections over IPv4.
    pub outbound_v4: SocketAddr,
    /// For outbound connections over IPv6.
    pub outbound_v6: SocketAddr,
    /// For inbound connections over IPv4.
    pub inbound_v4: SocketAddr,
    /// For inbound connections over IPv6.
    pub inbound_v6: SocketAddr,
    /// Whether the listeners need `IP_TRANSPARENT`.
    pub transparent: bool,
}

/// The listening sockets of one pod, all in its network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Listeners<'a> {
    /// For outbound connections over IPv4.
    pub outbound_v4: Option<BorrowedFd<'a>>,
    /// For outbound connections over IPv6.
    pub outbound_v6: Option<BorrowedFd<'a>>,
    /// For inbound connections over IPv4.
    pub inbound_v4: Option<BorrowedFd<'a>>,
    /// For inbound connections over IPv6.
    pub inbound_v6: Option<BorrowedFd<'a>>,
}

/// What is needed to steer a pod.
#[derive(Debug, Clone, Copy)]
pub struct Enrolment<'a> {
    /// `NAMESPACE/NAME`, for messages.
    pub pod: &'a str,
    /// The pod's network namespace.
    pub netns: BorrowedFd<'a>,
    /// The pod's own addresses.
    pub addresses: &'a [IpAddr],
    /// Where its connections go.
    pub listeners: Listeners<'a>,
    /// What is left alone.
    pub exclusions: &'a Exclusions,
}

/// What is left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions {
    /// Destination ports of outbound connections.
    pub outbound_ports: Vec<u16>,
    /// Destination networks of outbound connections.
    pub outbound_cidrs: Vec<IpNet>,
    /// Local ports of inbound connections.
    pub inbound_ports: Vec<u16>,
}

/// The true ends of a captured connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Where the client meant to connect to.
    pub destination: SocketAddr,
    /// The client's address as its own kernel knows it.
    pub client: SocketAddr,
}

/// One number that a hook counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The hook, for example `connect4`.
    pub hook: &'static str,
    /// What happened, for example `steered`, `passed_loopback`, `refused_no_listener`.
    pub event: &'static str,
    /// How often.
    pub count: u64,
}
