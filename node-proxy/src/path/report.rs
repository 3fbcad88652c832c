//! One line of the access log and one count in the ledger for every connection that is opaque or was ended early.
//!
//! Requests report themselves. Nothing here may fail or wait.

use std::net::SocketAddr;

use config::{identity::Identity, name::PodName};
use ebpf_redirect::{Origin, Side};

use super::{End, source};
use crate::{
    capture::{self, Arrival, Captured},
    cell::{Cell, Live, direction},
    telemetry::{Reason, Record},
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
    let endpoint = live.endpoint.get();
    let peer = live.peer.borrow();
    cell.access_log.write(&Record {
        direction: direction(live.side),
        protocol: live.protocol.get().map_or("unknown", |protocol| protocol.as_str()),
        workload: &live.tree.workload.pod,
        source: live.origin.client,
        source_workload: live.source.as_ref(),
        source_principal: live.principal(),
        destination: live.origin.destination,
        service: live.destination.get().and_then(|destination| destination.service()),
        destination_workload: peer.as_ref(),
        destination_principal: live.proven.get().map(AsRef::as_ref),
        route: None,
        rule: None,
        endpoint: endpoint.map(|(address, _)| address),
        delivery: endpoint.map(|(_, choice)| choice.delivery.as_str()),
        delivery_why: endpoint.map(|(_, choice)| choice.why.as_str()),
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
    let principal = principal(captured);
    unserved(
        cell,
        Unserved { side: captured.side, workload, source: source.as_ref(), principal, ends },
        reason,
    );
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

/// Reports a stream of a tunnel that was refused before it became a connection.
pub(super) fn refused_stream(cell: &Cell, tunnel: &Live, reason: Reason) {
    cell.ledger.refused(reason);
    let workload = &tunnel.tree.workload.pod;
    let (source, principal) = (tunnel.source.as_ref(), tunnel.principal());
    unserved(cell, Unserved { side: tunnel.side, workload, source, principal, ends: tunnel.origin }, reason);
}

/// What is known of a connection that no stage saw.
struct Unserved<'a> {
    side: Side,
    workload: &'a PodName,
    source: Option<&'a PodName>,
    principal: Option<&'a Identity>,
    ends: Origin,
}

fn unserved(cell: &Cell, connection: Unserved<'_>, reason: Reason) {
    if !cell.access_log.is_on() {
        return;
    }
    let Unserved { side, workload, source, principal, ends } = connection;
    let ends = (ends.client, ends.destination);
    cell.access_log.write(&Record {
        source_workload: source,
        source_principal: principal,
        ..Record::unserved(direction(side), "unknown", workload, ends, reason)
    });
}
