//! What the fence on the host's end of a pod's link knows of the pod, and the closed set of reasons it drops for.

use crate::event::Event;

/// What the fence does with a packet that must not pass.
pub mod mode {
    /// It is dropped.
    pub const ENFORCE: u32 = 1;
    /// It passes, and is counted.
    pub const OBSERVE: u32 = 2;
}

/// A fenced link, by the index of the host's end of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// Cookie of the pod's network namespace.
    pub netns: u64,
    /// The pod's address (v4-mapped; all zero if it has none). Any others are in the table of networks.
    pub own_v4: [u32; 4],
    /// The pod's IPv6 address (all zero if it has none).
    pub own_v6: [u32; 4],
    /// The pod's network namespace as the host's names it, for looking up sockets.
    pub netns_id: i32,
    /// One of [`mode`].
    pub mode: u32,
    /// Generation of the pod's rows in the table of denials; 0: there are none.
    pub denials: u32,
    /// Nothing; without it there would be padding.
    pub unused: u32,
}

/// Key of the table of networks that may not connect to a pod: a prefix of namespace, generation and address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DenialKey {
    /// Bits that count, of the 96 of namespace and generation and the 128 of the address.
    pub prefix_len: u32,
    /// Cookie of the pod's network namespace, in two halves so that nothing needs padding.
    pub netns: [u32; 2],
    /// The generation.
    pub generation: u32,
    /// The source's address, in network byte order.
    pub ip: [u32; 4],
}

impl DenialKey {
    /// The key for a network of `prefix_len` bits of a (v4-mapped) address.
    #[inline(always)]
    pub const fn new(netns: u64, generation: u32, ip: [u32; 4], prefix_len: u32) -> Self {
        Self { prefix_len: 96 + prefix_len, netns: [netns as u32, (netns >> 32) as u32], generation, ip }
    }
}

/// A set of ports that a network is denied: the value of the table of denials.
pub mod ports {
    /// Every port.
    pub const ALL: u32 = 0;
    /// None, although a wider network is denied some.
    pub const NONE: u32 = u32::MAX;
}

/// Key of the table of the ports in such a set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeniedPort {
    /// Cookie of the pod's network namespace.
    pub netns: u64,
    /// The generation.
    pub generation: u32,
    /// Which set, from 1.
    pub set: u32,
    /// The pod's port, in host byte order.
    pub port: u32,
    /// Nothing; without it there would be padding.
    pub unused: u32,
}

/// Why the fence drops a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// It does not come from the pod's address; or comes to the pod as if from itself.
    Source = 0,
    /// It is for another address than the pod's.
    Destination = 1,
    /// No socket of TCP sent it: a raw or a packet socket did.
    Raw = 2,
    /// No socket sent it that the pod's namespace knows: it was forwarded, or its connection is gone.
    NoSocket = 3,
    /// A socket sent it that neither the proxy nor an exception accounts for: it was never steered.
    NotSteered = 4,
    /// The pod's own rules turned a connection of the proxy, or an exception, to another destination, or a segment of it into
    /// one that such a socket never sends.
    Rewritten = 5,
    /// It is a fragment that has, or may have, TCP in it.
    Fragment = 6,
    /// It is a reset that carries data.
    ResetPayload = 7,
    /// It is neither IP nor ARP, or has a VLAN's tag.
    EtherType = 8,
    /// Its headers cannot be read, or are too many.
    Header = 9,
    /// It has another packet in it, whose sender cannot be told.
    Encapsulated = 10,
    /// Its source may not connect to that port: a rule of the pod's owner.
    Denied = 11,
}

impl Reason {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Source,
        Self::Destination,
        Self::Raw,
        Self::NoSocket,
        Self::NotSteered,
        Self::Rewritten,
        Self::Fragment,
        Self::ResetPayload,
        Self::EtherType,
        Self::Header,
        Self::Encapsulated,
        Self::Denied,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Raw => "raw",
            Self::NoSocket => "no_socket",
            Self::NotSteered => "not_steered",
            Self::Rewritten => "rewritten",
            Self::Fragment => "fragment",
            Self::ResetPayload => "reset_payload",
            Self::EtherType => "ethertype",
            Self::Header => "header",
            Self::Encapsulated => "encapsulated",
            Self::Denied => "denied",
        }
    }

    /// The event of a packet that was dropped for it, or, where the fence only observes, was not.
    #[inline(always)]
    pub const fn event(self, enforced: bool) -> u32 {
        let first = if enforced { Event::DroppedSource } else { Event::ObservedSource };
        first as u32 + self as u32
    }
}

/// What the fence has counted for one pod on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FenceCounts {
    /// Packets that were dropped, by [`Reason`].
    pub dropped: [u64; REASONS],
    /// Packets that would have been, by [`Reason`].
    pub observed: [u64; REASONS],
    /// Since when traces are counted, in nanoseconds since boot.
    pub traced_since: u64,
    /// How many there were.
    pub traced: u64,
}

impl Default for FenceCounts {
    fn default() -> Self {
        Self { dropped: [0; REASONS], observed: [0; REASONS], traced_since: 0, traced: 0 }
    }
}

/// Room for reasons, and to grow without a change of layout.
pub const REASONS: usize = 16;

/// Drops of one pod that are traced in a second, on one CPU: a flood must not hide everybody else's decisions.
pub const TRACES_PER_SECOND: u64 = 100;
