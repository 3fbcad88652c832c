//! What becomes of a packet that must not pass: dropped, or, where the fence only observes, let go; counted by pod and
//! reason; and traced, but never so often that it hides everybody else's decisions.

use aya_ebpf::{
    bindings::tcx_action_base::{TCX_DROP, TCX_NEXT},
    helpers::generated::bpf_ktime_get_ns,
    macros::map,
    maps::PerCpuHashMap,
};
use ebpf_redirect_abi::{
    Endpoint, Event, Fence, FenceCounts, Hook, REASONS, Reason, TRACES_PER_SECOND, mode,
};

use crate::shared::{count, count_number, is_watched, trace};

/// On to the next program: the network's own have their say as well.
pub const PASS: i32 = TCX_NEXT;

/// By the cookie of the pod's network namespace; user space makes the rows.
#[map]
static FENCE_COUNTS: PerCpuHashMap<u64, FenceCounts> =
    PerCpuHashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Drops the packet for that reason, or says that it would have.
#[inline(always)]
pub fn judge(fence: &Fence, hook: Hook, reason: Reason, source: Endpoint, destination: Endpoint) -> i32 {
    let enforced = fence.mode == mode::ENFORCE;
    let event = reason.event(enforced);
    count_number(hook, event);
    let counts = FENCE_COUNTS.get_ptr_mut(fence.netns);
    if let Some(counts) = counts {
        let slot = reason as usize & (REASONS - 1);
        // SAFETY: the row of this CPU.
        unsafe {
            let row = if enforced { &raw mut (*counts).dropped } else { &raw mut (*counts).observed };
            *row.cast::<u64>().add(slot) += 1;
        }
    }
    if is_watched() {
        match counts {
            Some(counts) if may_trace(counts) => trace(hook, event, fence.netns, source, destination),
            _ => count(hook, Event::TraceLost),
        }
    }
    if enforced { TCX_DROP } else { PASS }
}

/// Whether another drop of the pod may be traced in this second.
#[inline(always)]
fn may_trace(counts: *mut FenceCounts) -> bool {
    // SAFETY: the row of this CPU; a helper without arguments.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now - (*counts).traced_since >= SECOND {
            (*counts).traced_since = now;
            (*counts).traced = 0;
        }
        (*counts).traced += 1;
        (*counts).traced <= TRACES_PER_SECOND
    }
}

const SECOND: u64 = 1_000_000_000;
const BPF_F_NO_PREALLOC: u32 = 1;
