//! The connections of one key: idle HTTP/1.1 ones, and HTTP/2 ones with room for streams.
//!
//! A caller first asks for what is there ([`Bucket::ready`]); only if nothing is does it have a new
//! one [made](Bucket::lease), by the caller: this file never opens a socket.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
};

use tokio::{sync::Mutex, time::Instant};

use super::{IDLE_PER_KEY, Key, Lease, Stock, http1, http2};
use crate::{
    accept::Protocol,
    tenancy::{
        Payer,
        meter::{self, Turn},
    },
    upstream::{Delivery, UpstreamError, connect::Connected},
};

/// Connections that are interchangeable.
#[derive(Debug)]
pub struct Bucket {
    key: Key,
    stock: Rc<Stock>,
    /// Counts up when the pod at one of the ends is gone: what was made before is not kept.
    generation: Cell<u64>,
    /// Idle HTTP/1.1 connections; the last one put back is the first one lent, so that surplus ones age.
    #[expect(
        clippy::vec_box,
        reason = "a lease takes the box as it is: a connection is not copied per request"
    )]
    idle: RefCell<Vec<Box<http1::Connection>>>,
    /// HTTP/2 connections, those with streams and those without.
    multiplexed: RefCell<Vec<Rc<http2::Connection>>>,
    /// Held while an HTTP/2 connection is being made: requests that wait will share it.
    connecting: Mutex<()>,
    /// Who pays for what is kept, also when it is closed by somebody else.
    payer: Option<Payer>,
    /// When the last attempt to make an HTTP/2 connection failed, and whether it was for want of a socket.
    failed: Cell<Option<(Instant, bool)>>,
}

impl Bucket {
    pub(super) fn new(key: Key, stock: Rc<Stock>) -> Self {
        Self {
            key,
            stock,
            generation: Cell::new(0),
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            connecting: Mutex::new(()),
            payer: meter::current(),
            failed: Cell::new(None),
        }
    }

    fn paid(&self) -> Option<Turn> {
        self.payer.as_ref().map(Payer::turn)
    }

    /// What all of its connections have in common.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// A connection that is there and open.
    pub fn ready(self: &Rc<Self>) -> Option<Lease> {
        match self.key.protocol {
            Protocol::Http2 => {
                let multiplexed = self.multiplexed.borrow();
                let connection = multiplexed.iter().find(|connection| connection.has_room())?;
                Some(Lease::Http2(connection.lend()))
            }
            Protocol::Http1 | Protocol::Tcp | Protocol::Hbone => loop {
                let mut connection = self.idle.borrow_mut().pop()?;
                self.stock.removed(&connection);
                if connection.is_open() {
                    return Some(Lease::Http1(http1::Lease::of(connection, self)));
                }
            },
        }
    }

    /// A connection that is there, or a new one over the socket that `connect` makes.
    ///
    /// HTTP/2: of many requests that come at once one connects, the others wait for it and share its failure too.
    pub async fn lease<Connect, Connecting>(self: &Rc<Self>, connect: Connect) -> Result<Lease, UpstreamError>
    where
        Connect: FnOnce() -> Connecting,
        Connecting: Future<Output = Result<Connected, UpstreamError>>,
    {
        if let Some(lease) = self.ready() {
            return Ok(lease);
        }
        if self.key.protocol != Protocol::Http2 {
            return self.renew(connect).await;
        }
        let since = Instant::now();
        let _connecting = self.connecting.lock().await;
        if let Some(lease) = self.ready() {
            return Ok(lease);
        }
        if let Some((_, limited)) = self.failed.get().filter(|(at, _)| *at > since) {
            return Err(self.failed_with_the_others(limited));
        }
        let adopted = self.renew(connect).await;
        if let Err(error) = &adopted {
            let limited = matches!(error, UpstreamError::ConnectionLimit { .. });
            self.failed.set(Some((Instant::now(), limited)));
        }
        adopted
    }

    /// A new connection, whatever is there, over the socket that `connect` makes.
    pub async fn renew<Connect, Connecting>(self: &Rc<Self>, connect: Connect) -> Result<Lease, UpstreamError>
    where
        Connect: FnOnce() -> Connecting,
        Connecting: Future<Output = Result<Connected, UpstreamError>>,
    {
        // Before it connects: the pod may be gone by the time it has.
        let generation = self.generation.get();
        self.adopt(connect().await?, generation).await
    }

    async fn adopt(self: &Rc<Self>, connected: Connected, generation: u64) -> Result<Lease, UpstreamError> {
        let address = self.key.address;
        let protocol = |source| UpstreamError::Protocol { address, source };
        if self.key.protocol == Protocol::Http2 {
            let connection = http2::Connection::open(connected, &self.stock).await.map_err(protocol)?;
            let lease = connection.lend();
            if generation == self.generation.get() && !self.stock.is_closed() {
                self.multiplexed.borrow_mut().push(connection);
                self.stock.trim();
            }
            return Ok(Lease::Http2(lease));
        }
        let settings = &self.stock.settings;
        let connection = http1::Connection::open(connected, settings, generation).await.map_err(protocol)?;
        Ok(Lease::Http1(http1::Lease::of(Box::new(connection), self)))
    }

    /// Takes an idle HTTP/1.1 connection back.
    pub(super) fn put(&self, mut connection: Box<http1::Connection>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_PER_KEY
            || self.stock.is_closed()
            || connection.generation() != self.generation.get()
        {
            return;
        }
        connection.park(self.stock.park());
        self.stock.added(&connection);
        idle.push(connection);
        drop(idle);
        self.stock.trim_if_over();
    }

    /// Connections held.
    pub(super) fn connections(&self) -> usize {
        self.idle.borrow().len() + self.multiplexed.borrow().len()
    }

    /// Closes what is closed at the other end, or has been idle for too long.
    pub(super) fn sweep(&self) {
        let _turn = self.paid();
        let now = Instant::now();
        let limit = self.stock.settings.idle;
        self.keep_idle(|connection| connection.idle_for(now) < limit && connection.is_open());
        self.multiplexed
            .borrow_mut()
            .retain(|connection| connection.is_open() && connection.idle_for(now) < limit);
    }

    /// Forgets every connection made until now. Requests that have one keep it to their end.
    pub(super) fn retire(&self) {
        self.generation.set(self.generation.get() + 1);
        let _turn = self.paid();
        self.keep_idle(|_| false);
        self.multiplexed.borrow_mut().clear();
    }

    /// When its idle connections of these deliveries became so, as [`Stock::park`] counts.
    pub(super) fn idle_since(&self, of: fn(Delivery) -> bool) -> Vec<u64> {
        let (idle, multiplexed) = (self.idle.borrow(), self.multiplexed.borrow());
        let idle = idle.iter().filter(|connection| of(connection.delivery()));
        let multiplexed = multiplexed.iter().filter(|connection| of(connection.delivery()));
        idle.map(|connection| connection.parked())
            .chain(multiplexed.filter_map(|connection| connection.parked()))
            .collect()
    }

    /// Closes those of these deliveries that became idle before `nth`.
    pub(super) fn close_idle_before(&self, nth: u64, of: fn(Delivery) -> bool) {
        let _turn = self.paid();
        self.keep_idle(|connection| connection.parked() >= nth || !of(connection.delivery()));
        self.multiplexed.borrow_mut().retain(|connection| {
            connection.parked().is_none_or(|parked| parked >= nth) || !of(connection.delivery())
        });
    }

    fn keep_idle(&self, mut keep: impl FnMut(&mut http1::Connection) -> bool) {
        self.idle.borrow_mut().retain_mut(|connection| {
            let kept = keep(connection);
            if !kept {
                self.stock.removed(connection);
            }
            kept
        });
    }

    /// Whether the pool can do without it. A bucket that a client's connection holds would otherwise be made twice.
    pub(super) fn is_forgettable(&self, shared: bool) -> bool {
        !shared && self.connections() == 0
    }

    fn failed_with_the_others(&self, limited: bool) -> UpstreamError {
        if limited {
            return UpstreamError::ConnectionLimit { address: self.key.address };
        }
        let source = std::io::Error::other("the connection that this request waited for could not be made");
        UpstreamError::Failed { address: self.key.address, source }
    }
}
