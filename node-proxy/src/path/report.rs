//! One line of the access log and one count in the ledger for every connection that is opaque or was ended early.
//!
//! Requests report themselves. Nothing here may fail or wait.

use std::net::SocketAddr;

use config::identity::Identity;
use ebpf_redirect::{Origin, Side};
use http::request::Parts;

use super::{End, source};
use crate::{
    capture::{self, Arrival, Captured, Delivered},
    cell::{Cell, Live, direction},
    hbone::fields::{Said, TraceId},
    telemetry::{Reason, Record, access::after_user},
};

/// Reports a connection that went through the stages.
pub(super) fn ended(cell: &Cell, live: &Live, end: End) {
    let reason = match end {
        End::Told => return,
        End::Whole => None,
        End::Because(reason) => Some(reason),
    };
    if let Some(reason) = reason {
        cell.ledger.refused(reason);
    }
    if !cell.access_log.is_on() {
        return;
    }
    let choice = live.course.choice();
    let peer = live.peer.borrow();
    cell.access_log.write(&Record {
        direction: direction(live.side),
        protocol: live.protocol.get().map_or(UNKNOWN, |protocol| protocol.as_str()),
        workload: &live.tree.workload.pod,
        source: live.origin.client,
        source_workload: live.source.as_ref(),
        source_principal: live.principal(),
        destination: live.origin.destination,
        claimed: live.claimed(),
        service: live.service(),
        destination_workload: peer.as_ref(),
        destination_principal: live.proven.get().map(AsRef::as_ref),
        route: None,
        rule: None,
        endpoint: live.endpoint.get(),
        delivery: choice.map(|choice| choice.delivery.as_str()),
        delivery_why: choice.map(|choice| choice.why.as_str()),
        trace: live.course.trace(),
        method: None,
        authority: None,
        path: None,
        status: None,
        bytes_received: live.received.get(),
        bytes_sent: live.sent.get(),
        duration: live.since.elapsed(),
        connect: live.connected_after.get(),
        first_byte: live.first_byte_after.get(),
        reason,
        policy: live.policy.get(),
    });
}

/// Reports a connection that was refused before its first stage. Where it came from and was going is asked only for the
/// log: whoever is refused by the thousand costs no more than the lines.
pub(super) fn refused(cell: &Cell, captured: &Captured, reason: Reason) {
    cell.ledger.refused(reason);
    if !cell.access_log.is_on() {
        return;
    }
    // What the kernel could not say it is not asked again.
    let is_unknown = matches!(reason, Reason::NotSteered | Reason::OriginUnknown);
    let asked = if is_unknown { None } else { capture::origin(&*cell.redirect, captured).ok() };
    let ends = asked.unwrap_or_else(|| of_the_socket(captured));
    let source = source(cell, captured, ends.client);
    let workload = &captured.tree.workload.pod;
    let ends = (ends.client, ends.destination);
    let delivered = delivered(captured);
    let said = delivered.and_then(|delivered| delivered.said.as_deref());
    cell.access_log.write(&Record {
        source_workload: source.as_ref(),
        source_principal: principal(captured),
        claimed: said.map(|said| &said.claimed),
        service: said.and_then(|said| said.service.as_ref()),
        trace: delivered.and_then(|delivered| delivered.trace),
        ..Record::unserved(direction(captured.side), UNKNOWN, workload, ends, reason)
    });
}

/// What the delivery says of a connection, where one brought it.
fn delivered(captured: &Captured) -> Option<&Delivered> {
    match &captured.arrival {
        Arrival::Delivered(delivered) => Some(delivered),
        Arrival::Socket => None,
    }
}

/// As whom the caller of a connection that no stage saw is proven.
fn principal(captured: &Captured) -> Option<&Identity> {
    match (&captured.arrival, captured.side) {
        (Arrival::Delivered(delivered), _) => Some(&delivered.identity),
        (Arrival::Socket, Side::Outbound) => Some(&captured.tree.workload.identity),
        (Arrival::Socket, Side::Inbound) => None,
    }
}

/// The ends of a connection that nobody steered, or of which the kernel knows nothing: those of the socket itself.
fn of_the_socket(captured: &Captured) -> Origin {
    let client: SocketAddr = captured.accept_addr;
    Origin { destination: captured.stream.local_addr().unwrap_or(client), client }
}

/// Reports a request in a tunnel that was refused before it became a connection, with what it asked for.
pub(super) fn refused_stream(cell: &Cell, tunnel: &Live, head: &Parts, reason: Reason) {
    cell.ledger.refused(reason);
    if !cell.access_log.is_on() {
        return;
    }
    let ends = (tunnel.origin.client, tunnel.origin.destination);
    let workload = &tunnel.tree.workload.pod;
    // It leads to no port, so none is known that a Service is answered at.
    let said = Said::of(head, |_, _| None);
    cell.access_log.write(&Record {
        source_workload: tunnel.source.as_ref(),
        source_principal: tunnel.principal(),
        claimed: said.as_ref().map(|said| &said.claimed),
        trace: TraceId::of(&head.headers),
        method: Some(&head.method),
        authority: head.uri.authority().map(|authority| bounded(after_user(authority.as_str()))),
        status: Some(crate::hbone::status(reason).as_u16()),
        ..Record::unserved(direction(tunnel.side), UNKNOWN, workload, ends, reason)
    });
}

/// As much of an authority as a host's name and a port can have.
fn bounded(authority: &str) -> &str {
    &authority[..authority.floor_char_boundary(LONGEST_AUTHORITY)]
}

/// A DNS name of 253 bytes, a colon and a port.
const LONGEST_AUTHORITY: usize = 259;

/// As which protocol a connection is logged of which nobody has said or found out what it carries.
const UNKNOWN: &str = "unknown";
