//! Gates: what whoever counts connections shuts, so that `connect` fails.

/// One gate. It fills a cache line: what one tenant's connects count must not slow down another's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Whether it is shut (1). User space writes it.
    pub shut: u64,
    /// Connects that it has kept out. The connect hooks write it.
    pub refused: u64,
    /// Nothing.
    pub unused: [u64; 6],
}

/// Which gates a pod's connections pass, by their places; at place 0 is one that is never shut.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gated {
    /// Its tenant's.
    pub tenant: u32,
    /// Its own.
    pub pod: u32,
}

/// How many gates there are: for a node's pods and their tenants. Whoever gets none is refused later, by its cell.
pub const GATES: u32 = 2048;
