//! Stage 1: a connection that steering brought to one of a tree's listeners, and where it was going.
//!
//! How it was brought is the crate `ebpf-redirect`'s affair. This stage must never wait: it asks the kernel once.

use std::{net::SocketAddr, os::fd::OwnedFd, rc::Rc, sync::Arc};

use config::{identity::Identity, model::Workload, name::PodName};
use ebpf_redirect::{Origin, Redirect, RedirectError, Side, canonical};

use crate::{
    hbone::fields::{Said, TraceId},
    stream::Stream,
    sys::netns::Netns,
    telemetry::Reason,
};

/// A workload's place in the forest, as the path needs it.
#[derive(Debug)]
pub struct Tree {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its network namespace.
    pub netns: Rc<Netns>,
    /// Unique for the life of the daemon, also when a pod of the same name comes back.
    pub id: u64,
    /// Tells the supervisor that somebody has it.
    pub presence: Presence,
}

/// Held by a tree, and so by each of its connections: the supervisor keeps the way between them and the pod's app as long as a
/// cell has it. A cell in a process of its own holds one end of a pair of sockets by it, whose other end tells when it is gone.
#[derive(Debug, Clone, Default)]
pub struct Presence(Arc<Option<OwnedFd>>);

/// Of somebody in another process.
impl From<OwnedFd> for Presence {
    fn from(end: OwnedFd) -> Self {
        Self(Arc::new(Some(end)))
    }
}

impl Presence {
    /// Whether nobody else has it, and so nobody can any more.
    pub fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// A connection as it came to a tree.
#[derive(Debug)]
pub struct Captured {
    /// What carries it.
    pub stream: Stream,
    /// What `accept4` gave as its peer.
    pub accept_addr: SocketAddr,
    /// Which of the tree's listeners.
    pub side: Side,
    /// Whose it is: the listener says so, no look-up.
    pub tree: Rc<Tree>,
    /// How it came.
    pub arrival: Arrival,
}

/// How a connection came to its tree.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// As a socket of one of the tree's listeners: steering knows its ends, nobody proved who calls.
    Socket,
    /// As bytes from another cell or node, which ran the caller's stages and proved who calls. What is in them is that
    /// side's affair: they go to the app unread.
    Delivered(Box<Delivered>),
}

/// What a delivery says of a connection.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Its true ends, as the proxy that delivers it states them.
    pub origin: Origin,
    /// As whom the caller was proven.
    pub identity: Identity,
    /// The pod that calls, as far as it is known: for logs.
    pub pod: Option<PodName>,
    /// The workload that calls, where another cell of this node delivers it: past the network, so that what the receiver's
    /// NetworkPolicies let in is the receiver's to evaluate.
    pub unseen_from: Option<Arc<Workload>>,
    /// The trace that it is part of: for logs.
    pub trace: Option<TraceId>,
    /// What was said with it: for logs.
    pub said: Option<Rc<Said>>,
}

/// Asks where a captured connection comes from and goes to. Everything after this stage compares plain addresses.
pub fn origin(redirect: &dyn Redirect, captured: &Captured) -> Result<Origin, CaptureError> {
    let origin = match (&captured.arrival, captured.stream.socket()) {
        (Arrival::Delivered(delivered), _) => delivered.origin,
        (Arrival::Socket, Some(socket)) => {
            redirect.origin(socket, captured.side, captured.accept_addr).map_err(CaptureError)?
        }
        (Arrival::Socket, None) => return Err(CaptureError(RedirectError::NotSteered)),
    };
    Ok(Origin { destination: canonical(origin.destination), client: canonical(origin.client) })
}

/// The origin of a connection is not known, so it cannot be carried.
#[derive(Debug, thiserror::Error)]
#[error("where the connection was going is not known")]
pub struct CaptureError(#[source] RedirectError);

impl CaptureError {
    /// The reason in log and metrics.
    pub fn reason(&self) -> Reason {
        match self.0 {
            RedirectError::NotSteered => Reason::NotSteered,
            _ => Reason::OriginUnknown,
        }
    }
}
