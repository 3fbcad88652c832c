//! HTTP connections to endpoints, kept for the next request of the same workload. One pool per cell, `!Send`.
//!
//! A connection is lent to one request (HTTP/1.1) or to several (HTTP/2), and only ever to requests of the tree and the
//! client address it was opened for: the app behind it sees that caller's address. It must never cross workloads, never be
//! lent when it is known to be closed or when the pod at its other end is gone, and never hold more idle connections
//! than [`IDLE_PER_KEY`] per endpoint and `Settings::most_idle` in all.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use config::identity::Identity;
use ebpf_redirect::Side;
use http::{Request, Response};
use hyper::body::Incoming;

use self::stock::Stock;
pub use self::{
    bucket::Bucket,
    upload::{BodyError, Upload},
};
use super::{Delivery, choice::Choice, shortcuts::Shortcut};
use crate::{accept::Protocol, capture::Tree, cell::Limits, hbone::fields::TraceId, stream::Outflow};

pub mod bucket;
mod greeting;
pub mod http1;
pub mod http2;
mod stock;
#[cfg(test)]
mod tests;
mod upload;

/// What connections must have in common to be interchangeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The endpoint.
    pub address: SocketAddr,
    /// The address the app behind the endpoint sees as its caller's.
    pub client: IpAddr,
    /// The tree on whose behalf the connection was made.
    pub tree: u64,
    /// Which way it goes, seen from that tree.
    pub side: Side,
    /// `Http1` or `Http2`.
    pub protocol: Protocol,
    /// How the endpoint is to be reached, as far as this end can say: what a rule forbids today is not reached over what was
    /// made yesterday. Nothing that is shown to anybody is named by it: a connection whose receiver had it made another
    /// way ([`Lease::choice`]) is of the key that it was asked for.
    pub delivery: Delivery,
}

impl Key {
    /// Whether a connection of this key is made by a tree's pod, or ends there.
    pub fn is_of(&self, tree: &Tree) -> bool {
        self.tree == tree.id || tree.workload.addresses.contains(&self.address.ip().to_canonical())
    }
}

/// How connections are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long one may be idle.
    pub idle: Duration,
    /// How many may be idle at a time, whatever their keys.
    pub most_idle: usize,
    /// Bytes of a response's head.
    pub head_bytes: usize,
}

impl Settings {
    /// As a cell's limits have it.
    pub fn of(limits: &Limits) -> Self {
        Self { idle: limits.pool_idle, most_idle: IDLE_PER_CELL, head_bytes: limits.head_bytes }
    }
}

/// The pool of one cell.
#[derive(Debug)]
pub struct Pool {
    stock: Rc<Stock>,
    buckets: RefCell<HashMap<Key, Rc<Bucket>>>,
    sweeping: std::cell::Cell<bool>,
}

/// A connection, lent to one request until dropped or returned.
#[derive(Debug)]
pub enum Lease {
    /// The whole connection.
    Http1(http1::Lease),
    /// One stream of it.
    Http2(http2::Lease),
}

/// A request that got no response.
#[derive(Debug)]
pub struct Unanswered {
    /// Why.
    pub source: hyper::Error,
    /// The request, where nothing of it can have reached the endpoint: it may be sent again.
    pub unsent: Option<Box<Request<Upload>>>,
    /// That the endpoint never said a word of the protocol in which it was asked. HTTP/2 alone is begun by both ends.
    pub mute: bool,
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: Settings) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            stock: Rc::new(Stock::new(settings, this.clone())),
            buckets: RefCell::default(),
            sweeping: std::cell::Cell::new(false),
        })
    }

    /// Where connections of this key are kept. Hold on to it: later requests then need no look-up.
    pub fn bucket(&self, key: Key) -> Rc<Bucket> {
        let mut buckets = self.buckets.borrow_mut();
        let bucket = buckets.entry(key).or_insert_with(|| Rc::new(Bucket::new(key, Rc::clone(&self.stock))));
        let bucket = Rc::clone(bucket);
        drop(buckets);
        self.keep_swept();
        bucket
    }

    /// Connections held for later requests, and HTTP/2 connections in use.
    pub fn connections(&self) -> usize {
        self.buckets.borrow().values().map(|bucket| bucket.connections()).sum()
    }

    /// Lends no connection of these keys again that was made until now: the pod at one of its ends is gone. Idle ones are
    /// closed at once, others when their requests are done.
    pub fn retire(&self, mut gone: impl FnMut(&Key) -> bool) {
        self.buckets.borrow_mut().retain(|key, bucket| {
            if gone(key) {
                bucket.retire();
            }
            !bucket.is_forgettable(bucket_is_shared(bucket))
        });
    }

    /// Keeps no connection from now on; each is closed when its requests are done. A receiver that waits for its connections
    /// to end would otherwise wait for what is only kept here.
    pub fn close(&self) {
        self.stock.close();
        self.retire(|_| true);
    }

    /// Closes those that have been idle for longest, some more than there are too many: so that the next few that come
    /// back need not look through all again.
    fn trim(&self) {
        let most = self.stock.settings.most_idle;
        let surplus =
            |idle: usize| if idle > most { (idle - most + most / TRIMMED).min(idle - 1) } else { 0 };
        self.close_oldest(|_| true, surplus);
    }

    /// Closes those that have been idle for longest, so that at least so many sockets are closed, if there are as many, and some
    /// more: so that the next few that come need not look through all again. Gives how many.
    pub fn give_way(&self, sockets: usize) -> usize {
        self.close_oldest(Delivery::takes_socket, |idle| (sockets + idle / TRIMMED).min(idle))
    }

    /// Closes what is idle within tunnels, so that these may end. Gives how many.
    pub fn leave_tunnels(&self) -> usize {
        self.close_oldest(|delivery| delivery == Delivery::Tunnel, |idle| idle)
    }

    /// Idle HTTP/1.1 connections that have a socket of their own.
    pub fn idle_sockets(&self) -> usize {
        self.stock.sockets()
    }

    /// Closes as many as `surplus` says of how many are idle.
    fn close_oldest(&self, of: fn(Delivery) -> bool, surplus: impl Fn(usize) -> usize) -> usize {
        let buckets = self.buckets.borrow();
        let mut idle: Vec<u64> = buckets.values().flat_map(|bucket| bucket.idle_since(of)).collect();
        let surplus = surplus(idle.len());
        let oldest_kept = match surplus {
            0 => return 0,
            all if all >= idle.len() => u64::MAX,
            some => *idle.select_nth_unstable(some).1,
        };
        buckets.values().for_each(|bucket| bucket.close_idle_before(oldest_kept, of));
        surplus
    }

    /// One task per pool, while there is anything in it, closes what has been idle for too long.
    fn keep_swept(&self) {
        if self.sweeping.replace(true) {
            return;
        }
        let pool = self.stock.pool.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.sweep();
                if pool.buckets.borrow().is_empty() {
                    pool.sweeping.set(false);
                    return;
                }
            }
        });
    }

    fn sweep(&self) {
        self.buckets.borrow_mut().retain(|_, bucket| {
            bucket.sweep();
            !bucket.is_forgettable(bucket_is_shared(bucket))
        });
        // HTTP/2 connections become idle without a word.
        self.trim();
    }
}

impl Lease {
    /// Sends a request and waits for the head of its response. To be awaited in one task until it ends.
    pub async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unanswered> {
        match self {
            Self::Http1(lease) => lease.send(request).await,
            Self::Http2(lease) => lease.send(request).await,
        }
    }

    /// Whether the connection had carried a request before, and was idle long enough for the endpoint to have closed
    /// it unnoticed.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.is_stale(),
            Self::Http2(lease) => lease.is_stale(),
        }
    }

    /// How the endpoint is reached, and why so.
    pub fn choice(&self) -> Choice {
        match self {
            Self::Http1(lease) => lease.choice(),
            Self::Http2(lease) => lease.choice(),
        }
    }

    /// As whom the other end of the tunnel that it runs through was proven.
    pub fn proven(&self) -> Option<Rc<Identity>> {
        match self {
            Self::Http1(lease) => lease.proven(),
            Self::Http2(lease) => lease.proven(),
        }
    }

    /// The trace that the stream of a tunnel is part of which it runs through: that of all its requests.
    pub fn trace(&self) -> Option<TraceId> {
        match self {
            Self::Http1(lease) => lease.trace(),
            Self::Http2(lease) => lease.trace(),
        }
    }

    /// What the connection is known by, where it goes straight to a neighbour's app.
    pub fn shortcut(&self) -> Option<&Shortcut> {
        match self {
            Self::Http1(lease) => lease.shortcut(),
            Self::Http2(lease) => lease.shortcut(),
        }
    }

    /// Whether its endpoint takes what it is sent, where much may gather for one that does not: hyper holds a head's bytes at most of
    /// what goes by HTTP/1.1.
    pub fn outflow(&self) -> Option<Rc<Outflow>> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(lease) => Some(lease.outflow()),
        }
    }

    /// Whether the connection had carried a request before.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.is_reused(),
            Self::Http2(lease) => lease.is_reused(),
        }
    }
}

/// Whether somebody besides the pool holds a bucket.
fn bucket_is_shared(bucket: &Rc<Bucket>) -> bool {
    Rc::strong_count(bucket) > 1
}

/// Idle HTTP/1.1 connections kept per key. A burst's connections beyond this are closed when they become idle.
pub const IDLE_PER_KEY: usize = 256;

/// Idle connections kept per cell. Each costs a socket and some 10 kB.
const IDLE_PER_CELL: usize = 1024;

/// One in this many is closed beyond what has to be, where there are too many.
const TRIMMED: usize = 16;

/// How often idle connections are looked at; a closed one is noticed at latest then.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Idle for longer than this, an HTTP/1.1 connection counts as stale: requests on it are kept so that they can be sent
/// again. Shorter than any server's keep-alive time-out, longer than the gap between requests under load, so that the
/// copy costs nothing when it matters.
const STALE_AFTER: Duration = Duration::from_millis(100);
