//! One request, from its head to the head of its response.
//!
//! Whatever goes wrong becomes an answer with a reason, or, in HTTP/2, the reset that the endpoint sent.

use std::rc::Rc;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;

use super::{
    download::Outgoing,
    exchange::Exchange,
    forward::Call,
    inspect,
    plan::{self, Plan},
    refusal::Refusal,
    session::Session,
    watch::Busy,
};
use crate::{accept::Protocol, route::Decision, telemetry::Reason, upstream::pool::BodyError};

/// A request that no endpoint answered.
#[derive(Debug)]
pub(super) enum Failure {
    /// It is answered here.
    Refused(Refusal),
    /// The endpoint reset the stream: the client sees the same.
    Reset(BodyError),
}

impl<R: Into<Refusal>> From<R> for Failure {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

/// Answers a request.
pub(super) async fn answer(
    session: Rc<Session>,
    request: Request<Incoming>,
    busy: Option<Busy>,
) -> Result<Response<Outgoing>, BodyError> {
    let exchange = Exchange::begin(&session, &request, busy);
    match respond(&session, &exchange, request).await {
        Ok(response) => Ok(response),
        Err(Failure::Refused(refusal)) => {
            // Not the endpoint's doing, whatever it looks like.
            let refusal = exchange.revoked().map_or(refusal, Refusal::from);
            Ok(refused(&session, exchange, refusal))
        }
        Err(Failure::Reset(error)) => {
            exchange.refused(Reason::UpstreamReset);
            exchange.complete();
            Err(error)
        }
    }
}

async fn respond(
    session: &Rc<Session>,
    exchange: &Rc<Exchange>,
    request: Request<Incoming>,
) -> Result<Response<Outgoing>, Failure> {
    let permit = session.permit().map_err(|denied| {
        exchange.denied(&denied);
        denied.reason()
    })?;
    let (parts, body) = request.into_parts();
    if session.protocol == Protocol::Http2 && inspect::is_too_large(&parts, session.cell.limits.head_bytes) {
        return Err(Reason::HeadTooLarge.into());
    }
    let shape = inspect::request(&parts)?;
    exchange.looks_like(&shape);
    let admitted = session.cell.permits.request(exchange.begun());
    exchange.admitted(admitted.or_else(|refused| session.probe().ok_or(refused))?);
    let call = |route| Call { session, exchange, permit: &permit, route, shape };
    match plan::plan(&permit, &parts) {
        Plan::Routed(forward) => call(Some(&forward)).run(parts, body).await,
        Plan::Original => call(None).run(parts, body).await,
        Plan::Decided(decision) => decided(session, exchange, decision),
    }
}

fn decided(
    session: &Session,
    exchange: &Rc<Exchange>,
    decision: Decision<'_>,
) -> Result<Response<Outgoing>, Failure> {
    match decision {
        Decision::Redirect { rule, status, location } => {
            exchange.routed(rule);
            exchange.answered(status);
            let mut response = Response::new(Outgoing::last(Rc::clone(exchange)));
            *response.status_mut() = status;
            response.headers_mut().insert(header::LOCATION, location);
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            say_the_end(session, &mut response);
            Ok(response)
        }
        Decision::InvalidBackend { rule } => {
            exchange.routed(rule);
            Err(Reason::InvalidBackend.into())
        }
        // `plan` has taken the forwards out.
        Decision::NoRoute | Decision::Forward(_) => Err(Reason::NoRoute.into()),
    }
}

fn refused(session: &Session, exchange: Rc<Exchange>, refusal: Refusal) -> Response<Outgoing> {
    exchange.refused(refusal.reason);
    exchange.answered(refusal.status());
    exchange.complete();
    let mut response = refusal.response(exchange.is_grpc()).map(|body| body.of(exchange));
    say_the_end(session, &mut response);
    response
}

/// In what is answered at once: nobody finds the connection busy with it, who would have hyper say so.
fn say_the_end(session: &Session, response: &mut Response<Outgoing>) {
    if session.is_ending() && session.protocol == Protocol::Http1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
