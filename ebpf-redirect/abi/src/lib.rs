//! Values that the eBPF programs and user space share: `repr(C)`, without padding, fixed width.
//!
//! A change here, or in the definition of a pinned map, is a change of the layout of what stays pinned: count
//! [`LAYOUT`] up with it. Nothing here may depend on `std` or on a library of either side.
#![no_std]

pub use address::{ANY, Endpoint, MAPPED_WORD, words_of_v4};
pub use event::{COUNTERS, Event, Hook, counter};
pub use fence::{DenialKey, DeniedPort, Fence, FenceCounts, REASONS, Reason, TRACES_PER_SECOND, mode, ports};
pub use gate::{GATES, Gate, Gated};
pub use rate::Rate;

mod address;
mod event;
mod fence;
mod gate;
mod rate;

/// Version of the layout of everything that is pinned; part of every pin path.
pub const LAYOUT: u32 = 5;

/// The loopback port that outbound connections are rewritten to. No listener is bound there: the lookup program
/// assigns the pod's own, and only to connections that the connect hooks have rewritten, so an application
/// may own the port as well.
pub const OUTBOUND_PORT: u16 = 15001;

/// The port of tunnels into a pod. What comes in one is for its own receiver to judge.
pub const TUNNEL_PORT: u16 = 15008;

/// Slots of the map that holds a pod's listeners.
pub mod slot {
    /// Outbound connections over IPv4.
    pub const OUTBOUND_V4: u32 = 0;
    /// Outbound connections over IPv6.
    pub const OUTBOUND_V6: u32 = 1;
    /// Inbound connections over IPv4.
    pub const INBOUND_V4: u32 = 2;
    /// Inbound connections over IPv6.
    pub const INBOUND_V6: u32 = 3;
    /// How many there are.
    pub const COUNT: u32 = 4;
}

/// Why a network is in the table of networks that are left alone.
pub mod network {
    /// It is not, although a wider one around it is.
    pub const NONE: u32 = 0;
    /// It is one of the pod's own addresses.
    pub const OWN: u32 = 1;
    /// The pod's configuration excludes it.
    pub const EXCLUDED: u32 = 2;
}

/// What a [`Note`] on a socket says.
pub mod kind {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// The proxy's own socket: it passes the connect hooks.
    pub const EXEMPT: u32 = 1;
    /// As `EXEMPT`, and the server at the other end is to see `peer` as its client.
    pub const DELIVERY: u32 = 2;
    /// An application's socket whose connect was rewritten; `peer` is where it meant to go.
    pub const STEERED: u32 = 3;
    /// The proxy's accepted end of a steered connection; `peer` is where the client meant to go, `own` the client.
    pub const ACCEPTED: u32 = 4;
    /// The application's accepted end of a delivery; `peer` is the client it shall see.
    pub const DELIVERED: u32 = 5;
    /// An application's socket whose connect was rewritten, but whose note could not be sent ahead: it is refused.
    pub const LOST: u32 = 6;
    /// A connection that an application began and an exception lets go its own way, through the fence as well.
    pub const EXCEPTED: u32 = 7;
    /// An application's connection from before the pod was fenced.
    pub const EARLIER: u32 = 8;
    /// An application's accepted connection that an exception lets come its own way; it answers, and never asks for one.
    pub const ADMITTED: u32 = 9;
}

/// What is remembered of one socket, in its socket storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// One of [`kind`].
    pub kind: u32,
    /// The pod's own end as the application shall see it.
    pub own: Endpoint,
    /// The other end as the application, or the proxy's `accept4`, shall see it.
    pub peer: Endpoint,
}

/// Names a connection inside one network namespace while its two ends find each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Where the connecting end is bound.
    pub source: Endpoint,
    /// Where it connects to.
    pub destination: Endpoint,
}

/// An enrolled pod.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The pod's address, for connections over IPv4 (v4-mapped; all zero if it has none).
    pub own_v4: [u32; 4],
    /// The pod's address, for connections over IPv6 (all zero if it has none).
    pub own_v6: [u32; 4],
    /// The namespace's `tcp_tw_reuse` before enrolment, to restore it; [`TW_REUSE_UNKNOWN`] if it was not changed.
    pub tw_reuse_before: u32,
    /// The pod's own connections whose ends are finding each other.
    pub connects: u32,
    /// Deliveries whose ends are finding each other.
    pub deliveries: u32,
    /// Steered connections whose note could not be sent ahead and that are not closed yet.
    pub lost: u32,
    /// Whether a fence enforces on the pod's links (1), so that what it would drop is refused at once.
    pub fenced: u32,
}

/// The namespace's `tcp_tw_reuse` was left as it was.
pub const TW_REUSE_UNKNOWN: u32 = u32::MAX;

/// Key of the table of networks that are left alone: a prefix of namespace and address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkKey {
    /// Bits that count, of the 64 of the namespace and the 128 of the address.
    pub prefix_len: u32,
    /// Cookie of the network namespace, in two halves so that nothing needs padding.
    pub netns: [u32; 2],
    /// The address, in network byte order.
    pub ip: [u32; 4],
}

impl NetworkKey {
    /// The key for a network of `prefix_len` bits of a (v4-mapped) address.
    #[inline(always)]
    pub const fn new(netns: u64, ip: [u32; 4], prefix_len: u32) -> Self {
        Self { prefix_len: 64 + prefix_len, netns: [netns as u32, (netns >> 32) as u32], ip }
    }
}

/// Key of the table of ports that are left alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortKey {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// The port, in host byte order.
    pub port: u32,
    /// [`PortKey::OUTBOUND`] or [`PortKey::INBOUND`].
    pub side: u32,
}

impl PortKey {
    /// The port is a destination of the pod's connections.
    pub const OUTBOUND: u32 = 0;
    /// The port is one of the pod's own.
    pub const INBOUND: u32 = 1;
}

/// One decision of one hook, written while somebody watches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Nanoseconds since boot.
    pub at: u64,
    /// A [`Hook`], as its number.
    pub hook: u32,
    /// An [`Event`], as its number.
    pub event: u32,
    /// The connecting end; port 0 where it is not chosen yet.
    pub source: Endpoint,
    /// Where it connects to.
    pub destination: Endpoint,
}
