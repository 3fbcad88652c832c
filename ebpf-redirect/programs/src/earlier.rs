//! Connections that the pod's applications had before it was fenced: user space names them once, and with its first
//! segment the socket itself is marked, so that the name cannot be taken over.

use aya_ebpf::{bindings::bpf_sock, macros::map, maps::HashMap};
use ebpf_redirect_abi::{FlowKey, Note, kind};

use crate::{notes::set_note, packet::Packet};

#[map]
static EARLIER: HashMap<FlowKey, u32> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Whether the segment is of such a connection.
#[inline(always)]
pub fn is_earlier(netns: u64, packet: &Packet) -> bool {
    EARLIER.get_ptr(key(netns, packet)).is_some()
}

/// Marks the socket if it has such a connection; says so.
#[inline(always)]
pub fn remember(sk: *mut bpf_sock, netns: u64, packet: &Packet) -> bool {
    if !is_earlier(netns, packet) {
        return false;
    }
    // Where there is no memory for the mark, the name goes on serving.
    if set_note(sk, Note { kind: kind::EARLIER, ..Note::default() }) {
        let _ = EARLIER.remove(key(netns, packet));
    }
    true
}

#[inline(always)]
fn key(netns: u64, packet: &Packet) -> FlowKey {
    FlowKey { netns, source: packet.source, destination: packet.destination }
}

const BPF_F_NO_PREALLOC: u32 = 1;
