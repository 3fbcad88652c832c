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
    let (workload, origin) = (&permit.tree.workload.pod, permit.origin);
    let (ends, protocol) = ((origin.client, origin.destination), session.protocol.as_str());
    session.cell.access_log.write(&Record {
        source_workload: permit.caller.pod.as_ref(),
        source_principal: permit.caller.identity.as_ref(),
        service: permit.destination.service(),
        status: Some(refusal.status().as_u16()),
        duration: took,
        ..Record::unserved(direction(permit.side), protocol, workload, ends, refusal.reason)
    });
}
