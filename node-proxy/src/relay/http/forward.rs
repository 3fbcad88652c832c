//! A request on its way to an endpoint: which connection, when it may be tried again, how long it may take.
//!
//! Tried again, on another endpoint, where no connection could be made; on a fresh connection of the same endpoint, where a
//! kept one turned out to be closed and the request cannot have been acted on. Never otherwise.

use std::{rc::Rc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, request::Parts, response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::{
    answer::Failure,
    deadline::Deadline,
    download::{Download, Outgoing},
    exchange::Exchange,
    expect::{Gate, Opener},
    inspect::Shape,
    mirror::{self, Copies},
    plan::Target,
    session::Session,
    translate,
    tunnel::Tunnel,
    upload::Counted,
};
use crate::{
    accept::Protocol,
    policy::Permit,
    route::{Forward, edits},
    snapshot::Destination,
    stream::told,
    telemetry::Reason,
    tenancy::Brake,
    upstream::{
        UpstreamError,
        connect::{Connected, Peer},
        course::Course,
        pool::{Lease, Unanswered, Upload},
    },
};

/// A request that is to be sent on.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) session: &'a Rc<Session>,
    pub(super) exchange: &'a Rc<Exchange>,
    pub(super) permit: &'a Permit,
    /// `None`: to the address the client connected to.
    pub(super) route: Option<&'a Forward<'a>>,
    pub(super) shape: Shape,
}

/// A response's head, and what its body comes from.
struct Answered {
    response: Response<Incoming>,
    lease: Lease,
    target: Target,
}

impl Call<'_> {
    /// Sends a request on and makes the client's response of the endpoint's.
    pub(super) async fn run(self, mut parts: Parts, body: Incoming) -> Result<Response<Outgoing>, Failure> {
        let deadline = self.deadline();
        let mut copies = Copies::default();
        translate::name_host(&mut parts, self.permit.origin.destination);
        if !matches!(self.permit.destination, Destination::Outside) {
            translate::to_origin_form(&mut parts);
        }
        let upgrade = translate::leave_connection(&mut parts, &self.shape);
        if let Some(route) = self.route {
            if let Some(rule) = route.rule {
                self.exchange.routed(rule);
            }
            copies = mirror::start(self.session, self.permit, route, &parts, &self.shape);
            edit_request(route, &mut parts);
        }
        let (upload, opener) = self.upload(body, copies);
        let attempt = self.attempt(parts, upgrade, upload, opener);
        let answered = match deadline {
            None => attempt.await?,
            Some((at, reason)) => timeout_at(at, attempt).await.map_err(|_| reason)??,
        };
        self.finish(answered, deadline)
    }

    /// The earlier of the rule's two time-outs.
    fn deadline(&self) -> Option<(Instant, Reason)> {
        let rule = self.route?.rule?;
        let begun = self.exchange.begun();
        let request = rule.request_timeout.map(|after| (begun + after, Reason::RequestTimeout));
        let backend = rule.backend_timeout.map(|after| (Instant::now() + after, Reason::BackendTimeout));
        match (request, backend) {
            (Some(request), Some(backend)) => Some(if backend.0 < request.0 { backend } else { request }),
            (request, backend) => request.or(backend),
        }
    }

    fn upload(&self, body: Incoming, mut copies: Copies) -> (Upload, Option<Opener>) {
        if body.is_end_stream() {
            copies.end();
            return (Upload::Empty, None);
        }
        let (gate, opener) = if self.shape.expects { Some(Gate::closed()).unzip() } else { (None, None) };
        let exchange = Rc::clone(self.exchange);
        (Counted { body, exchange, gate, copies, brake: Brake::default() }.upload(), opener)
    }

    async fn attempt(
        &self,
        mut parts: Parts,
        upgrade: Option<HeaderValue>,
        body: Upload,
        opener: Option<Opener>,
    ) -> Result<Answered, Failure> {
        let (target, lease) = self.reach().await?;
        let sized = body.size_hint().exact().is_some();
        translate::request(&mut parts, &self.shape, target.protocol, upgrade, sized);
        parts.extensions.clear();
        let mut request = Request::from_parts(parts, body);
        if let Some(opener) = opener {
            opener.watch(&mut request);
        }
        self.send(target, lease, request).await
    }

    /// An endpoint and a connection to it.
    async fn reach(&self) -> Result<(Target, Lease), Failure> {
        let mut tried = Vec::new();
        for last in [false, false, true] {
            let target = match self.route {
                Some(route) => Target::of(self.session, route.cluster, &tried)?,
                None => Target::original(self.session),
            };
            self.exchange.chose(&target.endpoint);
            let error = match lease(self.session, self.permit, &target, self.exchange.course()).await {
                Ok((lease, took)) => {
                    self.exchange.connected(&lease, took);
                    return Ok((target, lease));
                }
                Err(error) => error,
            };
            if error.is_denial() {
                if let UpstreamError::Denied(denied) = &error {
                    self.exchange.denied(denied);
                }
                return Err(error.reason().into());
            }
            if error.blames_endpoint() {
                target.failed();
            }
            let alternatives = self.route.is_some_and(|route| route.cluster.endpoints.len() > 1);
            if last || !alternatives {
                return Err(error.reason().into());
            }
            tried.push(target.endpoint.address);
        }
        Err(Reason::ConnectFailed.into())
    }

    async fn send(
        &self,
        target: Target,
        lease: Lease,
        request: Request<Upload>,
    ) -> Result<Answered, Failure> {
        // Most requests are not copied: a connection that was in use a moment ago is not about to be closed as idle.
        let repeatable = lease.is_stale() && request.body().is_empty() && request.method().is_idempotent();
        let spare = repeatable.then(|| copy(&request));
        let (target, unanswered) = match try_once(target, lease, request).await {
            Ok(answered) => return Ok(answered),
            Err(unanswered) => unanswered,
        };
        let Unanswered { source, unsent, mute } = unanswered;
        let raced = !source.is_parse() && !source.is_user() && !source.is_timeout();
        let Some(again) = unsent.map(|request| *request).or(spare.filter(|_| raced)) else {
            return Err(self.broken(&target, source, mute));
        };
        let lease = self.fresh(&target).await?;
        let tried = try_once(target, lease, again).await;
        tried.map_err(|(target, unanswered)| self.broken(&target, unanswered.source, unanswered.mute))
    }

    /// A connection that cannot be closed already. HTTP/2 tells when it is; HTTP/1.1 has to be new.
    async fn fresh(&self, target: &Target) -> Result<Lease, Failure> {
        let (session, permit, peer) = (self.session, self.permit, target.peer(self.exchange.course()));
        let bucket = session.bucket(permit, peer, target.protocol);
        let bucket = bucket.map_err(|error| Failure::from(error.reason()))?;
        let begun = Instant::now();
        let leased = match target.protocol {
            Protocol::Http2 => bucket.lease(|| connect(session, permit, peer)).await,
            Protocol::Http1 | Protocol::Tcp | Protocol::Hbone => {
                bucket.renew(|| connect(session, permit, peer)).await
            }
        };
        let leased = leased.inspect(|lease| self.exchange.connected(lease, begun.elapsed()));
        leased.map_err(|error| {
            match &error {
                UpstreamError::Denied(denied) => self.exchange.denied(denied),
                error if error.blames_endpoint() => target.failed(),
                _ => {}
            }
            error.reason().into()
        })
    }

    /// What the client is told when a connection broke off; `mute`, before the endpoint had said a word of its protocol.
    fn broken(&self, target: &Target, error: hyper::Error, mute: bool) -> Failure {
        if error.is_user() {
            // The request's body ended before its end. Where the client has gone, nobody is there to be told.
            return if is_malformed(&error) { Reason::ProtocolError } else { Reason::ClientClosed }.into();
        }
        if let Some(reason) = told(&error) {
            return reason.into();
        }
        if error.is_parse() || mute {
            target.failed();
            return Reason::UpstreamProtocol.into();
        }
        if self.session.protocol == Protocol::Http2 && was_reset(&error) {
            return Failure::Reset(error.into());
        }
        target.failed();
        Reason::UpstreamReset.into()
    }

    fn finish(
        &self,
        answered: Answered,
        deadline: Option<(Instant, Reason)>,
    ) -> Result<Response<Outgoing>, Failure> {
        let Answered { response, lease, target } = answered;
        let (mut parts, body) = response.into_parts();
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        translate::response(&mut parts, self.session.protocol).inspect_err(|_| target.failed())?;
        if let Some(route) = self.route {
            edit_response(route, &mut parts);
        }
        self.exchange.answered(parts.status);
        let exchange = Rc::clone(self.exchange);
        if switches {
            let (true, Lease::Http1(lease)) = (self.shape.upgrade, lease) else {
                return Err(Reason::UpstreamProtocol.into());
            };
            self.session.tunnel.replace(Some(Tunnel { lease, target, exchange }));
            return Ok(Response::from_parts(parts, Outgoing::empty()));
        }
        let deadline = deadline.map(|(at, reason)| Deadline::begin(self.session, at, reason));
        let download = Download { body, lease, target, deadline };
        Ok(Response::from_parts(parts, Outgoing::download(download, exchange)))
    }
}

fn edit_request(route: &Forward<'_>, parts: &mut Parts) {
    if let Some(rule) = route.rule {
        edits::apply_request(&rule.edits, parts, route.matched_prefix);
    }
    if let Some(edits) = route.backend_edits {
        edits::apply_request(edits, parts, route.matched_prefix);
    }
}

fn edit_response(route: &Forward<'_>, parts: &mut response::Parts) {
    if let Some(rule) = route.rule {
        edits::apply_response(&rule.edits, &mut parts.headers);
    }
    if let Some(edits) = route.backend_edits {
        edits::apply_response(edits, &mut parts.headers);
    }
}

async fn try_once(
    target: Target,
    mut lease: Lease,
    request: Request<Upload>,
) -> Result<Answered, (Target, Unanswered)> {
    let since = Instant::now();
    match lease.send(request).await {
        Ok(response) => {
            if let Some(picked) = &target.picked {
                picked.succeeded(since.elapsed());
            }
            Ok(Answered { response, lease, target })
        }
        Err(unanswered) => Err((target, unanswered)),
    }
}

/// A connection to a target, kept or new, and how long it took to be made.
pub(super) async fn lease(
    session: &Session,
    permit: &Permit,
    target: &Target,
    course: &Course,
) -> Result<(Lease, Duration), UpstreamError> {
    let peer = target.peer(course);
    let bucket = session.bucket(permit, peer, target.protocol)?;
    if let Some(lease) = bucket.ready() {
        return Ok((lease, Duration::ZERO));
    }
    let begun = Instant::now();
    let lease = bucket.lease(|| connect(session, permit, peer)).await?;
    Ok((lease, begun.elapsed()))
}

async fn connect(session: &Session, permit: &Permit, peer: Peer<'_>) -> Result<Connected, UpstreamError> {
    session.cell.connect.connect(&session.cell, permit, peer).await
}

/// The same request again; it has no body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whether the request's body could not be read as what it claims to be, such as chunks that are none.
fn is_malformed(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return matches!(
                error.kind(),
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
            );
        }
        cause = error.source();
    }
    false
}

/// Whether the endpoint ended this stream, and only this.
fn was_reset(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_reset() && error.is_remote();
        }
        cause = error.source();
    }
    false
}
