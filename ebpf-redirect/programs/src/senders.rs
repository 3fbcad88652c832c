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
    states::{TCP_LISTEN, TCP_SYN_SENT, can_accepted_send, can_mini_send, is_mini},
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
        let own = can_mini_send(state, tcp) && goes_where_it_was_sent(sk, packet);
        return own.then_some(()).ok_or(Reason::Rewritten);
    }
    if let Some(verdict) = marked(sk, state, packet, tcp) {
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
        // Before Linux 6.13 the kernel answers for such connections by a raw socket of its own.
        _ if tcp.is_bare_ack() && has_mini(ctx, fence, packet) => Ok(()),
        _ => Err(Reason::Raw),
    }
}

/// What the socket's marks say of a segment, if it has any.
#[inline(always)]
fn marked(sk: *mut bpf_sock, state: u32, packet: &Packet, tcp: &Tcp) -> Option<Result<(), Reason>> {
    // SAFETY: the socket's own note.
    let kind = note(sk).map_or(kind::NONE, |note| unsafe { (*note).kind });
    let may = match kind {
        kind::EXEMPT | kind::DELIVERY | kind::EXCEPTED | kind::EARLIER => state != TCP_LISTEN,
        _ if kind == kind::ADMITTED || is_door(sk) => can_accepted_send(state, tcp),
        _ => return None,
    };
    // A listener answers for connections that it is about to have, and has no peer.
    let own = may && (state == TCP_LISTEN || goes_where_it_was_sent(sk, packet));
    Some(own.then_some(()).ok_or(Reason::Rewritten))
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

/// The packet has no socket (answers by SYN cookie have none; some offloads drop it; nor has what is forwarded): the pod's
/// own table of connections says whose it is. Weaker: what is forged on the proxy's live connection passes, and the pod can
/// put a connection with any peer into that table, so it must at least be nothing that a server would begin one with.
#[inline(always)]
fn looked_up(ctx: &TcContext, fence: &Fence, packet: &Packet, tcp: &Tcp) -> Result<(), Reason> {
    let sk = look_up(ctx, fence, packet);
    if sk.is_null() {
        return Err(Reason::NoSocket);
    }
    // SAFETY: a field that every socket has.
    let state = unsafe { (&raw const (*sk).state).read_volatile() };
    let verdict = match state {
        _ if tcp.is_first() && state != TCP_SYN_SENT => Err(Reason::NoSocket),
        _ if is_mini(state) => can_mini_send(state, tcp).then_some(()).ok_or(Reason::NoSocket),
        // There is no such connection: the look-up ends with the listener that would get it, whatever the port.
        TCP_LISTEN => {
            let excluded = || port_excluded(fence.netns, packet.source.port, PortKey::INBOUND);
            let answer = tcp.is_bare_second() && (is_door(sk) || excluded());
            answer.then_some(()).ok_or(Reason::NoSocket)
        }
        _ if is_earlier(fence.netns, packet) => Ok(()),
        _ => marked(sk, state, packet, tcp).unwrap_or(Err(Reason::NotSteered)),
    };
    // SAFETY: the helper gave it, and nobody uses it from here.
    unsafe { bpf_sk_release(sk.cast()) };
    verdict
}

/// Whether the pod has this connection in handshake, or remembers its end.
#[inline(always)]
fn has_mini(ctx: &TcContext, fence: &Fence, packet: &Packet) -> bool {
    let sk = look_up(ctx, fence, packet);
    if sk.is_null() {
        return false;
    }
    // SAFETY: a field that every socket has.
    let state = unsafe { (&raw const (*sk).state).read_volatile() };
    // SAFETY: the helper gave it, and nobody uses it from here.
    unsafe { bpf_sk_release(sk.cast()) };
    is_mini(state)
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

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const IPPROTO_TCP: u32 = 6;
const SOCK_STREAM: u32 = 1;
