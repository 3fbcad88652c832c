//! The access log: one JSON line per request, or per connection where the bytes are opaque, at its end.
//!
//! A line is made on the cell and handed over through a bounded queue; when the queue is full the line is dropped and
//! counted. It must never block a cell.

use std::{net::SocketAddr, time::Duration};

use config::name::{PodName, RouteName, ServiceName};

use super::Reason;

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
    /// Where the caller meant to connect to.
    pub destination: SocketAddr,
    /// The Service that is.
    pub service: Option<&'a ServiceName>,
    /// The pod that answered.
    pub destination_workload: Option<&'a PodName>,
    /// The route that matched.
    pub route: Option<&'a RouteName>,
    /// The rule of it.
    pub rule: Option<&'a str>,
    /// The endpoint chosen.
    pub endpoint: Option<SocketAddr>,
    /// `direct`, `network`, `local` (to the tree's own app), `passthrough`.
    pub delivery: Option<&'static str>,
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
}

/// Where a cell's lines go. Cheap to clone; one per cell.
#[derive(Debug, Clone, Default)]
pub struct AccessLog {}

impl AccessLog {
    /// Whether anything is written at all; ask before gathering facts for a [`Record`].
    pub fn is_on(&self) -> bool {
        false
    }

    /// Hands over one line; never blocks.
    pub fn write(&self, _record: &Record<'_>) {}
}
