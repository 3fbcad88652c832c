//! Stage 3: as whom a connection speaks.
//!
//! Outbound, the listener it arrived on names the workload. Inbound, a delivery says who was proven to call; on a plain socket the
//! caller is known by address for the log only, and is never authenticated. The certificates that prove it are made, kept and
//! judged in the files below. This stage must never derive an identity from an address.

use std::sync::Arc;

use config::{identity::Identity, name::PodName};
use ebpf_redirect::Side;

use crate::{accept::Accepted, capture::Arrival};

pub use self::tls::{ALPN, peer_identity, provider};

// What a certificate says, and whether that is believed.
pub mod leaf;
pub mod revocation;
pub mod trust;
pub mod verify;

mod believed;

pub mod failure;

// A workload's own: where it comes from, how it is kept, what is spoken with it.
pub mod certificate;

pub mod authority;

pub mod credentials;

mod tls;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// Who is at the client's end.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The identity that is proven; `None` for an inbound connection without a certificate.
    pub identity: Option<Identity>,
    /// The pod it seems to be, by address: for logs, never for decisions.
    pub pod: Option<PodName>,
}

/// A connection whose caller is known, or known to be unknown.
#[derive(Debug)]
pub struct Identified {
    /// The connection.
    pub accepted: Accepted,
    /// Its caller.
    pub caller: Arc<Caller>,
}

/// Names the caller of a connection. `pod_at_client` is the pod that has the client's address, for logs.
pub fn identify(accepted: Accepted, pod_at_client: Option<PodName>) -> Identified {
    if let Arrival::Delivered(delivered) = &accepted.captured.arrival {
        let caller = Caller { identity: Some(delivered.identity.clone()), pod: delivered.pod.clone() };
        return Identified { accepted, caller: Arc::new(caller) };
    }
    let workload = &accepted.captured.tree.workload;
    let caller = match accepted.captured.side {
        Side::Outbound => {
            Caller { identity: Some(workload.identity.clone()), pod: Some(workload.pod.clone()) }
        }
        Side::Inbound => Caller { identity: None, pod: pod_at_client },
    };
    Identified { accepted, caller: Arc::new(caller) }
}

#[cfg(test)]
mod tests;
