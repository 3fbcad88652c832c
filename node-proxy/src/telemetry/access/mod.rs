//! The access log: one JSON line per request, or per connection where the bytes are opaque, at its end.
//!
//! A cell serialises its lines into a buffer of its own and hands whole buffers to the one writer thread through a
//! bounded, lock-free queue; when the queue is full the lines are dropped and counted. It must never block a cell.

use std::{
    cell::RefCell,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, SystemTime},
};

use config::{
    identity::Identity,
    name::{PodName, PolicyName, RouteName, ServiceName, TenantId},
};

pub(crate) use self::line::rfc3339;
pub use self::writer::{AccessLogError, Target, Writer};
use self::{line::Line, process::ToDaemon, writer::Outbox};
use super::Reason;
use crate::hbone::fields::{Baggage, TraceId};

mod line;
mod process;
mod writer;

/// What is known of a request or connection when it ends.
#[derive(Debug)]
pub struct Record<'a> {
    /// `outbound` or `inbound`, as seen from the pod whose tree carried it.
    pub direction: &'static str,
    /// `tcp`, `http/1.1`, `h2`.
    pub protocol: &'static str,
    /// The pod whose tree carried it.
    pub workload: &'a PodName,
    /// The caller's address.
    pub source: SocketAddr,
    /// The caller's pod, where its address belongs to one.
    pub source_workload: Option<&'a PodName>,
    /// As whom the caller is proven.
    pub source_principal: Option<&'a Identity>,
    /// What the caller's proxy claims of it, unproven.
    pub claimed: Option<&'a Baggage>,
    /// Where the caller meant to connect to.
    pub destination: SocketAddr,
    /// The Service that is.
    pub service: Option<&'a ServiceName>,
    /// The pod that answered.
    pub destination_workload: Option<&'a PodName>,
    /// As whom the other end of the tunnel was proven.
    pub destination_principal: Option<&'a Identity>,
    /// The route that matched.
    pub route: Option<&'a RouteName>,
    /// The rule of it.
    pub rule: Option<&'a str>,
    /// The endpoint chosen.
    pub endpoint: Option<SocketAddr>,
    /// `direct`, `network`, `local` (to the tree's own app), `passthrough`.
    pub delivery: Option<&'static str>,
    /// Why it was reached so: one of a closed set of words.
    pub delivery_why: Option<&'static str>,
    /// The trace that the tunnel's stream is part of.
    pub trace: Option<TraceId>,
    /// The request's method.
    pub method: Option<&'a http::Method>,
    /// The request's authority.
    pub authority: Option<&'a str>,
    /// The request's path, without the query (which may hold secrets).
    pub path: Option<&'a str>,
    /// The status answered.
    pub status: Option<u16>,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// From accept or head to the end.
    pub duration: Duration,
    /// Until the upstream connection was there; 0 where it was pooled.
    pub connect: Option<Duration>,
    /// Until the first byte or head of the answer.
    pub first_byte: Option<Duration>,
    /// Why it was refused or ended early.
    pub reason: Option<Reason>,
    /// The object that says so.
    pub policy: Option<&'a PolicyName>,
}

impl<'a> Record<'a> {
    /// Of what was ended for `reason` before anything of it was served: no more is known than `ends`, its source and its
    /// destination.
    pub fn unserved(
        direction: &'static str,
        protocol: &'static str,
        workload: &'a PodName,
        ends: (SocketAddr, SocketAddr),
        reason: Reason,
    ) -> Self {
        Self {
            direction,
            protocol,
            workload,
            source: ends.0,
            source_workload: None,
            source_principal: None,
            claimed: None,
            destination: ends.1,
            service: None,
            destination_workload: None,
            destination_principal: None,
            route: None,
            rule: None,
            endpoint: None,
            delivery: None,
            delivery_why: None,
            trace: None,
            method: None,
            authority: None,
            path: None,
            status: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            connect: None,
            first_byte: None,
            reason: Some(reason),
            policy: None,
        }
    }
}

/// An authority or host without user information: a request with one is refused, and its password is not written down.
pub fn after_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Where a cell's lines go; one per lane, made by [`Writer::for_cell`]. The default writes nothing.
#[derive(Debug, Default)]
pub struct AccessLog(Option<Lines>);

#[derive(Debug)]
struct Lines {
    outlet: Outlet,
    /// Lines not handed over yet.
    buffer: RefCell<Vec<u8>>,
    line: RefCell<Line>,
}

/// Where a full buffer goes.
#[derive(Debug)]
enum Outlet {
    /// To the writer thread of this process.
    Writer(Arc<Outbox>),
    /// To that of the daemon, from a process of its own.
    Daemon(ToDaemon),
}

impl AccessLog {
    fn new(outbox: Arc<Outbox>, tenant: &TenantId) -> Self {
        Self::over(Outlet::Writer(outbox), tenant)
    }

    /// The log of a cell in a process of its own, over the socket that [`Writer::for_process`] gave.
    pub fn to_daemon(socket: OwnedFd, tenant: &TenantId) -> Self {
        Self::over(Outlet::Daemon(ToDaemon::new(socket)), tenant)
    }

    fn over(outlet: Outlet, tenant: &TenantId) -> Self {
        let line = RefCell::new(Line::new(&tenant.to_string()));
        Self(Some(Lines { outlet, buffer: RefCell::default(), line }))
    }

    /// Whether anything is written at all; ask before gathering facts for a [`Record`].
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds one line to the buffer, and hands the buffer over when it is full; never blocks.
    pub fn write(&self, record: &Record<'_>) {
        let Some(lines) = &self.0 else { return };
        let mut buffer = lines.buffer.borrow_mut();
        lines.line.borrow_mut().write(&mut buffer, SystemTime::now(), record);
        if buffer.len() >= BATCH_BYTES {
            lines.hand_over(&mut buffer);
        }
    }

    /// Hands over what is there; the cell calls this at every heartbeat and at its end.
    pub fn flush(&self) {
        let Some(lines) = &self.0 else { return };
        let mut buffer = lines.buffer.borrow_mut();
        if !buffer.is_empty() {
            lines.hand_over(&mut buffer);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Lines {
    fn hand_over(&self, buffer: &mut Vec<u8>) {
        match &self.outlet {
            Outlet::Writer(outbox) => outbox.take(buffer),
            Outlet::Daemon(daemon) => {
                daemon.send(buffer);
                buffer.clear();
            }
        }
    }
}

/// A buffer is handed over when it holds this much: some 40 lines, so that the queue is touched rarely.
const BATCH_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests;
