//! How often each tenant's pods may connect. What is beyond is refused in the call itself, and costs the daemon nothing.
//!
//! Plain loads and stores: two CPUs that count at the same moment may let one more by, which the daemon then counts. A lock
//! would need the kernel's type information, which these programs do without.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, macros::map, maps::HashMap};
use ebpf_redirect_abi::Rate;

/// Whose each pod is, by the cookie of its network namespace: the tenant's number.
#[map]
static TENANTS: HashMap<u64, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// By the tenant's number.
#[map]
static RATES: HashMap<u32, Rate> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Counts one more connection of a pod; whether it is one too many.
#[inline(always)]
pub fn is_spent(netns: u64) -> bool {
    let Some(tenant) = TENANTS.get_ptr(netns) else { return false };
    // SAFETY: a plain word that outlives the program.
    let Some(rate) = RATES.get_ptr_mut(unsafe { *tenant }) else { return false };
    // SAFETY: a live entry of plain words; a helper without arguments.
    unsafe {
        match (*rate).after_one_more(bpf_ktime_get_ns()) {
            Some(due) => {
                (*rate).due = due;
                false
            }
            None => {
                (*rate).refused += 1;
                true
            }
        }
    }
}

const BPF_F_NO_PREALLOC: u32 = 1;
