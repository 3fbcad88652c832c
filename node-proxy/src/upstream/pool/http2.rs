//! HTTP/2 connections of the pool: shared by requests, each a stream. One task per connection drives it.
//!
//! A connection takes no more streams than its peer allows, and none after GOAWAY. One that does not answer pings is closed, so that no
//! half-open connection stays. Streams that nobody reads must never keep the others from being read: a connection's window has room
//! for all that its streams may leave unread.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use config::identity::Identity;
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2 as client};
use tokio::time::Instant;

use super::{
    STALE_AFTER, Stock, Unanswered, Upload,
    greeting::{Greeted, Greeting},
};
use crate::{
    hbone::{Streams, fields::TraceId},
    stream::Outflow,
    sys::hyper_io::HyperIo,
    tenancy::meter,
    upstream::{
        Delivery,
        choice::Choice,
        connect::Connected,
        rt::{LocalExecutor, TokioTimer},
        shortcuts::Shortcut,
    },
};

/// A connection with streams.
#[derive(Debug)]
pub struct Connection {
    send: client::SendRequest<Upload>,
    /// Streams that the peer allows, as last seen by the task that drives the connection.
    allowed: Rc<Cell<usize>>,
    /// Whether the endpoint speaks it.
    greeting: Greeting,
    /// Whether the endpoint takes what it is sent.
    outflow: Rc<Outflow>,
    streams: Cell<usize>,
    served: Cell<bool>,
    idle_since: Cell<Instant>,
    /// Its place among all that ever became idle, when it last did.
    parked: Cell<u64>,
    stock: Rc<Stock>,
    choice: Choice,
    shortcut: Option<Box<Shortcut>>,
    /// What it runs through.
    tunnel: Option<Rc<Streams>>,
    /// The trace that its peer was told of.
    trace: Option<TraceId>,
}

impl Connection {
    pub(super) async fn open(connected: Connected, stock: &Rc<Stock>) -> Result<Rc<Self>, hyper::Error> {
        let (tunnel, trace) = (connected.stream.tunnel(), connected.stream.trace());
        let greeting = Greeting::default();
        let outflow = Rc::<Outflow>::default();
        let stream =
            Greeted { io: connected.stream, greeting: greeting.clone(), outflow: Rc::clone(&outflow) };
        let (send, mut driver) = client::Builder::new(LocalExecutor)
            .timer(TokioTimer)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(stock.settings.head_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(HyperIo(stream))
            .await?;
        let allowed = Rc::new(Cell::new(driver.current_max_send_streams()));
        let seen = Rc::clone(&allowed);
        meter::spawn(async move {
            let driven = poll_fn(|context| {
                let driven = Pin::new(&mut driver).poll(context);
                seen.set(driver.current_max_send_streams());
                driven
            });
            if let Err(error) = driven.await {
                tracing::debug!(%error, "an HTTP/2 connection to an endpoint ended");
            }
        });
        Ok(Rc::new(Self {
            send,
            allowed,
            greeting,
            outflow,
            streams: Cell::new(0),
            served: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            parked: Cell::new(0),
            stock: Rc::clone(stock),
            choice: connected.choice,
            shortcut: connected.shortcut,
            tunnel,
            trace,
        }))
    }

    /// Whether one more stream can be opened now.
    pub(super) fn has_room(&self) -> bool {
        self.is_open() && self.streams.get() < self.allowed.get().min(MOST_STREAMS as usize)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.send.is_closed() && !self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_ending())
    }

    pub(super) fn delivery(&self) -> Delivery {
        self.choice.delivery
    }

    /// Its place among all that ever became idle; `None` while it has streams.
    pub(super) fn parked(&self) -> Option<u64> {
        (self.streams.get() == 0).then(|| self.parked.get())
    }

    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        if self.streams.get() > 0 {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.idle_since.get())
    }

    pub(super) fn lend(self: &Rc<Self>) -> Lease {
        self.streams.set(self.streams.get() + 1);
        let idle = self.streams.get() == 1 && self.idle_since.get().elapsed() > STALE_AFTER;
        let reused = self.served.replace(true);
        Lease { connection: Rc::clone(self), reused, stale: reused && idle }
    }
}

/// One stream of a connection.
#[derive(Debug)]
pub struct Lease {
    connection: Rc<Connection>,
    reused: bool,
    stale: bool,
}

impl Lease {
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(super) fn is_reused(&self) -> bool {
        self.reused
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

    pub(super) fn outflow(&self) -> Rc<Outflow> {
        Rc::clone(&self.connection.outflow)
    }

    pub(super) fn choice(&self) -> Choice {
        self.connection.choice
    }

    pub(super) async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unanswered> {
        self.connection.send.clone().try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            Unanswered { source: error.into_error(), unsent, mute: !self.connection.greeting.is_http2() }
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let left = self.connection.streams.get().saturating_sub(1);
        self.connection.streams.set(left);
        if left == 0 {
            self.connection.idle_since.set(Instant::now());
            self.connection.parked.set(self.connection.stock.park());
        }
    }
}

/// What one stream may have on its way, unread: enough for a full pipe at 10 Gbit/s and 200 µs. It bounds what a request
/// can make a cell keep each way, less than the kernel keeps of an HTTP/1.1 connection that nobody reads (`tcp_rmem`: 6 MiB).
pub const STREAM_WINDOW: u32 = 256 * 1024;

/// Streams on one connection before another is opened, where the peer allows more: one connection is one lock and one
/// TCP window. And as many as a client may have on its own.
pub const MOST_STREAMS: u32 = 128;

/// What all streams of a connection may have on their way: 32 MiB, room for every stream's. With less, as many stalled
/// streams as fill it take the connection from all others for as long as they stall: bytes are given back only as
/// somebody reads them (hyper#4003). So a client can make a cell keep [`STREAM_WINDOW`] each way for each of its requests
/// in flight, and half as much again for frames that are smaller than what keeping them takes; h2 ends a connection beyond that.
pub const CONNECTION_WINDOW: u32 = MOST_STREAMS * STREAM_WINDOW;

/// How often a connection is asked whether it is still there.
pub const PING_EVERY: Duration = Duration::from_secs(20);

/// How long the answer may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
