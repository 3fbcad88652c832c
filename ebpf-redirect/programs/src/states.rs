//! What the kernel sends for a connection in a state, whoever wrote the segment: a pod can rewrite the segments of sockets
//! that are not its own, and can make a connection to itself under anybody's address. A server begins a connection with a
//! request only, so none may pass under the name of a socket that sends none.

use crate::packet::Tcp;

/// Whether it is a socket that the kernel made for a handshake, or keeps after the end.
#[inline(always)]
pub fn is_mini(state: u32) -> bool {
    state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV
}

/// Whether the kernel sends such a segment for one of those: an acknowledgement, and in a handshake the answer.
#[inline(always)]
pub fn can_mini_send(state: u32, tcp: &Tcp) -> bool {
    tcp.is_bare_ack() || (state == TCP_NEW_SYN_RECV && tcp.is_bare_second())
}

/// Whether a listener, or a connection that it accepted, sends such a segment: never a request. Resets are not asked about.
#[inline(always)]
pub fn can_accepted_send(state: u32, tcp: &Tcp) -> bool {
    if state == TCP_LISTEN { can_mini_send(TCP_NEW_SYN_RECV, tcp) } else { !tcp.is_first() }
}

pub const TCP_SYN_SENT: u32 = 2;
const TCP_TIME_WAIT: u32 = 6;
pub const TCP_LISTEN: u32 = 10;
const TCP_NEW_SYN_RECV: u32 = 12;
