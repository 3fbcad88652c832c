//! HTTP/1.1 connections of the pool: hyper's connection is driven by the task of the request that has it, so that a
//! request costs no channel hop and no second task.
//!
//! A connection goes back to its bucket when, and only when, hyper says that it can take the next request. One that is dropped
//! earlier is closed: its framing is unknown.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use config::identity::Identity;
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1 as client};
use tokio::time::Instant;

use super::{Bucket, STALE_AFTER, Settings, Unanswered, Upload};
use crate::{
    hbone::{Streams, fields::TraceId},
    stream::Stream,
    sys::hyper_io::HyperIo,
    tenancy::meter,
    upstream::{Delivery, choice::Choice, connect::Connected, shortcuts::Shortcut},
};

/// Hyper's side of a connection. Once it has ended, for good or ill, it must not be polled again.
#[derive(Debug)]
struct Driver {
    connection: client::Connection<HyperIo<Stream>, Upload>,
    ended: bool,
}

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        if self.ended {
            // Its error, if any, was told to the response and its body.
            return Poll::Ready(Ok(()));
        }
        let end = self.connection.poll_without_shutdown(context);
        self.ended = end.is_ready();
        end
    }
}

/// A connection and its driver.
#[derive(Debug)]
pub struct Connection {
    send: client::SendRequest<Upload>,
    driver: Driver,
    parked: Option<Parked>,
    /// What it runs through.
    tunnel: Option<Rc<Streams>>,
    /// The trace that its peer was told of.
    trace: Option<TraceId>,
    /// Its bucket's when it was made.
    generation: u64,
    choice: Choice,
    shortcut: Option<Box<Shortcut>>,
}

impl Connection {
    /// Over a fresh stream; nothing is sent yet.
    pub(super) async fn open(
        connected: Connected,
        settings: &Settings,
        generation: u64,
    ) -> Result<Self, hyper::Error> {
        let (tunnel, trace) = (connected.stream.tunnel(), connected.stream.trace());
        let (send, driver) = client::Builder::new()
            .max_buf_size(settings.head_bytes.max(SMALLEST_BUFFER))
            .handshake(HyperIo(connected.stream))
            .await?;
        let driver = Driver { connection: driver, ended: false };
        let Connected { choice, shortcut, .. } = connected;
        Ok(Self { send, driver, parked: None, tunnel, trace, generation, choice, shortcut })
    }

    /// Whether the next request can go on it, as far as is known here.
    pub(super) fn is_open(&mut self) -> bool {
        // Without a waker: whoever takes it registers its own, and nobody is woken for a connection nobody has.
        let mut nobody = Context::from_waker(Waker::noop());
        let is_ending = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_ending());
        !is_ending && self.driver.poll(&mut nobody).is_pending() && self.send.is_ready()
    }

    pub(super) fn delivery(&self) -> Delivery {
        self.choice.delivery
    }

    /// Whether it takes a place among the cell's sockets.
    pub(super) fn has_socket(&self) -> bool {
        self.choice.delivery.takes_socket()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn park(&mut self, nth: u64) {
        self.parked = Some(Parked { at: Instant::now(), nth });
    }

    /// Its place among all that ever became idle.
    pub(super) fn parked(&self) -> u64 {
        self.parked.map_or(0, |parked| parked.nth)
    }

    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        self.parked.map_or(Duration::ZERO, |parked| now.saturating_duration_since(parked.at))
    }
}

/// When a connection last became idle.
#[derive(Debug, Clone, Copy)]
struct Parked {
    at: Instant,
    nth: u64,
}

/// A connection in use by one request.
#[derive(Debug)]
pub struct Lease {
    connection: Box<Connection>,
    bucket: Rc<Bucket>,
    stale: bool,
}

impl Lease {
    pub(super) fn of(connection: Box<Connection>, bucket: &Rc<Bucket>) -> Self {
        let stale = connection.parked.is_some_and(|parked| parked.at.elapsed() > STALE_AFTER);
        Self { connection, bucket: Rc::clone(bucket), stale }
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(super) fn is_reused(&self) -> bool {
        self.connection.parked.is_some()
    }

    pub(super) fn shortcut(&self) -> Option<&Shortcut> {
        self.connection.shortcut.as_deref()
    }

    pub(super) fn proven(&self) -> Option<Rc<Identity>> {
        self.connection.tunnel.as_ref()?.peer()
    }

    pub(super) fn trace(&self) -> Option<TraceId> {
        self.connection.trace
    }

    /// How the endpoint is reached, and why so.
    pub fn choice(&self) -> Choice {
        self.connection.choice
    }

    pub(super) async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unanswered> {
        let Connection { send, driver, .. } = &mut *self.connection;
        let mut response = pin!(send.try_send_request(request));
        poll_fn(|context| {
            // The driver alone has the task's waker: it fulfils the response within this very poll, and a
            // second wake-up for that would only make the task run again for nothing.
            let _ended = driver.poll(context);
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
        .map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            Unanswered { source: error.into_error(), unsent, mute: false }
        })
    }

    /// Carries on what is still to be sent or received. Call it before the response's body is polled.
    pub fn drive(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.connection.driver.poll(context)
    }

    /// Whether request and response are done, and the connection can take the next request.
    pub fn is_done(&self) -> bool {
        self.connection.send.is_ready()
    }

    /// Gives the connection back. One that is not done yet because the endpoint answered early goes on by itself until
    /// the client has sent the rest, for a bounded time: closing at once could destroy the answer on its way.
    pub fn settle(self) {
        let Self { mut connection, bucket, .. } = self;
        if connection.send.is_ready() {
            bucket.put(connection);
        } else if !connection.send.is_closed() {
            meter::spawn(async move {
                let done = poll_fn(|context| {
                    if connection.driver.poll(context).is_ready() {
                        return Poll::Ready(false);
                    }
                    if connection.send.is_ready() { Poll::Ready(true) } else { Poll::Pending }
                });
                if tokio::time::timeout(LINGER, done).await == Ok(true) {
                    bucket.put(connection);
                }
            });
        }
    }

    /// The stream itself, what was read beyond the response's head, after a 101, and what it is known by.
    pub fn into_io(self) -> (Stream, bytes::Bytes, Option<Box<Shortcut>>) {
        let connection = *self.connection;
        let parts = connection.driver.connection.into_parts();
        (parts.io.0, parts.read_buf, connection.shortcut)
    }
}

/// The least that hyper takes as the bound of its buffers.
const SMALLEST_BUFFER: usize = 8192;

/// How long an endpoint that answered early may go on to read the request.
const LINGER: Duration = Duration::from_secs(5);
