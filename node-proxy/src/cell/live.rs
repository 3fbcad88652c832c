//! The connections of now: for `canopy tree`, and so that those of one tree, or all, can be ended.
//!
//! A connection is here from the moment its origin is known until its task is gone. What is here must never keep a
//! connection alive, and never hold more of it than facts.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt, io,
    net::SocketAddr,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use config::{
    identity::Identity,
    model::Workload,
    name::{PodName, PolicyName, ServiceName},
};
use ebpf_redirect::{Origin, Side};
use slab::Slab;
use tokio::time::Instant;

use crate::{
    accept::Protocol,
    capture::Tree,
    forest::describe::ConnectionDescription,
    hbone::fields::{Baggage, Said},
    identity::Caller,
    policy::Denied,
    snapshot::Destination,
    stream::{Backlog, Outflow},
    sys::sockets::Registered,
    telemetry::Reason,
    upstream::{course::Course, pool::http2::STREAM_WINDOW, shortcuts::Goal},
};

/// One connection, as far as it is known by now.
pub struct Live {
    /// Whose it is.
    pub tree: Rc<Tree>,
    /// Which way it goes.
    pub side: Side,
    /// Its true ends.
    pub origin: Origin,
    /// When it was accepted.
    pub since: Instant,
    /// The pod at the client's end, as far as its address says: for logs.
    pub source: Option<PodName>,
    /// What it is going to; set by the accept stage.
    pub destination: OnceCell<Destination>,
    /// What it speaks; set by the accept stage.
    pub protocol: Cell<Option<Protocol>>,
    /// The endpoint it was connected to; for opaque connections.
    pub endpoint: Cell<Option<SocketAddr>>,
    /// How; for opaque connections.
    pub course: Course,
    /// Where an opaque connection goes that nobody else sees.
    pub receiver: OnceCell<Goal>,
    /// The pod behind the endpoint.
    pub peer: RefCell<Option<PodName>>,
    /// As whom the other end of the tunnel to it was proven; for opaque connections.
    pub proven: OnceCell<Rc<Identity>>,
    /// Until the upstream connection was there; for opaque connections.
    pub connected_after: Cell<Option<Duration>>,
    /// Until the first byte from upstream; for opaque connections.
    pub first_byte_after: Cell<Option<Duration>>,
    /// Bytes from the client; for opaque connections.
    pub received: Cell<u64>,
    /// Bytes to the client; for opaque connections.
    pub sent: Cell<u64>,
    /// Whether its client takes what it is sent; the HTTP relay notes it.
    pub outflow: Outflow,
    /// What is held for it; the relay notes it.
    pub backlog: Backlog,
    /// Requests begun on it; the HTTP relay counts them.
    pub requests: Cell<u64>,
    /// Who calls; set when it is identified.
    pub caller: OnceCell<Arc<Caller>>,
    /// The workload that calls, where another cell of this node delivers it past the network.
    pub unseen_from: OnceCell<Arc<Workload>>,
    /// What was said with it, where a tunnel brought it; for the log.
    pub said: OnceCell<Rc<Said>>,
    /// The object that denied it, for the log.
    pub policy: OnceCell<PolicyName>,
    ended: Cell<Option<Reason>>,
    finishing: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Live {
    pub(crate) fn new(tree: Rc<Tree>, side: Side, origin: Origin, source: Option<PodName>) -> Self {
        Self {
            tree,
            side,
            origin,
            since: Instant::now(),
            source,
            destination: OnceCell::new(),
            protocol: Cell::default(),
            endpoint: Cell::default(),
            course: Course::default(),
            receiver: OnceCell::new(),
            peer: RefCell::default(),
            proven: OnceCell::new(),
            connected_after: Cell::default(),
            first_byte_after: Cell::default(),
            received: Cell::default(),
            sent: Cell::default(),
            outflow: Outflow::default(),
            backlog: Backlog::default(),
            requests: Cell::default(),
            caller: OnceCell::new(),
            unseen_from: OnceCell::new(),
            said: OnceCell::new(),
            policy: OnceCell::new(),
            ended: Cell::default(),
            finishing: Cell::default(),
            task: RefCell::default(),
        }
    }

    /// Notes the endpoint that is being connected to, in place of one that failed.
    pub(crate) fn aimed(&self, address: SocketAddr, pod: Option<&PodName>) {
        self.endpoint.set(Some(address));
        drop(self.peer.replace(pod.cloned()));
        self.course.begins_anew();
    }

    /// As whom the caller is proven: by the listener it came to, by its certificate, or by the cell that hands it over.
    pub fn principal(&self) -> Option<&Identity> {
        match (self.caller.get(), self.side) {
            (Some(caller), _) => caller.identity.as_ref(),
            (None, Side::Outbound) => Some(&self.tree.workload.identity),
            (None, Side::Inbound) => None,
        }
    }

    /// What its caller's proxy claims of the caller. For the log: nothing of it is proven.
    pub fn claimed(&self) -> Option<&Baggage> {
        self.said.get().map(|said| &said.claimed)
    }

    /// The Service that it is going to: by its address, or as its caller's proxy says and the pod answers for.
    pub fn service(&self) -> Option<&ServiceName> {
        let by_address = self.destination.get().and_then(Destination::service);
        by_address.or_else(|| self.said.get()?.service.as_ref())
    }

    /// About how many bytes of the cell's memory are held for it. Of a client that does not take what it is sent, an endpoint may have
    /// sent as much again as a stream has room for.
    pub(crate) fn held(&self) -> u64 {
        let upstream = if self.outflow.is_stalled() { u64::from(STREAM_WINDOW) } else { 0 };
        self.backlog.held() + upstream
    }

    /// Notes what became of a write to the client.
    pub(crate) fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.backlog.was_taken(bytes);
        }
        self.outflow.note(written)
    }

    /// Counts one more request.
    pub fn request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// Notes who denied it.
    pub(crate) fn denied(&self, denied: &Denied) {
        if let Some(policy) = denied.policy() {
            drop(self.policy.set(policy.clone()));
        }
    }

    /// Ends the connection because it is not permitted any more.
    pub(crate) fn revoke(&self, denied: &Denied) {
        self.denied(denied);
        self.close(denied.reason());
    }

    /// Ends the connection from outside of its task; the first reason counts.
    pub fn close(&self, reason: Reason) {
        if self.ended.get().is_none() {
            self.ended.set(Some(reason));
            self.wake();
        }
    }

    /// Why it was [closed](Live::close), if it was.
    pub fn ended(&self) -> Option<Reason> {
        self.ended.get()
    }

    /// Asks the connection to end after what it is doing. Opaque bytes show no such place: they go on until closed.
    pub fn finish(&self) {
        if !self.finishing.replace(true) {
            self.wake();
        }
    }

    /// Whether [`Live::finish`] was called.
    pub fn is_finishing(&self) -> bool {
        self.finishing.get()
    }

    fn wake(&self) {
        let task = self.task.borrow_mut().take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// As `canopy tree` shows it.
    pub fn describe(&self) -> ConnectionDescription {
        let service = match self.destination.get() {
            Some(Destination::Service { entry, .. }) => Some(format!("{}:{}", entry.service, entry.port)),
            _ => None,
        };
        ConnectionDescription {
            side: direction(self.side).to_owned(),
            client: self.origin.client,
            destination: self.origin.destination,
            service,
            protocol: self.protocol.get().map_or("detecting", Protocol::as_str).to_owned(),
            age_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            requests: self.requests.get(),
        }
    }

    /// Ready when [`Live::close`] was called. For the connection's own task alone.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.ended.get() {
            return Poll::Ready(reason);
        }
        let mut task = self.task.borrow_mut();
        match &mut *task {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("side", &self.side).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// As logs and descriptions name it.
pub(crate) fn direction(side: Side) -> &'static str {
    match side {
        Side::Outbound => "outbound",
        Side::Inbound => "inbound",
    }
}

/// Every live connection of a cell.
#[derive(Debug, Default)]
pub struct Registry(Rc<RefCell<Slab<Rc<Live>>>>);

impl Registry {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Shows every one to `see`, in no order. `see` must not end or begin connections.
    pub fn each(&self, mut see: impl FnMut(&Live)) {
        self.0.borrow().iter().for_each(|(_, live)| see(live));
    }

    /// Asks those of one tree to end after what they are doing.
    pub fn finish_tree(&self, tree: u64) {
        self.each(|live| {
            if live.tree.id == tree {
                live.finish();
            }
        });
    }

    /// Ends those of one tree, and those that go straight to its app.
    pub fn close_tree(&self, tree: u64, reason: Reason) {
        let goes_there = |live: &Live| live.receiver.get().is_some_and(|goal| goal.is_tree(tree));
        self.close_if(reason, |live| live.tree.id == tree || goes_there(live));
    }

    /// Ends all.
    pub fn close_all(&self, reason: Reason) {
        self.close_if(reason, |_| true);
    }

    /// Ends those that `condemned` names.
    pub fn close_if(&self, reason: Reason, mut condemned: impl FnMut(&Live) -> bool) {
        self.each(|live| {
            if condemned(live) {
                live.close(reason);
            }
        });
    }

    /// Takes in a connection. `socket` keeps it among those that can be shut down when the cell is stuck.
    pub(crate) fn enter(&self, live: Live, socket: Option<Registered>) -> LiveGuard {
        let live = Rc::new(live);
        let key = self.0.borrow_mut().insert(Rc::clone(&live));
        LiveGuard { live, key, registry: Rc::clone(&self.0), _socket: socket }
    }
}

/// Keeps a connection in the registry.
#[derive(Debug)]
pub struct LiveGuard {
    live: Rc<Live>,
    key: usize,
    registry: Rc<RefCell<Slab<Rc<Live>>>>,
    _socket: Option<Registered>,
}

impl LiveGuard {
    /// The connection, to be shared with its relay.
    pub fn share(&self) -> Rc<Live> {
        Rc::clone(&self.live)
    }
}

impl Deref for LiveGuard {
    type Target = Live;
    fn deref(&self) -> &Live {
        &self.live
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        drop(self.registry.borrow_mut().try_remove(self.key));
    }
}
