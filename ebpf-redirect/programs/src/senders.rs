//! Whose socket sent a segment. The proxy's sockets and the exceptions are known by socket storage, which no pod can
//! write; a forged segment has another socket, or none.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::generated::{bpf_sk_fullsock, bpf_sk_release, bpf_skc_lookup_tcp},
    programs::TcContext,
};
use ebpf_redirect_abi::{Endpoint, Fence, PortKey, Reason, kind};

use crate::{
    doors::is_door,
    earlier::{is_earlier, remember},
    notes::note,
    packet::{Packet, Tcp},
    shared::port_excluded,
};

/// Whether the socket that sent this segment may send.
#[inline(always)]
pub fn may_send(ctx: &TcContext, fence: &Fence, packet: &Packet, tcp: &Tcp) -> Result<(), Reason> {
    // SAFETY: a field of the context.
    let sk = unsafe { (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile() };
    if sk.is_null() {
        return looked_up(ctx, fence, packet, tcp);
    }
    // SAFETY: fields that every socket has.
    let (state, family) =
        unsafe { ((&raw const (*sk).state).read_volatile(), (&raw const (*sk).family).read_volatile()) };
    if is_mini(state) && (family == AF_INET || family == AF_INET6) {
        return Ok(());
    }
    if let Some(verdict) = marked(sk, packet) {
        return verdict;
    }
    // SAFETY: the helper takes any socket.
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() {
        return Err(Reason::Raw);
    }
    // SAFETY: fields of a full socket.
    let (protocol, kind) = unsafe {
        ((&raw const (*full).protocol).read_volatile(), (&raw const (*full).type_).read_volatile())
    };
    if protocol != IPPROTO_TCP {
        return Err(Reason::Raw);
    }
    match kind {
        SOCK_STREAM if remember(sk, fence.netns, packet) => Ok(()),
        SOCK_STREAM => Err(Reason::NotSteered),
        // Before Linux 6.13 the kernel answers for connections in TIME_WAIT by a raw socket of its own.
        _ if tcp.is_bare_ack() && is_in_time_wait(ctx, fence, packet) => Ok(()),
        _ => Err(Reason::Raw),
    }
}

/// What the socket's marks say of a segment, if it has any.
#[inline(always)]
fn marked(sk: *mut bpf_sock, packet: &Packet) -> Option<Result<(), Reason>> {
    if let Some(note) = note(sk) {
        // SAFETY: the socket's own note.
        match unsafe { (*note).kind } {
            kind::EXEMPT | kind::DELIVERY | kind::EXCEPTED if goes_where_it_was_sent(sk, packet) => {
                return Some(Ok(()));
            }
            kind::EXEMPT | kind::DELIVERY | kind::EXCEPTED => return Some(Err(Reason::Rewritten)),
            kind::EARLIER => return Some(Ok(())),
            _ => {}
        }
    }
    is_door(sk).then_some(Ok(()))
}

/// Whether the segment is for the socket's own peer: rules in the pod's namespace could lead a connection that policy
/// has allowed to another place.
#[inline(always)]
fn goes_where_it_was_sent(sk: *mut bpf_sock, packet: &Packet) -> bool {
    // SAFETY: fields that every socket has; all are read, whatever the family, see `sock_ops`.
    let (port, v4, v6) = unsafe {
        let port = u16::from_be((&raw const (*sk).dst_port).read_volatile());
        let v4 = (&raw const (*sk).dst_ip4).read_volatile();
        let v6 = (&raw const (*sk).dst_ip6).cast::<u32>();
        (
            port,
            v4,
            [
                v6.read_volatile(),
                v6.add(1).read_volatile(),
                v6.add(2).read_volatile(),
                v6.add(3).read_volatile(),
            ],
        )
    };
    let destination = &packet.destination;
    let peer = if destination.is_v4() { Endpoint::v4(v4, port) } else { Endpoint::v6(v6, port) };
    destination.same_ip(&peer) && destination.port == peer.port
}

/// The packet lost its socket (answers by SYN cookie have none; some offloads drop it): the pod's own table of
/// connections says whose it is. Weaker: what is forged on the proxy's live connection passes.
#[inline(always)]
fn looked_up(ctx: &TcContext, fence: &Fence, packet: &Packet, tcp: &Tcp) -> Result<(), Reason> {
    let sk = look_up(ctx, fence, packet);
    if sk.is_null() {
        return Err(Reason::NoSocket);
    }
    // SAFETY: a field that every socket has.
    let state = unsafe { (&raw const (*sk).state).read_volatile() };
    let verdict = match state {
        TCP_TIME_WAIT | TCP_NEW_SYN_RECV => Ok(()),
        // There is no such connection: the look-up ends with the listener that would get it, whatever the port.
        TCP_LISTEN => {
            let excluded = || port_excluded(fence.netns, packet.source.port, PortKey::INBOUND);
            if tcp.is_second() && (is_door(sk) || excluded()) { Ok(()) } else { Err(Reason::NoSocket) }
        }
        _ if is_earlier(fence.netns, packet) => Ok(()),
        _ => marked(sk, packet).unwrap_or(Err(Reason::NotSteered)),
    };
    // SAFETY: the helper gave it, and nobody uses it from here.
    unsafe { bpf_sk_release(sk.cast()) };
    verdict
}

#[inline(always)]
fn is_in_time_wait(ctx: &TcContext, fence: &Fence, packet: &Packet) -> bool {
    let sk = look_up(ctx, fence, packet);
    if sk.is_null() {
        return false;
    }
    // SAFETY: a field that every socket has.
    let state = unsafe { (&raw const (*sk).state).read_volatile() };
    // SAFETY: the helper gave it, and nobody uses it from here.
    unsafe { bpf_sk_release(sk.cast()) };
    state == TCP_TIME_WAIT
}

/// The pod's socket for this connection: it is looked for as if its peer had sent the segment.
#[inline(always)]
fn look_up(ctx: &TcContext, fence: &Fence, packet: &Packet) -> *mut bpf_sock {
    let (own, peer) = (&packet.source, &packet.destination);
    let (sport, dport) = ((peer.port as u16).to_be(), (own.port as u16).to_be());
    let netns = u64::from(fence.netns_id as u32);
    if own.is_v4() {
        let mut tuple = TupleV4 { saddr: peer.ip[3], daddr: own.ip[3], sport, dport };
        let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
        // SAFETY: the tuple has the size that is given.
        unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, size_of::<TupleV4>() as u32, netns, 0) }
    } else {
        let mut tuple = TupleV6 { saddr: peer.ip, daddr: own.ip, sport, dport };
        let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
        // SAFETY: as above.
        unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, size_of::<TupleV6>() as u32, netns, 0) }
    }
}

#[repr(C)]
struct TupleV4 {
    saddr: u32,
    daddr: u32,
    sport: u16,
    dport: u16,
}

#[repr(C)]
struct TupleV6 {
    saddr: [u32; 4],
    daddr: [u32; 4],
    sport: u16,
    dport: u16,
}

/// Whether it is a socket that the kernel made for a handshake, or keeps after the end: neither can send data.
#[inline(always)]
fn is_mini(state: u32) -> bool {
    state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV
}

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const IPPROTO_TCP: u32 = 6;
const SOCK_STREAM: u32 = 1;
const TCP_TIME_WAIT: u32 = 6;
const TCP_LISTEN: u32 = 10;
const TCP_NEW_SYN_RECV: u32 = 12;
