//! The fenced links, by the index of the host's end.

use aya_ebpf::{macros::map, maps::HashMap, programs::TcContext};
use ebpf_redirect_abi::{ANY, Endpoint, Fence, network};

use crate::shared::network;

/// A pod may have several links.
#[map]
static FENCES: HashMap<u32, Fence> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// The fence of the link that this packet is on. There is none for a moment only, before it is taken down.
#[inline(always)]
pub fn fence(ctx: &TcContext) -> Option<&'static Fence> {
    // SAFETY: a field of the context.
    let index = unsafe { (&raw const (*ctx.skb.skb).ifindex).read_volatile() };
    // SAFETY: its fields change one word at a time.
    FENCES.get_ptr(index).map(|fence| unsafe { &*fence })
}

/// Whether the address is the pod's.
#[inline(always)]
pub fn is_own(fence: &Fence, ip: &[u32; 4]) -> bool {
    let other = Endpoint { ip: *ip, port: 0 };
    let known = Endpoint { ip: if other.is_v4() { fence.own_v4 } else { fence.own_v6 }, port: 0 };
    // The unspecified address is nobody's, also where the pod has none of the family.
    *ip != ANY && (other.same_ip(&known) || network(fence.netns, *ip) == Some(network::OWN))
}

const BPF_F_NO_PREALLOC: u32 = 1;
