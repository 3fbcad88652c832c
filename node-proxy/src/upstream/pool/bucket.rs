//! The connections of one key: idle HTTP/1.1 ones, and HTTP/2 ones with room for streams.
//!
//! A caller first asks for what is there ([`Bucket::ready`]); only if nothing is does it connect and
//! [adopt](Bucket::adopt) the new one, so that this file never opens a socket.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
};

use tokio::{sync::Mutex, time::Instant};

use super::{IDLE_PER_KEY, Key, Lease, Settings, http1, http2};
use crate::{
    accept::Protocol,
    upstream::{UpstreamError, connect::Connected},
};

/// Connections that are interchangeable.
#[derive(Debug)]
pub struct Bucket {
    key: Key,
    settings: Rc<Settings>,
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
    /// When the last attempt to make an HTTP/2 connection failed.
    failed_at: Cell<Option<Instant>>,
}

impl Bucket {
    pub(super) fn new(key: Key, settings: Rc<Settings>) -> Self {
        Self {
            key,
            settings,
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            connecting: Mutex::new(()),
            failed_at: Cell::new(None),
        }
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
            Protocol::Http1 | Protocol::Tcp => loop {
                let mut connection = self.idle.borrow_mut().pop()?;
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
            return self.adopt(connect().await?).await;
        }
        let since = Instant::now();
        let _connecting = self.connecting.lock().await;
        if let Some(lease) = self.ready() {
            return Ok(lease);
        }
        if self.failed_at.get().is_some_and(|failed| failed > since) {
            return Err(self.failed_with_the_others());
        }
        let adopted = match connect().await {
            Ok(connected) => self.adopt(connected).await,
            Err(error) => Err(error),
        };
        if adopted.is_err() {
            self.failed_at.set(Some(Instant::now()));
        }
        adopted
    }

    /// A connection over a socket that was connected for this key.
    pub async fn adopt(self: &Rc<Self>, connected: Connected) -> Result<Lease, UpstreamError> {
        let address = self.key.address;
        let protocol = |source| UpstreamError::Protocol { address, source };
        if self.key.protocol == Protocol::Http2 {
            let connection = http2::Connection::open(connected, &self.settings).await.map_err(protocol)?;
            let lease = connection.lend();
            self.multiplexed.borrow_mut().push(connection);
            return Ok(Lease::Http2(lease));
        }
        let connection = http1::Connection::open(connected, &self.settings).await.map_err(protocol)?;
        Ok(Lease::Http1(http1::Lease::of(Box::new(connection), self)))
    }

    /// Takes an idle HTTP/1.1 connection back.
    pub(super) fn put(&self, mut connection: Box<http1::Connection>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_PER_KEY {
            connection.park();
            idle.push(connection);
        }
    }

    /// Connections held.
    pub(super) fn connections(&self) -> usize {
        self.idle.borrow().len() + self.multiplexed.borrow().len()
    }

    /// Closes what is closed at the other end, or has been idle for too long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let limit = self.settings.idle;
        self.idle
            .borrow_mut()
            .retain_mut(|connection| connection.idle_for(now) < limit && connection.is_open());
        self.multiplexed
            .borrow_mut()
            .retain(|connection| connection.is_open() && connection.idle_for(now) < limit);
    }

    pub(super) fn clear_idle(&self) {
        self.idle.borrow_mut().clear();
        self.multiplexed.borrow_mut().retain(|connection| connection.streams() > 0);
    }

    /// Whether the pool can do without it. A bucket that a client's connection holds would otherwise be made twice.
    pub(super) fn is_forgettable(&self, shared: bool) -> bool {
        !shared && self.connections() == 0
    }

    fn failed_with_the_others(&self) -> UpstreamError {
        let source = std::io::Error::other("the connection that this request waited for could not be made");
        UpstreamError::Failed { address: self.key.address, source }
    }
}
