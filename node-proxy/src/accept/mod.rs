//! Stage 2: what a captured connection is going to, and which protocol it speaks.
//!
//! Declared protocols are believed; otherwise the first bytes decide, within a deadline, so that protocols in which the
//! server speaks first work too. This stage must never wait for more than it needs to decide.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use config::model::AppProtocol;
use ebpf_redirect::{Origin, Side};

use crate::{
    capture::{Arrival, Captured, Tree},
    cell::{Cell, Live},
    snapshot::{Destination, Snapshot, WorkloadEntry},
    telemetry::Reason,
};

pub use self::rewind::Rewind;

pub mod detect;
pub mod hbone;
mod reading;
mod rewind;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Opaque bytes.
    Tcp,
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A tunnel, whose streams are connections of their own.
    Hbone,
}

impl Protocol {
    /// As the access log names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Hbone => "hbone",
        }
    }
}

/// A connection whose destination and protocol are known.
#[derive(Debug)]
pub struct Accepted {
    /// As it was captured.
    pub captured: Captured,
    /// Its true ends.
    pub origin: Origin,
    /// What it is going to.
    pub destination: Destination,
    /// What it speaks.
    pub protocol: Protocol,
    /// Bytes that were read to find that out; they come before what the socket still holds.
    pub prefix: Bytes,
}

/// Why a connection ends before anything is known of it.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It was closed without a byte sent. Not an error: port probes and connection pools do it.
    #[error("the client closed the connection without sending anything")]
    Unused,
    /// The client broke it off.
    #[error("the client broke the connection off")]
    Broken(#[source] std::io::Error),
    /// Nobody says whether its destination is of the mesh.
    #[error("nobody says whether the destination is of the mesh: the control plane does not answer")]
    DestinationUnknown,
    /// Too little came too slowly to tell what it is.
    #[error("the client did not send the head of a request in time")]
    Slow,
}

impl AcceptError {
    /// The reason in log and metrics; `None` where there is nothing to report.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Unused => None,
            Self::Broken(_) => Some(Reason::ClientClosed),
            Self::DestinationUnknown => Some(Reason::DestinationUnknown),
            Self::Slow => Some(Reason::HeadTimeout),
        }
    }
}

/// Finds out where a connection is going and what it speaks.
pub async fn accept(cell: &Cell, mut captured: Captured, live: &Live) -> Result<Accepted, AcceptError> {
    let origin = live.origin;
    let destination = match destination(&cell.snapshot(), &captured.tree, captured.side, origin) {
        // Boxed, so that what is known does not pay for it.
        Destination::Outside if cell.finder.is_open(origin.destination.ip()) => {
            Box::pin(find(cell, &captured, origin)).await?
        }
        destination => destination,
    };
    let declared = destination.protocol();
    let (protocol, prefix) = match declared {
        _ if matches!(captured.arrival, Arrival::Delivered(_)) => (Protocol::Tcp, Bytes::new()),
        AppProtocol::Tcp => (Protocol::Tcp, Bytes::new()),
        AppProtocol::Undeclared => reading::undeclared(&mut captured.stream, &cell.limits).await?,
        AppProtocol::Http1 | AppProtocol::Http2 => {
            let is_to_end = || live.is_finishing();
            reading::http(&mut captured.stream, declared, &cell.limits, is_to_end).await?
        }
    };
    Ok(Accepted { captured, origin, destination, protocol, prefix })
}

/// What there is at a destination that the snapshot does not have, by whoever knows more.
async fn find(cell: &Cell, captured: &Captured, origin: Origin) -> Result<Destination, AcceptError> {
    let look = || match cell.snapshot().resolve(&captured.tree.workload.pod.namespace, origin.destination) {
        Destination::Outside => None,
        found => Some(found),
    };
    match cell.finder.find(origin.destination.ip(), look).await {
        Ok(found) => Ok(found.unwrap_or(Destination::Outside)),
        Err(_unknown) => {
            captured.stream.refuse(Reason::DestinationUnknown);
            Err(AcceptError::DestinationUnknown)
        }
    }
}

/// Outbound, whatever the destination's address says. Inbound, always the tree's own workload: the listener names it,
/// and the directory, which may be older or newer, is only asked what the port speaks.
fn destination(snapshot: &Snapshot, tree: &Tree, side: Side, origin: Origin) -> Destination {
    if side == Side::Outbound {
        return snapshot.resolve(&tree.workload.pod.namespace, origin.destination);
    }
    let known = snapshot.directory.workloads.get(&origin.destination.ip());
    match known.filter(|entry| entry.workload.pod == tree.workload.pod) {
        Some(entry) => {
            let protocol = entry.protocols.get(&origin.destination.port()).copied().unwrap_or_default();
            Destination::Workload { entry: Arc::clone(entry), protocol }
        }
        None => Destination::Workload {
            entry: Arc::new(WorkloadEntry {
                workload: Arc::clone(&tree.workload),
                protocols: HashMap::new(),
                answers: Vec::new(),
            }),
            protocol: AppProtocol::Undeclared,
        },
    }
}
