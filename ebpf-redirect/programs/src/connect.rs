//! What both connect hooks decide: whether a connection is steered. The files of the two hooks only read the
//! destination and rewrite it.

use aya_ebpf::{
    EbpfContext as _, bindings::bpf_sock, helpers::generated::bpf_setsockopt, programs::SockAddrContext,
};
use ebpf_redirect_abi::{Endpoint, Event, Hook, Note, Pod, PortKey, kind, network};

use crate::{
    gates, in_flight,
    notes::{clear_note, note, set_note},
    pods::pod,
    rates,
    shared::{count, network, port_excluded, report},
    sock_addr::{netns, protocol, socket},
};

/// What the hook has to do.
pub enum Verdict {
    /// Nothing.
    Pass,
    /// Rewrite the destination.
    Steer,
    /// Let the call fail.
    Refuse,
}

/// Decides, remembers, counts.
#[inline(always)]
pub fn connect(ctx: &SockAddrContext, hook: Hook, destination: Endpoint) -> Verdict {
    let netns = netns(ctx);
    let Some(pod) = pod(netns) else {
        count(hook, Event::PassedNotEnrolled);
        return Verdict::Pass;
    };
    let sk = socket(ctx);
    // SAFETY: the entry of an enrolled pod; its addresses do not change while it is enrolled.
    let pod = unsafe { &*pod };
    let event = match settled(ctx, netns, sk, pod, &destination) {
        Some(event) => event,
        None => steer(ctx, (netns, sk), pod, destination),
    };
    report(hook, event, netns, Endpoint { ip: own(pod, &destination), port: 0 }, destination);
    match event {
        Event::Steered => Verdict::Steer,
        Event::RefusedNoMemory
        | Event::RefusedInFlight
        | Event::RefusedLinkLocal
        | Event::RefusedConnections
        | Event::RefusedWorkload
        | Event::RefusedRate => Verdict::Refuse,
        _ => Verdict::Pass,
    }
}

/// Why the connection is left alone, if it is; or why a delivery is refused.
#[inline(always)]
fn settled(
    ctx: &SockAddrContext,
    netns: u64,
    sk: *mut bpf_sock,
    pod: &Pod,
    destination: &Endpoint,
) -> Option<Event> {
    match protocol(ctx) {
        IPPROTO_TCP | IPPROTO_MPTCP => {}
        _ => return Some(Event::PassedNotTcp),
    }
    if let Some(note) = note(sk) {
        // SAFETY: the socket's own note.
        let kind = unsafe { (*note).kind };
        match kind {
            kind::DELIVERY if in_flight::is_full(pod.deliveries) => return Some(Event::RefusedInFlight),
            kind::EXEMPT | kind::DELIVERY => return Some(Event::PassedExempt),
            _ => {}
        }
        // An earlier connect of this socket: were it to pass now, getpeername would report the old destination.
        clear_note(sk);
    }
    if destination.is_local() {
        return Some(Event::PassedLoopback);
    }
    if destination.is_link_local_v6() {
        // Its own source would be link-local too, and so not the pod's: the fence would drop it without a word.
        return Some(if pod.fenced == 0 { Event::PassedLinkLocal } else { Event::RefusedLinkLocal });
    }
    match network(netns, destination.ip) {
        Some(network::OWN) => return Some(Event::PassedOwnAddress),
        Some(network::EXCLUDED) => return Some(Event::PassedExcludedCidr),
        _ => {}
    }
    port_excluded(netns, destination.port, PortKey::OUTBOUND).then_some(Event::PassedExcludedPort)
}

/// Remembers the destination on the socket.
#[inline(always)]
fn steer(
    ctx: &SockAddrContext,
    (netns, sk): (u64, *mut bpf_sock),
    pod: &Pod,
    destination: Endpoint,
) -> Event {
    if in_flight::is_full(pod.connects) {
        return Event::RefusedInFlight;
    }
    // Before the rate, of which what is refused for another reason costs none.
    if let Some(event) = gates::refuses(netns) {
        return event;
    }
    if rates::is_spent(netns) {
        return Event::RefusedRate;
    }
    let own = Endpoint { ip: own(pod, &destination), port: 0 };
    if !set_note(sk, Note { kind: kind::STEERED, own, peer: destination }) {
        return Event::RefusedNoMemory;
    }
    unbind_from_device(ctx, sk);
    Event::Steered
}

/// The pod's address in the family of the destination.
#[inline(always)]
fn own(pod: &Pod, destination: &Endpoint) -> [u32; 4] {
    if destination.is_v4() { pod.own_v4 } else { pod.own_v6 }
}

/// A socket bound to the pod's interface would send its SYN to a loopback address there, and time out.
#[inline(always)]
fn unbind_from_device(ctx: &SockAddrContext, sk: *mut bpf_sock) {
    // SAFETY: a field of the socket; the helper gets the context and four initialised bytes.
    unsafe {
        if sk.is_null() || (*sk).bound_dev_if == 0 {
            return;
        }
        let mut name = *b"lo\0\0";
        bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_BINDTODEVICE, name.as_mut_ptr().cast(), 4);
    }
}

const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
