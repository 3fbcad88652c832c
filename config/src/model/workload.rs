//! Pods and namespaces: who and where they are, and what was declared of them.
//!
//! Facts only, as the source gives them; what follows from them (who may call whom, who is probed) is decided
//! elsewhere.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    identity::Identity,
    name::{Namespace, NodeName, PodName, PortName, TenantId},
};

/// Labels, which selectors match.
pub type Labels = BTreeMap<String, String>;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: Namespace,
    /// Its labels, among them `kubernetes.io/metadata.name`, which every cluster gives every namespace.
    pub labels: Labels,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its namespace and name.
    pub pod: PodName,
    /// Its UID, when the source knows one: an address that is re-used belongs to another UID.
    pub uid: Option<String>,
    /// Who owns it.
    pub tenant: TenantId,
    /// Whom its connections speak as.
    pub identity: Identity,
    /// Its labels.
    pub labels: Labels,
    /// The node it runs on (`spec.nodeName`), when the source knows one.
    pub node: Option<NodeName>,
    /// Whether a mesh's data plane (this one, or another that speaks the same protocol) answers for it on port 15008.
    pub meshed: bool,
    /// Its addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// The file that names its network namespace; `None` for a pod that is not on this machine.
    pub netns: Option<PathBuf>,
    /// Ports its containers declare.
    pub ports: Vec<ContainerPort>,
    /// What the kubelet may ask it over the network.
    pub probes: Vec<Probe>,
    /// What capture must leave alone.
    pub exclusions: Exclusions,
    /// The proxy that its connections have to come through, as the source names it; never an address to go around.
    #[serde(default)]
    pub waypoint: Option<String>,
    /// Whether it has the container of a sidecar, where the source on this machine says so. It is told to nobody else: what follows from it
    /// for others is `meshed`.
    #[serde(skip)]
    pub sidecar: bool,
}

impl Workload {
    /// A pod of which nothing more is known than who it is.
    pub fn new(pod: PodName, tenant: TenantId, identity: Identity) -> Self {
        Self {
            pod,
            uid: None,
            tenant,
            identity,
            labels: Labels::new(),
            node: None,
            meshed: false,
            addresses: Vec::new(),
            netns: None,
            ports: Vec::new(),
            probes: Vec::new(),
            exclusions: Exclusions::default(),
            waypoint: None,
            sidecar: false,
        }
    }
}

/// A port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerPort {
    /// Its name, which a Service's `targetPort` may refer to.
    pub name: Option<PortName>,
    /// Its number.
    pub number: u16,
}

/// A question of the kubelet's that comes over the network: a liveness, readiness or start-up probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The pod's port, a name resolved already.
    pub port: u16,
    /// What is asked.
    pub check: ProbeCheck,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum ProbeCheck {
    /// `GET` of a path.
    Http {
        /// Clear, or within TLS.
        scheme: HttpScheme,
        /// Path and query, as they stand in the request line.
        path: String,
        /// The headers that the probe declares.
        headers: Vec<(String, String)>,
    },
    /// Whether a connection opens.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service asked for; empty for the whole server.
        service: String,
    },
}

/// How an HTTP probe is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpScheme {
    /// In the clear.
    Http,
    /// Within TLS, which ends in the app.
    Https,
}

/// Traffic that capture leaves alone (annotations `canopy.mesh/exclude-*`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusions {
    /// Destination ports of outbound connections that pass unchanged.
    pub outbound_ports: Vec<u16>,
    /// Destination networks of outbound connections that pass unchanged.
    pub outbound_cidrs: Vec<IpNet>,
    /// Local ports whose inbound connections pass unchanged.
    pub inbound_ports: Vec<u16>,
}
