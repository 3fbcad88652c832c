//! The fence, as its users see it: whether pods are to be fenced, how each one is, what was dropped and why, and the
//! rules that it takes over from user space. What it does is in the programs and in [`crate::kernel`].

use std::{fmt, sync::Arc};

use ipnet::IpNet;

/// Whether pods are fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FenceChoice {
    /// Where it can be had; where not, a pod runs without, and a warning says so.
    #[default]
    Auto,
    /// A pod that cannot be fenced is not enrolled.
    Required,
    /// As `Auto`, but what would be dropped is only counted.
    Observe,
    /// Not at all.
    Off,
}

/// How a pod is fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FenceState {
    /// What must not pass is dropped.
    Enforcing,
    /// What must not pass is counted.
    Observing,
    /// It should be, and cannot: its interface has no end in the daemon's network namespace, or the kernel cannot.
    Unavailable,
    /// It shall not be.
    Off,
}

impl FenceState {
    /// All.
    pub const ALL: [Self; 4] = [Self::Enforcing, Self::Observing, Self::Unavailable, Self::Off];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforcing => "enforcing",
            Self::Observing => "observing",
            Self::Unavailable => "unavailable",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for FenceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fence of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FencedPod {
    /// `NAMESPACE/NAME`.
    pub pod: Arc<str>,
    /// How it is fenced.
    pub state: FenceState,
    /// What it has counted; reasons without a packet are left out.
    pub packets: Vec<FencedPackets>,
}

/// Packets of one pod that met one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FencedPackets {
    /// For example `not_steered`, `raw`, `source`, `denied`.
    pub reason: &'static str,
    /// How many were dropped.
    pub dropped: u64,
    /// How many would have been, while the fence observed.
    pub observed: u64,
}

/// New connections to a pod that its owner denies, whoever makes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// Where they come from.
    pub cidr: IpNet,
    /// The pod's ports; none means all.
    pub ports: Vec<u16>,
}
