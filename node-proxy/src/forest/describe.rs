//! What `canopy tree` shows: tenant → identity → listeners → live connections, with what each cell uses.
//!
//! Plain, serialisable data; the admin socket sends it as JSON. It must never carry a secret.

use std::{collections::BTreeMap, net::SocketAddr};

use config::{
    identity::Identity,
    name::{PodName, TenantId},
};
use serde::{Deserialize, Serialize};

/// The whole forest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ForestDescription {
    /// Name of this daemon's instance.
    pub instance: String,
    /// `CARGO_PKG_VERSION` of the daemon.
    pub canopy_version: String,
    /// How connections are steered: `ebpf`, `iptables`.
    pub redirect: String,
    /// Version of the configuration in force.
    pub configuration_version: u64,
    /// By tenant.
    pub cells: Vec<CellDescription>,
    /// Pods that should have a tree and have none.
    #[serde(default)]
    pub waiting: Vec<WaitingDescription>,
}

/// A pod that is tried again until it can be planted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingDescription {
    /// The pod.
    pub pod: PodName,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is in the way, and what to do.
    pub problem: String,
}

/// One tenant's cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CellDescription {
    /// Whose it is.
    pub tenant: TenantId,
    /// `running`, `draining`, `restarting (2 panics)`, …
    pub state: String,
    /// How often it was restarted.
    pub restarts: u64,
    /// What it uses.
    pub usage: Usage,
    /// Its trees.
    pub trees: Vec<TreeDescription>,
}

impl CellDescription {
    /// Takes in what a lane says of its part of the trees.
    pub(super) fn join(&mut self, lane: Vec<TreeDescription>) {
        for tree in lane {
            match self.trees.iter_mut().find(|known| known.pod == tree.pod) {
                Some(known) => known.join(tree),
                None => self.trees.push(tree),
            }
        }
    }
}

impl TreeDescription {
    fn join(&mut self, other: Self) {
        self.connections.extend(other.connections);
        self.connections.sort_by_key(|connection| std::cmp::Reverse(connection.age_ms));
        self.connections.truncate(CONNECTIONS_SHOWN);
        self.connections_open += other.connections_open;
    }
}

/// What a cell has used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU seconds of its threads' clocks.
    pub cpu_seconds: f64,
    /// Live bytes in its arena.
    pub heap_bytes: u64,
    /// Connections since start.
    pub connections: u64,
    /// Connections now.
    pub connections_open: u64,
    /// Requests since start.
    pub requests: u64,
    /// Requests now.
    pub requests_in_flight: u64,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
    /// Refusals by reason, those that are not 0.
    pub refusals: BTreeMap<String, u64>,
}

/// One workload's listeners and connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TreeDescription {
    /// The pod.
    pub pod: PodName,
    /// As whom it speaks.
    pub identity: Identity,
    /// How its certificate fares.
    #[serde(default)]
    pub certificate: Option<CertificateDescription>,
    /// Its listeners.
    pub listeners: Vec<ListenerDescription>,
    /// Connections open now, oldest first, at most `CONNECTIONS_SHOWN`.
    pub connections: Vec<ConnectionDescription>,
    /// Connections open now.
    pub connections_open: u64,
}

/// An identity's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateDescription {
    /// Where it comes from: `embedded`, `files`.
    pub authority: String,
    /// Its number with its authority; none while there is no certificate.
    pub serial: Option<String>,
    /// Its first second, since the epoch.
    pub not_before: Option<u64>,
    /// Its last second, since the epoch.
    pub not_after: Option<u64>,
    /// Why there is none, or no newer one.
    pub problem: Option<String>,
}

/// One listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListenerDescription {
    /// `outbound` or `inbound`.
    pub side: String,
    /// Where it is bound, in the pod's namespace.
    pub address: SocketAddr,
}

/// One live connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionDescription {
    /// `outbound` or `inbound`.
    pub side: String,
    /// The caller.
    pub client: SocketAddr,
    /// Where it meant to connect to.
    pub destination: SocketAddr,
    /// The Service, `NAMESPACE/NAME:PORT`.
    pub service: Option<String>,
    /// `tcp`, `http/1.1`, `h2`.
    pub protocol: String,
    /// Milliseconds since it was accepted.
    pub age_ms: u64,
    /// Requests on it so far; 0 for opaque bytes.
    pub requests: u64,
}

/// At most so many connections of a tree are listed, so that a description stays small.
pub const CONNECTIONS_SHOWN: usize = 50;
