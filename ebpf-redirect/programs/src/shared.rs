//! The maps that every object shares (by their pins), and the two things every hook does with its decision:
//! count it, and trace it while somebody watches.

use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_ns, bpf_map_lookup_elem},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf},
};
use ebpf_redirect_abi::{
    COUNTERS as COUNTERS_LEN, Decision, Endpoint, Event, FlowKey, Hook, NetworkKey, Note, PortKey, counter,
};

/// Notes on their way from a connecting socket to the accepting one; an entry lives for one handshake. Not an
/// LRU map: one pod's flood must not evict another's handshake (each pod is bounded, see `in_flight`).
#[map]
pub static FLOWS: HashMap<FlowKey, Note> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// Networks that are left alone, and the pods' own addresses.
#[map]
static NETWORKS: LpmTrie<[u32; 6], u32> = LpmTrie::with_max_entries(65_536, 0);

/// Ports that are left alone.
#[map]
static PORTS: HashMap<PortKey, u32> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// One counter per hook and event. Plain adds: a softirq between load and store can lose one, which is
/// cheaper than an atomic on every connection.
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_LEN, 0);

/// Whether somebody watches.
#[map]
static WATCHED: Array<u32> = Array::with_max_entries(1, 0);

/// What they see.
#[map]
static TRACE: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

const BPF_F_NO_PREALLOC: u32 = 1;

/// Why the pod leaves that address alone; one of `abi::network`.
#[inline(always)]
pub fn network(netns: u64, ip: [u32; 4]) -> Option<u32> {
    let key = NetworkKey::new(netns, ip, 128);
    // The map type's own `get` takes a packed key, which costs a byte-wise copy of 24 bytes.
    let map = core::ptr::from_ref(&NETWORKS).cast_mut().cast();
    // SAFETY: map and key are what the helper wants; the value is a plain word that outlives the program.
    unsafe {
        let value = bpf_map_lookup_elem(map, core::ptr::from_ref(&key).cast_mut().cast()).cast::<u32>();
        if value.is_null() { None } else { Some(*value) }
    }
}

/// Whether the pod leaves that port alone.
#[inline(always)]
pub fn port_excluded(netns: u64, port: u32, side: u32) -> bool {
    PORTS.get_ptr(PortKey { netns, port, side }).is_some()
}

/// Counts a decision.
#[inline(always)]
pub fn count(hook: Hook, event: Event) {
    count_number(hook, event as u32);
}

/// Counts the decision of that number.
#[inline(always)]
pub fn count_number(hook: Hook, event: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter(hook, event)) {
        // SAFETY: a slot of this CPU.
        unsafe { *counter += 1 }
    }
}

/// Counts a decision, and tells who watches.
#[inline(always)]
pub fn report(hook: Hook, event: Event, netns: u64, source: Endpoint, destination: Endpoint) {
    count(hook, event);
    if is_watched() {
        trace(hook, event as u32, netns, source, destination);
    }
}

/// Whether somebody watches.
#[inline(always)]
pub fn is_watched() -> bool {
    WATCHED.get(0).is_some_and(|watched| *watched != 0)
}

/// Tells who watches.
#[inline(always)]
pub fn trace(hook: Hook, event: u32, netns: u64, source: Endpoint, destination: Endpoint) {
    let Some(mut entry) = TRACE.reserve::<Decision>(0) else {
        count(hook, Event::TraceLost);
        return;
    };
    // SAFETY: a helper without arguments.
    let at = unsafe { bpf_ktime_get_ns() };
    entry.write(Decision { netns, at, hook: hook as u32, event, source, destination });
    entry.submit(0);
}
