//! The model: what every source (files, Kubernetes API, xDS) lowers into, and what a tenant's snapshot is
//! compiled from.
//!
//! Plain data, checked when it was lowered, serialisable so that it can cross a process boundary. It must
//! never hold anything compiled (regexes, lookup tables): that is the snapshot's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    identity::TrustDomain,
    name::{EntryName, Namespace, PodName, PolicyName, PortName, RouteName, ServiceName, TenantId},
    opt_in::Kept,
};

pub use self::budget::{Budget, Effect};
pub use self::external::{Audience, ServiceEntry};
pub use self::members::Members;
pub use self::network::{
    LabelExpression, LabelOperator, LabelSelector, NetworkPeer, NetworkPolicy, NetworkPort, NetworkRule,
    PortRange, Transport, has_all,
};
pub(crate) use self::peers::is_about;
pub use self::peers::{PeerRule, Peers};
pub use self::reach::{Here, Reach, Topology, ZONE_LABEL, Zone, ZoneError};
pub use self::route::{
    Backend, BackendTarget, Filter, HeaderEdit, HeaderMatch, HttpRoute, InvalidBackend, Match, Mirror,
    Parent, PathEdit, PathMatch, QueryMatch, Redirect, Rewrite, RpcMatch, Rule, Timeouts, ValueMatch,
};
pub use self::security::{
    Action, AuthorizationPolicy, AuthorizationRule, Clause, ConnectionMatch, PeerAuthentication, PeerMode,
    Scope, TextMatch,
};
pub use self::workload::{
    ContainerPort, Exclusions, HttpScheme, Labels, NamespaceFacts, Probe, ProbeCheck, Workload,
};

mod budget;
mod external;
mod members;
mod network;
mod peers;
mod reach;
mod route;
mod security;
mod workload;

/// Everything a node knows, after lowering. Immutable; a change makes a new one that shares what did not change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// Counts up with every accepted change, from 1; 0 is the empty mesh.
    pub version: u64,
    /// The trust domain of all identities of this mesh.
    pub trust_domain: TrustDomain,
    /// Every tenant that has a namespace here.
    pub tenants: BTreeMap<TenantId, Arc<Tenant>>,
    /// Which tenant a namespace belongs to.
    pub membership: BTreeMap<Namespace, TenantId>,
    /// Every namespace that anything is known of.
    pub namespaces: BTreeMap<Namespace, Arc<NamespaceFacts>>,
    /// Every pod that is known, on this node or elsewhere.
    pub workloads: BTreeMap<PodName, Arc<Workload>>,
    /// Every Service, with its endpoints.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// Every accepted HTTPRoute and GRPCRoute whose parent is a Service.
    pub routes: BTreeMap<RouteName, Arc<HttpRoute>>,
    /// Every AuthorizationPolicy that is enforced.
    pub authorization: BTreeMap<PolicyName, Arc<AuthorizationPolicy>>,
    /// Every PeerAuthentication.
    pub peer_authentication: BTreeMap<PolicyName, Arc<PeerAuthentication>>,
    /// Every NetworkPolicy.
    pub network_policies: BTreeMap<PolicyName, Arc<NetworkPolicy>>,
    /// Every ServiceEntry that names anything that could be dialled.
    pub service_entries: BTreeMap<EntryName, Arc<ServiceEntry>>,
    /// What is somebody's of whom a control plane said something that cannot be taken in, or that nobody is reached by: where nothing
    /// else is known of it, it must not be taken for outside.
    pub guarded: BTreeSet<IpAddr>,
}

/// A tenant: who belongs to it and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its key.
    pub id: TenantId,
    /// Its namespaces; only a `Tenant` object or the namespace itself can put one here.
    pub namespaces: Vec<Namespace>,
    /// Whether its cell is a thread or a process.
    pub isolation: Isolation,
    /// Where its workloads may connect to.
    pub egress: Egress,
    /// What it may use on each node.
    pub budget: Budget,
    /// The user of the node that may see what it uses, and is told what happens to it.
    pub owner: Option<u32>,
    /// Objects of its namespaces for which its budget has no room.
    pub left_out: u64,
}

impl Tenant {
    /// Whether it keeps its pods to the mesh, as far as labels go. Only its `Tenant` object can say so: where a namespace by itself is
    /// kept, or one whose own object says otherwise, that stands in for one that is not in force.
    pub fn kept(&self) -> Kept {
        match (self.egress, &self.id) {
            (Egress::Any, _) => Kept::No,
            (Egress::Mesh, TenantId::Tenant(_)) => Kept::Yes,
            (Egress::Mesh, TenantId::Namespace(_)) | (Egress::Doubtful, _) => Kept::Perhaps,
        }
    }

    /// Kept to the mesh, since a `Tenant` that is not in force may say so of one of its namespaces.
    #[must_use]
    pub fn kept_in_doubt(self) -> Self {
        let egress = match (self.egress, &self.id) {
            // In the word that every node knows: of a namespace by itself it means no more.
            (Egress::Any, TenantId::Namespace(_)) => Egress::Mesh,
            (Egress::Any, TenantId::Tenant(_)) => Egress::Doubtful,
            (egress @ (Egress::Mesh | Egress::Doubtful), _) => egress,
        };
        Self { egress, ..self }
    }
}

/// The isolation class of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A thread of the daemon.
    #[default]
    Thread,
    /// A child process with a cgroup of its own.
    Process,
}

/// Where a tenant's workloads may connect to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Anywhere; unknown destinations pass through unchanged.
    #[default]
    Any,
    /// Only Services and workloads of the mesh.
    Mesh,
    /// The same, for the sake of a `Tenant` that names a namespace of this one and is not in force. A node that does not know the word
    /// keeps it to the mesh, too, as a tenant that it cannot read.
    Doubtful,
}

impl Egress {
    /// Whether nothing is reached but the mesh.
    pub fn is_mesh(self) -> bool {
        self != Self::Any
    }
}

/// A Service and what is behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its namespace and name.
    pub name: ServiceName,
    /// Its cluster IPs; empty for a headless Service.
    pub vips: Vec<IpAddr>,
    /// Its ports, numbers unique.
    pub ports: Vec<ServicePort>,
    /// Who is behind it, on whatever port.
    pub members: Members,
    /// The proxy that connections to it have to come through, as the source names it; never an address to go around.
    #[serde(default)]
    pub waypoint: Option<String>,
    /// Which of its endpoints connections go to.
    #[serde(default)]
    pub reach: Reach,
    /// For how many seconds after a client's last connection its next one goes to the same endpoint (`sessionAffinity: ClientIP`).
    #[serde(default)]
    pub affinity: Option<u32>,
}

impl Service {
    /// One without addresses, ports and members, whose connections go to any endpoint.
    pub fn new(name: ServiceName) -> Self {
        Self {
            name,
            vips: Vec::new(),
            ports: Vec::new(),
            members: Members::default(),
            waypoint: None,
            reach: Reach::default(),
            affinity: None,
        }
    }
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// The port that clients connect to.
    pub number: u16,
    /// Its name, unique within the Service.
    pub name: Option<PortName>,
    /// What is spoken on it, by `appProtocol` or the port's name.
    pub protocol: AppProtocol,
    /// Who answers on it.
    pub endpoints: Vec<Endpoint>,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// Nothing was declared: detect it.
    #[default]
    Undeclared,
    /// HTTP/1.1 (`http`, port names `http` and `http-*`).
    Http1,
    /// HTTP/2 with prior knowledge (`kubernetes.io/h2c`, `http2`, `grpc`, and port names alike).
    Http2,
    /// Opaque bytes (`tcp`, `tls`, `https`, `mysql`, `redis`, … and anything that is known not to be plain HTTP).
    Tcp,
}

/// One address behind a Service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Pod address and target port.
    pub address: SocketAddr,
    /// Whether new connections may go there.
    pub ready: bool,
    /// The pod behind it, when it is known.
    pub workload: Option<PodName>,
    /// What the endpoint's own port says it speaks; `Undeclared` means as the Service's port.
    pub protocol: AppProtocol,
    /// It ends, and still serves: new connections may go there where none of its Service is ready.
    #[serde(default)]
    pub draining: bool,
    /// Where it is, and for whom it is meant; `None` where nothing follows from that.
    #[serde(default)]
    pub topology: Option<Box<Topology>>,
}

impl Endpoint {
    /// One that is ready, of which nothing more is known.
    pub fn new(address: SocketAddr, protocol: AppProtocol) -> Self {
        Self { address, ready: true, workload: None, protocol, draining: false, topology: None }
    }
}
