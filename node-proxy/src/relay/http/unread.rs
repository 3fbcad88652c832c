//! The record of a request that could not be read: hyper gave up on its head, or it took too long.
//!
//! Method, authority and path are not known, and are never guessed from the bytes.

use std::time::Duration;

use super::{refusal::Refusal, session::Session};
use crate::{cell::direction, telemetry::Record};

/// Counts the refusal and writes its line. `took` is the time since the head began.
pub(super) fn report(session: &Session, refusal: Refusal, took: Duration) {
    session.cell.ledger.refused(refusal.reason);
    if !session.cell.access_log.is_on() {
        return;
    }
    let permit = session.last_permit();
    session.cell.access_log.write(&Record {
        direction: direction(permit.side),
        protocol: session.protocol.as_str(),
        workload: &permit.tree.workload.pod,
        source: permit.origin.client,
        source_workload: permit.caller.pod.as_ref(),
        destination: permit.origin.destination,
        service: permit.destination.service(),
        destination_workload: None,
        route: None,
        rule: None,
        endpoint: None,
        delivery: None,
        delivery_why: None,
        method: None,
        authority: None,
        path: None,
        status: Some(refusal.status().as_u16()),
        bytes_received: 0,
        bytes_sent: 0,
        duration: took,
        connect: None,
        first_byte: None,
        policy: None,
        reason: Some(refusal.reason),
    });
}
