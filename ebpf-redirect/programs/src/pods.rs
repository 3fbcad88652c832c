//! The enrolled pods, by network namespace.

use aya_ebpf::{macros::map, maps::HashMap};
use ebpf_redirect_abi::Pod;

/// By the cookie of the network namespace.
#[map]
static PODS: HashMap<u64, Pod> = HashMap::with_max_entries(4096, 1);

/// Connections of one pod that may be in handshake at once. It bounds what one pod can take of the table of
/// flows, which all pods share.
const IN_FLIGHT_MAX: u32 = 8192;

/// The pod of that network namespace.
#[inline(always)]
pub fn pod(netns: u64) -> Option<*mut Pod> {
    PODS.get_ptr_mut(netns)
}

/// Whether the pod may not begin another connection yet.
#[inline(always)]
pub fn is_full(pod: &Pod) -> bool {
    pod.in_flight >= IN_FLIGHT_MAX && pod.in_flight < u32::MAX / 2
}

/// A note has been sent.
#[inline(always)]
pub fn depart(netns: u64) {
    add(netns, 1);
}

/// A note has been taken or removed.
#[inline(always)]
pub fn arrive(netns: u64) {
    add(netns, u32::MAX);
}

#[inline(always)]
fn add(netns: u64, n: u32) {
    if let Some(pod) = pod(netns) {
        // SAFETY: a word of a live entry. Atomic, as both ends may be on different CPUs; it may pass below zero
        // for a moment, which `is_full` knows.
        unsafe {
            core::intrinsics::atomic_xadd::<u32, u32, { core::intrinsics::AtomicOrdering::Relaxed }>(
                &raw mut (*pod).in_flight,
                n,
            )
        };
    }
}
