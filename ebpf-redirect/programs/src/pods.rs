//! The enrolled pods, by network namespace.

use aya_ebpf::{macros::map, maps::HashMap};
use ebpf_redirect_abi::Pod;

/// By the cookie of the network namespace.
#[map]
static PODS: HashMap<u64, Pod> = HashMap::with_max_entries(4096, 1);

/// The pod of that network namespace.
#[inline(always)]
pub fn pod(netns: u64) -> Option<*mut Pod> {
    PODS.get_ptr_mut(netns)
}

/// Whether any is counted. A counter may pass below zero for a moment: both ends of a connection count.
#[inline(always)]
pub fn is_some(counter: u32) -> bool {
    counter != 0 && counter < u32::MAX / 2
}
