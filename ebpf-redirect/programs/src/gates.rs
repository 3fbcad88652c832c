//! Whether a tenant, or a pod of it, has as many connections as it may. What is beyond is refused in the call itself, and costs
//! the daemon nothing.
//!
//! Nothing is counted here: a hook sees no end of what came in, nor of the streams of a tunnel. Whoever counts shuts a gate.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};
use ebpf_redirect_abi::{Event, GATES as GATES_LEN, Gate, Gated};

/// Which gates a pod's connections pass, by the cookie of its network namespace.
#[map]
static GATED: HashMap<u64, Gated> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// The gates. User space has them as memory: to shut one is a store there, not a system call.
#[map]
static GATES: Array<Gate> = Array::with_max_entries(GATES_LEN, BPF_F_MMAPABLE);

/// Why a connection of a pod does not pass, if it does not.
#[inline(always)]
pub fn refuses(netns: u64) -> Option<Event> {
    let gated = GATED.get_ptr(netns)?;
    // SAFETY: plain words that outlive the program.
    let (tenant, pod) = unsafe { ((*gated).tenant, (*gated).pod) };
    if is_shut(tenant) {
        Some(Event::RefusedConnections)
    } else if is_shut(pod) {
        Some(Event::RefusedWorkload)
    } else {
        None
    }
}

/// Counts what it keeps out. A plain add: a number that two CPUs count at the same moment may be one too small.
#[inline(always)]
fn is_shut(gate: u32) -> bool {
    let Some(gate) = GATES.get_ptr_mut(gate) else { return false };
    // SAFETY: an element of plain words. User space writes the one that is read, and reads the one that is written.
    unsafe {
        let shut = (&raw const (*gate).shut).read_volatile() != 0;
        if shut {
            (*gate).refused += 1;
        }
        shut
    }
}

const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1024;
