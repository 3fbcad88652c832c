//! Counting what is under way in a pod, and its bounds.

use ebpf_redirect_abi::kind;

use crate::pods::{is_some, pod};

/// Connections of one pod that may be in handshake at once, of its own and deliveries each. It bounds what one pod
/// can take of the table of flows, which all pods share. Two counters: an application that accepts nothing must not
/// keep the pod from connecting.
const IN_FLIGHT_MAX: u32 = 8192;

/// Whether as many are under way as may be.
#[inline(always)]
pub fn is_full(counter: u32) -> bool {
    counter >= IN_FLIGHT_MAX && is_some(counter)
}

/// Counts a note of that kind that has been sent, is lost, or (`n` is minus one) is no longer either.
#[inline(always)]
pub fn add(netns: u64, kind: u32, n: u32) {
    let Some(pod) = pod(netns) else { return };
    // SAFETY: a word of a live entry. Atomic, as both ends may be on different CPUs.
    unsafe {
        let counter = match kind {
            kind::DELIVERY => &raw mut (*pod).deliveries,
            kind::LOST => &raw mut (*pod).lost,
            _ => &raw mut (*pod).connects,
        };
        core::intrinsics::atomic_xadd::<u32, u32, { core::intrinsics::AtomicOrdering::Relaxed }>(counter, n);
    }
}

/// For [`add`].
pub const MINUS_ONE: u32 = u32::MAX;
