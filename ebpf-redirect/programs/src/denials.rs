//! Who may not connect to a pod, by network and port: the rules of its owner that need no identity, applied to the
//! first segment of a connection.

use aya_ebpf::{
    helpers::generated::bpf_map_lookup_elem,
    macros::map,
    maps::{HashMap, LpmTrie},
};
use ebpf_redirect_abi::{DenialKey, DeniedPort, Fence, TUNNEL_PORT, ports};

use crate::packet::Packet;

/// Which set of ports a network is denied. The longest prefix holds what all around it deny.
#[map]
static DENIALS: LpmTrie<[u32; 7], u32> = LpmTrie::with_max_entries(65_536, 0);

/// The ports of each set.
#[map]
static DENIED_PORTS: HashMap<DeniedPort, u32> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Whether the packet's source is denied its destination. That a port is left alone by its pod's author takes nothing
/// from who denies it; who calls in a tunnel is known inside it only.
#[inline(always)]
pub fn is_denied(fence: &Fence, packet: &Packet) -> bool {
    if fence.denials == 0 || packet.destination.port == u32::from(TUNNEL_PORT) {
        return false;
    }
    let key = DenialKey::new(fence.netns, fence.denials, packet.source.ip, 128);
    let map = core::ptr::from_ref(&DENIALS).cast_mut().cast();
    // SAFETY: map and key are what the helper wants; the value is a plain word that outlives the program.
    let set = unsafe {
        let set = bpf_map_lookup_elem(map, core::ptr::from_ref(&key).cast_mut().cast()).cast::<u32>();
        if set.is_null() {
            return false;
        }
        *set
    };
    let port = packet.destination.port;
    let (netns, generation) = (fence.netns, fence.denials);
    match set {
        ports::ALL => true,
        ports::NONE => false,
        set => DENIED_PORTS.get_ptr(DeniedPort { netns, generation, set, port, unused: 0 }).is_some(),
    }
}

const BPF_F_NO_PREALLOC: u32 = 1;
