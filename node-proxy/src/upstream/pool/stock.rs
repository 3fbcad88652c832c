//! What the buckets of one pool share: settings, and how many connections lie idle in all of them.
//!
//! It must never be asked to trim while a bucket is borrowed.

use std::{cell::Cell, rc::Weak};

use super::{Pool, Settings, http1::Connection};

/// The idle connections of a cell, as a number.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) settings: Settings,
    pub(super) pool: Weak<Pool>,
    /// Idle HTTP/1.1 connections; HTTP/2 ones are looked at when one is added and at every sweep.
    idle: Cell<usize>,
    /// Of those, the ones with a socket of their own.
    sockets: Cell<usize>,
    /// Counts up with every connection that becomes idle: which of two has been so for longer.
    parked: Cell<u64>,
    /// No connection is kept any more.
    closed: Cell<bool>,
}

impl Stock {
    pub(super) fn new(settings: Settings, pool: Weak<Pool>) -> Self {
        Self {
            settings,
            pool,
            idle: Cell::new(0),
            sockets: Cell::new(0),
            parked: Cell::new(0),
            closed: Cell::new(false),
        }
    }

    /// Keeps no connection from now on.
    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The place of a connection that becomes idle now, among all that ever did.
    pub(super) fn park(&self) -> u64 {
        let nth = self.parked.get();
        self.parked.set(nth + 1);
        nth
    }

    pub(super) fn added(&self, connection: &Connection) {
        self.idle.set(self.idle.get() + 1);
        self.sockets.set(self.sockets.get() + usize::from(connection.has_socket()));
    }

    pub(super) fn removed(&self, connection: &Connection) {
        self.idle.set(self.idle.get() - 1);
        self.sockets.set(self.sockets.get() - usize::from(connection.has_socket()));
    }

    /// Idle HTTP/1.1 connections with a socket of their own.
    pub(super) fn sockets(&self) -> usize {
        self.sockets.get()
    }

    /// Closes the oldest where there are too many.
    pub(super) fn trim_if_over(&self) {
        if self.idle.get() > self.settings.most_idle {
            self.trim();
        }
    }

    /// As [`Stock::trim_if_over`], counting HTTP/2 connections too.
    pub(super) fn trim(&self) {
        // Without a pool, whoever gives a connection back is the last to know of it.
        if let Some(pool) = self.pool.upgrade() {
            pool.trim();
        }
    }
}
