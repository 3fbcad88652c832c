//! Hook `sock_ops`: carries the note of a connecting socket to the accepting one. Both ends are in the pod's
//! network namespace; the connecting end chooses its port before it sends the SYN, so the note is there
//! before the connection is. Connections that an exception lets go their own way are marked for the fence.
//!
//! Minimum kernel: 5.15 (`bpf_get_netns_cookie` here; socket storage here is of 5.9).

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock,
    },
    helpers::generated::{bpf_get_netns_cookie, bpf_sock_ops_cb_flags_set},
    macros::sock_ops,
    programs::SockOpsContext,
};
use ebpf_redirect_abi::{ANY, Endpoint, Event, FlowKey, Hook, Note, PortKey, kind, network};

use crate::{
    in_flight::{MINUS_ONE, add},
    notes::{note, set_note},
    pods::pod,
    shared::{FLOWS, network, port_excluded, report},
    words::words,
};

#[sock_ops]
fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(&ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(&ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == TCP_CLOSE => closed(&ctx),
        _ => {}
    }
    1
}

/// Sends the note ahead.
#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let Some(noted) = note(socket(ctx)) else { return connecting_alone(ctx) };
    // SAFETY: the socket's own note.
    let mut note = unsafe { *noted };
    if note.kind != kind::STEERED && note.kind != kind::DELIVERY {
        return;
    }
    let netns = netns(ctx);
    let (source, destination) = ends(ctx);
    if note.kind == kind::STEERED {
        // An application that bound its source keeps it; else the kernel chose loopback.
        let known = note.own.ip != ANY;
        note.own =
            if source.is_local() && known { Endpoint { ip: note.own.ip, port: source.port } } else { source };
    }
    let event = match FLOWS.insert(FlowKey { netns, source, destination }, note, 0) {
        Ok(()) => {
            add(netns, note.kind, 1);
            Event::Carried
        }
        Err(_) => {
            if note.kind == kind::STEERED {
                // No hook can end the connection here; the lookup program refuses it, before the SYN finds whoever
                // owns the port it was rewritten to.
                // SAFETY: the socket's own note.
                unsafe { (*noted).kind = kind::LOST };
                add(netns, kind::LOST, 1);
            }
            Event::Lost
        }
    };
    // SAFETY: the context is what the helper wants. Closing removes what nobody took.
    unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, BPF_SOCK_OPS_STATE_CB_FLAG as i32) };
    report(Hook::SockOps, event, netns, source, note.peer);
}

/// Marks a connection that an exception lets go. Here and not in the connect hooks, because this is the socket that
/// sends, which an MPTCP application's own is not.
#[inline(always)]
fn connecting_alone(ctx: &SockOpsContext) {
    let netns = netns(ctx);
    if pod(netns).is_none() {
        return;
    }
    let (_, destination) = ends(ctx);
    if destination.is_local() {
        return;
    }
    if network(netns, destination.ip) == Some(network::EXCLUDED)
        || port_excluded(netns, destination.port, PortKey::OUTBOUND)
    {
        except(ctx, kind::EXCEPTED);
    }
}

/// Without memory for the mark, the fence drops what the connection sends, and counts it.
#[inline(always)]
fn except(ctx: &SockOpsContext, kind: u32) {
    set_note(socket(ctx), Note { kind, ..Note::default() });
}

/// Takes the note.
#[inline(always)]
fn accepted(ctx: &SockOpsContext) {
    let netns = netns(ctx);
    if pod(netns).is_none() {
        return;
    }
    let (destination, source) = ends(ctx);
    let key = FlowKey { netns, source, destination };
    let Some(flow) = FLOWS.get_ptr(key) else {
        if !destination.is_local() && port_excluded(netns, destination.port, PortKey::INBOUND) {
            except(ctx, kind::ADMITTED);
        }
        return;
    };
    // SAFETY: the entry is this connection's alone.
    let mut note = unsafe { *flow };
    let sent = note.kind;
    note.kind = if note.kind == kind::STEERED { kind::ACCEPTED } else { kind::DELIVERED };
    let event = if set_note(socket(ctx), note) { Event::Arrived } else { Event::Lost };
    if FLOWS.remove(key).is_ok() {
        add(netns, sent, MINUS_ONE);
    }
    report(Hook::SockOps, event, netns, source, note.peer);
}

/// Removes the note that nobody took: the connection was refused, reset, or timed out.
#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    let netns = netns(ctx);
    let (source, destination) = ends(ctx);
    let key = FlowKey { netns, source, destination };
    if let Some(flow) = FLOWS.get_ptr(key) {
        // SAFETY: the entry is this connection's alone.
        let sent = unsafe { (*flow).kind };
        if FLOWS.remove(key).is_ok() {
            add(netns, sent, MINUS_ONE);
        }
        return;
    }
    let Some(note) = note(socket(ctx)) else { return };
    // SAFETY: the socket's own note.
    unsafe {
        if (*note).kind == kind::LOST {
            (*note).kind = kind::NONE;
            add(netns, kind::LOST, MINUS_ONE);
        }
    }
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> *mut bpf_sock {
    // SAFETY: a field of the context.
    unsafe { (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile() }
}

#[inline(always)]
fn netns(ctx: &SockOpsContext) -> u64 {
    // SAFETY: the context is what the helper wants.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

/// Our end and the other, v4-mapped where the connection is over IPv4, also on an IPv6 socket. Every field is
/// read, whatever the family: a branch around the reads makes LLVM select an address first, which the
/// verifier refuses (`dereference of modified ctx ptr`).
#[inline(always)]
fn ends(ctx: &SockOpsContext) -> (Endpoint, Endpoint) {
    let ops = ctx.ops;
    // SAFETY: fields of the context.
    unsafe {
        let family = (&raw const (*ops).family).read_volatile();
        let local_port = (&raw const (*ops).local_port).read_volatile() as u16;
        // A whole word in network byte order.
        let remote_port = u32::from_be((&raw const (*ops).remote_port).read_volatile()) as u16;
        let local_v4 = (&raw const (*ops).local_ip4).read_volatile();
        let remote_v4 = (&raw const (*ops).remote_ip4).read_volatile();
        let local_v6 = words((&raw const (*ops).local_ip6).cast());
        let remote_v6 = words((&raw const (*ops).remote_ip6).cast());
        if family == AF_INET || Endpoint::v6(remote_v6, 0).is_v4() {
            (Endpoint::v4(local_v4, local_port), Endpoint::v4(remote_v4, remote_port))
        } else {
            (Endpoint::v6(local_v6, local_port), Endpoint::v6(remote_v6, remote_port))
        }
    }
}

const AF_INET: u32 = 2;
const TCP_CLOSE: u32 = 7;
