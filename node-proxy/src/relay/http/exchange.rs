//! One request and its response, as ledger and access log see them. Ends with the last of its bodies.
//!
//! Facts for the log are gathered only where one is written. It must never hold a body.

use std::{
    cell::{Cell as Slot, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use config::{identity::Identity, model::Endpoint, name::PodName};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::time::Instant;

use super::{inspect::Shape, session::Session, watch::Busy};
use crate::{
    accept::Protocol,
    cell::direction,
    policy::{Denied, Permit},
    snapshot::routes::CompiledRule,
    stream::Outflow,
    telemetry::{Reason, Record, access::after_user},
    tenancy::{Brake, Direction, Pace, RequestGuard, Taken},
    upstream::{course::Course, pool::Lease, shortcuts::Revoked},
};

/// One request. Written to the log when dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    session: Rc<Session>,
    _in_flight: RequestGuard,
    /// Its place among the requests that the tenant's budget lets in.
    permit: OnceCell<Taken>,
    /// Keeps an HTTP/1.1 connection from being taken for one that waits for a head.
    busy: Option<Busy>,
    begun: Instant,
    received: Slot<u64>,
    sent: Slot<u64>,
    status: Slot<Option<StatusCode>>,
    reason: Slot<Option<Reason>>,
    done: Slot<bool>,
    opaque: Slot<bool>,
    grpc: Slot<bool>,
    /// Why it may not go on, where a policy says so.
    denied: OnceCell<Denied>,
    /// Whether the endpoint takes what it is sent.
    outflow: RefCell<Option<Rc<Outflow>>>,
    /// Whether the connection it went out on was ended by us.
    revoked: RefCell<Option<Rc<Revoked>>>,
    /// How it is sent on.
    course: Course,
    facts: Option<Box<RefCell<Facts>>>,
}

/// What only the log wants to know.
#[derive(Debug)]
struct Facts {
    permit: Permit,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    rule: Option<Arc<CompiledRule>>,
    endpoint: Option<Arc<Endpoint>>,
    proven: Option<Rc<Identity>>,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
}

impl Exchange {
    pub(super) fn begin<B>(session: &Rc<Session>, request: &Request<B>, busy: Option<Busy>) -> Rc<Self> {
        let facts = session.cell.access_log.is_on().then(|| {
            Box::new(RefCell::new(Facts {
                permit: session.last_permit(),
                method: request.method().clone(),
                uri: request.uri().clone(),
                host: request.headers().get(header::HOST).cloned(),
                rule: None,
                endpoint: None,
                proven: None,
                connect: None,
                first_byte: None,
            }))
        });
        if session.protocol == Protocol::Http2 {
            session.live.backlog.asked(session.requests.get() == 0, || head_bytes(request));
        }
        session.requests.set(session.requests.get() + 1);
        Rc::new(Self {
            session: Rc::clone(session),
            _in_flight: RequestGuard::begin(&session.cell.ledger),
            permit: OnceCell::new(),
            busy,
            begun: Instant::now(),
            received: Slot::new(0),
            sent: Slot::new(0),
            status: Slot::new(None),
            reason: Slot::new(None),
            done: Slot::new(false),
            opaque: Slot::new(false),
            grpc: Slot::new(false),
            denied: OnceCell::new(),
            outflow: RefCell::default(),
            revoked: RefCell::default(),
            course: Course::default(),
            facts,
        })
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// The tenant's budget lets it in.
    pub(super) fn admitted(&self, permit: Taken) {
        drop(self.permit.set(permit));
    }

    /// Whose turn it is to move bytes of a body. While the cell holds too much, nobody's whose receiver has not taken what there is.
    pub(super) fn poll_turn(
        &self,
        direction: Direction,
        context: &mut Context<'_>,
        brake: &mut Brake,
    ) -> Poll<()> {
        if self.session.cell.permits.is_pressed() {
            ready!(self.poll_taken(direction, context));
        }
        self.pace(direction).poll(context, brake).map(|_most| ())
    }

    fn poll_taken(&self, direction: Direction, context: &mut Context<'_>) -> Poll<()> {
        let paused = || self.session.cell.ledger.reader_paused();
        match direction {
            Direction::Sent => self.session.live.outflow.poll_taken(context, paused),
            Direction::Received => match &*self.outflow.borrow() {
                Some(outflow) => outflow.poll_taken(context, paused),
                None => Poll::Ready(()),
            },
        }
    }

    fn pace(&self, direction: Direction) -> &Pace {
        self.session.cell.permits.pace(self.session.live.side, direction)
    }

    /// Counts bytes of the request's body.
    pub(super) fn received(&self, bytes: usize, brake: &mut Brake) {
        self.pace(Direction::Received).spend(bytes, brake);
        self.received.set(self.received.get() + bytes as u64);
        self.session.live.backlog.went_on(bytes);
        self.session.cell.ledger.carried(bytes as u64, 0);
    }

    /// Counts bytes of the response's body.
    pub(super) fn sent(&self, bytes: usize, brake: &mut Brake) {
        self.pace(Direction::Sent).spend(bytes, brake);
        self.sent.set(self.sent.get() + bytes as u64);
        self.session.live.backlog.is_there(bytes);
        self.session.cell.ledger.carried(0, bytes as u64);
    }

    /// It goes on as opaque bytes, which the connection counts.
    pub(super) fn becomes_opaque(&self) {
        self.opaque.set(true);
    }

    /// Bytes from the client and to it.
    fn bytes(&self) -> (u64, u64) {
        let live = &self.session.live;
        let (received, sent) =
            if self.opaque.get() { (live.received.get(), live.sent.get()) } else { (0, 0) };
        (self.received.get() + received, self.sent.get() + sent)
    }

    /// A policy denies it; the reason is told apart.
    pub(super) fn denied(&self, denied: &Denied) {
        drop(self.denied.set(denied.clone()));
    }

    /// Why its connection was ended by us, if it was.
    pub(super) fn revoked(&self) -> Option<Reason> {
        let revoked = self.revoked.borrow();
        let why = revoked.as_ref()?.get()?;
        if let Some(denied) = why.denied() {
            self.denied(denied);
        }
        Some(why.reason())
    }

    /// It was refused, or ended before its time. The first reason stays.
    pub(super) fn refused(&self, reason: Reason) {
        if self.reason.get().is_none() {
            let reason = self.revoked().unwrap_or(reason);
            self.reason.set(Some(reason));
            self.session.cell.ledger.refused(reason);
        }
    }

    pub(super) fn looks_like(&self, shape: &Shape) {
        self.grpc.set(shape.grpc);
    }

    /// Whether a refusal has to be one that gRPC clients understand.
    pub(super) fn is_grpc(&self) -> bool {
        self.grpc.get()
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.status.set(Some(status));
        self.note(|facts, begun| facts.first_byte = Some(begun.elapsed()));
    }

    /// The response is complete. One that is dropped before was broken off by the client.
    pub(super) fn complete(&self) {
        self.done.set(true);
    }

    pub(super) fn routed(&self, rule: &Arc<CompiledRule>) {
        self.note(|facts, _| facts.rule = Some(Arc::clone(rule)));
    }

    pub(super) fn chose(&self, endpoint: &Arc<Endpoint>) {
        self.course.begins_anew();
        self.note(|facts, _| facts.endpoint = Some(Arc::clone(endpoint)));
    }

    /// Where it is noted how it is sent on.
    pub(super) fn course(&self) -> &Course {
        &self.course
    }

    /// It goes out on this connection, which a change of policy may end.
    pub(super) fn connected(&self, lease: &Lease, took: Duration) {
        self.course.takes(lease.choice());
        self.course.follows(lease.trace());
        self.outflow.replace(lease.outflow());
        self.revoked.replace(lease.shortcut().map(|shortcut| Rc::clone(shortcut.revoked())));
        self.note(|facts, _| {
            facts.proven = lease.proven();
            facts.connect = Some(took);
        });
    }

    fn note(&self, note: impl FnOnce(&mut Facts, Instant)) {
        if let Some(facts) = &self.facts {
            note(&mut facts.borrow_mut(), self.begun);
        }
    }

    fn write(&self, facts: &Facts) {
        let permit = &facts.permit;
        let host = facts.host.as_ref().and_then(|host| host.to_str().ok());
        let (bytes_received, bytes_sent) = self.bytes();
        let choice = self.course.choice();
        self.session.cell.access_log.write(&Record {
            direction: direction(permit.side),
            protocol: self.session.protocol.as_str(),
            workload: &permit.tree.workload.pod,
            source: permit.origin.client,
            source_workload: permit.caller.pod.as_ref(),
            source_principal: permit.caller.identity.as_ref(),
            // What a tunnel brought is not read as HTTP.
            claimed: None,
            destination: permit.origin.destination,
            service: permit.destination.service(),
            destination_workload: facts.endpoint.as_ref().and_then(|endpoint| pod(endpoint)),
            destination_principal: facts.proven.as_deref(),
            route: facts.rule.as_ref().map(|rule| &rule.route),
            rule: facts.rule.as_ref().map(|rule| rule.name.as_str()),
            endpoint: facts.endpoint.as_ref().map(|endpoint| endpoint.address),
            delivery: choice.map(|choice| choice.delivery.as_str()),
            delivery_why: choice.map(|choice| choice.why.as_str()),
            trace: self.course.trace(),
            method: Some(&facts.method),
            authority: facts.uri.authority().map(http::uri::Authority::as_str).or(host).map(after_user),
            path: Some(facts.uri.path()),
            status: self.status.get().map(|status| status.as_u16()),
            bytes_received,
            bytes_sent,
            duration: self.begun.elapsed(),
            connect: facts.connect,
            first_byte: facts.first_byte,
            reason: self.reason.get(),
            policy: self.denied.get().and_then(Denied::policy).or(self.session.live.policy.get()),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.session.requests.set(self.session.requests.get() - 1);
        let live = &self.session.live;
        // Of streams that were reset, h2 has thrown away what was there for them.
        let is_over = self.session.protocol == Protocol::Http2 && self.session.requests.get() == 0;
        if is_over && !live.outflow.is_stalled() {
            live.backlog.is_idle();
        }
        if !self.done.get() {
            if let Some(busy) = &self.busy {
                busy.cut_short();
            }
            self.refused(self.session.live.ended().unwrap_or(Reason::ClientClosed));
        }
        if let Some(facts) = &self.facts {
            self.write(&facts.borrow());
        }
    }
}

/// Bytes of a head before it was packed: what its fields take, and as much for each as HPACK reckons (RFC 7541, 4.1).
fn head_bytes<B>(request: &Request<B>) -> usize {
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    fields.sum::<usize>() + request.uri().path().len() + 128
}

fn pod(endpoint: &Endpoint) -> Option<&PodName> {
    endpoint.workload.as_ref()
}
