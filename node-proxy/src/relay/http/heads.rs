//! What becomes of a request's head between two connections, for tests that make heads up. Never part of a daemon.

use http::request::Parts;

use super::{inspect, translate};
use crate::{accept::Protocol, telemetry::Reason};

/// Makes a head one for an endpoint that speaks `to`, or says why it is refused. `sized` where the body has a length.
pub fn relayed(parts: &mut Parts, to: Protocol, sized: bool) -> Result<(), Reason> {
    let shape = inspect::request(parts).map_err(|refusal| refusal.reason)?;
    translate::to_origin_form(parts);
    let upgrade = translate::leave_connection(parts, &shape);
    translate::request(parts, &shape, to, upgrade, sized);
    Ok(())
}
