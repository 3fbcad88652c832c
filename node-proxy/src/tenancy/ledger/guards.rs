//! What is open now, in the ledger and in the row of who pays for it: counted in, and out again when it is dropped.
//!
//! Held by the cell's own thread; a guard must never pass to another.

use std::sync::{Arc, atomic::AtomicU64};

use ebpf_redirect::Side;

use super::{Ledger, add};
use crate::tenancy::meter::{self, Payer};

/// One open connection, in the ledger and in the row of who pays for it.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<Ledger>, Option<Payer>);

impl ConnectionGuard {
    /// Counts a connection in.
    pub fn open(ledger: &Arc<Ledger>) -> Self {
        add(&ledger.connections, 1);
        add(&ledger.connections_open, 1);
        let payer = meter::current();
        if let Some(payer) = &payer {
            add(&payer.row().connections, 1);
            add(&payer.row().connections_open, 1);
        }
        Self(Arc::clone(ledger), payer)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        add(&self.0.connections_open, u64::MAX);
        if let Some(payer) = &self.1 {
            add(&payer.row().connections_open, u64::MAX);
        }
    }
}

/// One open tunnel.
#[derive(Debug)]
pub struct TunnelGuard(Arc<Ledger>, Side);

impl TunnelGuard {
    /// Counts in a tunnel that was made (outbound) or accepted (inbound).
    pub fn open(ledger: &Arc<Ledger>, side: Side) -> Self {
        let guard = Self(Arc::clone(ledger), side);
        add(guard.counter(), 1);
        guard
    }

    fn counter(&self) -> &AtomicU64 {
        match self.1 {
            Side::Outbound => &self.0.tunnels_made,
            Side::Inbound => &self.0.tunnels_accepted,
        }
    }
}

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        add(self.counter(), u64::MAX);
    }
}

/// One request in flight, in the ledger and in the row of who pays for it.
#[derive(Debug)]
pub struct RequestGuard(Arc<Ledger>, Option<Payer>);

impl RequestGuard {
    /// Counts a request in.
    pub fn begin(ledger: &Arc<Ledger>) -> Self {
        add(&ledger.requests, 1);
        add(&ledger.requests_in_flight, 1);
        let payer = meter::current();
        if let Some(payer) = &payer {
            add(&payer.row().requests, 1);
            add(&payer.row().requests_in_flight, 1);
        }
        Self(Arc::clone(ledger), payer)
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        add(&self.0.requests_in_flight, u64::MAX);
        if let Some(payer) = &self.1 {
            add(&payer.row().requests_in_flight, u64::MAX);
        }
    }
}
