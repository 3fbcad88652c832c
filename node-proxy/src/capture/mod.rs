//! Stage 1: a connection that steering brought to one of a tree's listeners, and where it was going.
//!
//! How it was brought is the crate `ebpf-redirect`'s affair. This stage must never wait: it asks the kernel once.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
};

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

/// Asks where a captured connection comes from and goes to. Everything after this stage compares plain addresses, and what a pod
/// opens comes from an address of that pod.
pub fn origin(redirect: &dyn Redirect, captured: &Captured) -> Result<Origin, CaptureError> {
    let origin = match (&captured.arrival, captured.stream.socket()) {
        (Arrival::Delivered(delivered), _) => delivered.origin,
        (Arrival::Socket, Some(socket)) => {
            redirect.origin(socket, captured.side, captured.accept_addr).map_err(CaptureError)?
        }
        (Arrival::Socket, None) => return Err(CaptureError(RedirectError::NotSteered)),
    };
    let (destination, client) = (canonical(origin.destination), canonical(origin.client));
    let client = match (captured.side, &captured.arrival) {
        (Side::Outbound, Arrival::Socket) => own(&captured.tree.workload.addresses, client),
        _ => client,
    };
    Ok(Origin { destination, client })
}

/// Where in its pod a caller is. Its application may bind any address that is on an interface there, of loopback or one that it put
/// on it itself: the network would carry none but the pod's, so no receiver's `ipBlocks` may believe another either. It is not
/// refused, as an address of a second network is bound honestly: it is seen at the pod's own, as it is through a tunnel.
fn own(addresses: &[IpAddr], client: SocketAddr) -> SocketAddr {
    if addresses.contains(&client.ip()) {
        return client;
    }
    let alike = addresses.iter().find(|own| own.is_ipv4() == client.is_ipv4());
    // A workload has an address; one that had none would be nowhere.
    let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    SocketAddr::new(*alike.or(addresses.first()).unwrap_or(&nowhere), client.port())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_at_an_address_of_its_pod_whatever_it_bound() {
        let pod = ["10.0.0.7", "fd00::7"].map(|address| address.parse().unwrap());
        let (v4_only, v6_only) = (&pod[..1], &pod[1..]);
        let table: &[(&[IpAddr], &str, &str)] = &[
            (&pod, "10.0.0.7:40000", "10.0.0.7:40000"),
            (&pod, "[fd00::7]:40000", "[fd00::7]:40000"),
            (&pod, "192.0.2.9:40000", "10.0.0.7:40000"),
            (&pod, "127.0.0.5:40000", "10.0.0.7:40000"),
            (&pod, "[2001:db8::9]:40000", "[fd00::7]:40000"),
            (&pod, "[::1]:40000", "[fd00::7]:40000"),
            (v4_only, "[2001:db8::9]:40000", "10.0.0.7:40000"),
            (v6_only, "192.0.2.9:40000", "[fd00::7]:40000"),
            (&[], "192.0.2.9:40000", "0.0.0.0:40000"),
        ];
        for (addresses, bound, seen) in table {
            let own = own(addresses, bound.parse().unwrap());
            assert_eq!(own, seen.parse().unwrap(), "{bound} of a pod at {addresses:?}");
        }
    }
}
