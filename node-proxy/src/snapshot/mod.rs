//! The immutable compiled configuration of one tenant: what a connection's destination is, which rules apply
//! to it, and who answers there.
//!
//! Compiled by `control::compile` off the data path, read by every stage. It must never change after it was
//! made, and never hold state of the data path (latencies, connections): that is the cell's.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use config::{
    identity::Identity,
    model::{AppProtocol, Budget, Egress, Here, Isolation, Mesh, Workload},
    name::{HostName, Namespace, PodName, ServiceName, TenantId},
};
use serde::{Deserialize, Serialize};

pub use self::cluster::{Affinity, Cluster, Endpoints, Narrowed, Narrowing};
pub use self::routes::RouteTable;
use self::{
    network::Network,
    policies::{External, Policies},
};

mod cluster;
pub mod network;
pub mod policies;
pub mod routes;

/// The compiled configuration of one tenant.
#[derive(Debug)]
pub struct Snapshot {
    /// The first `Mesh::version` that reads like this for the tenant: it stays while nothing the tenant sees changes.
    pub version: u64,
    /// Whose it is.
    pub tenant: TenantId,
    /// Whether its cell is a thread or a process.
    pub isolation: Isolation,
    /// Where this tenant's workloads may connect to.
    pub egress: Egress,
    /// What it may use.
    pub budget: Budget,
    /// Facts that all tenants share: who has which address.
    pub directory: Arc<Directory>,
    /// Where this tenant's own (consumer) routes replace the producer's.
    pub consumer_routes: ConsumerRoutes,
    /// What protects this tenant's workloads on this machine.
    pub policies: Arc<Policies>,
    /// Where they may go although egress is limited.
    pub external: Arc<External>,
    /// What a cell in a process of its own compiles the same from; none where the tenant never had one.
    pub source: Option<Arc<Source>>,
}

/// What a snapshot is compiled from: what a cell is told that shares no memory with who compiled it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The tenant's part of the mesh.
    pub mesh: Mesh,
    /// Addresses of this node.
    pub node_addresses: Arc<[IpAddr]>,
    /// Where it is.
    pub here: Here,
    /// What was found for hosts, by who wanted it.
    pub found: BTreeMap<(TenantId, HostName), Vec<IpAddr>>,
}

/// Consumer routes by caller's namespace, Service and port. Nested, so that a look-up borrows its keys.
#[derive(Debug, Default)]
pub struct ConsumerRoutes(pub HashMap<Namespace, HashMap<ServiceName, HashMap<u16, Arc<RouteTable>>>>);

impl ConsumerRoutes {
    /// The table that callers in `caller` have for a Service port, if it is not the producer's.
    pub fn table(&self, caller: &Namespace, service: &ServiceName, port: u16) -> Option<&Arc<RouteTable>> {
        self.0.get(caller)?.get(service)?.get(&port)
    }
}

/// Facts that all tenants share, held once. Each map is shared with the directory before it where nothing in it changed.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// Service ports by VIP and port.
    pub services: Arc<HashMap<SocketAddr, Arc<ServiceEntry>>>,
    /// Workloads by address, with what is known of their ports.
    pub workloads: Arc<HashMap<IpAddr, Arc<WorkloadEntry>>>,
    /// Addresses of all endpoints of all Services, ready or not.
    pub endpoints: Arc<HashSet<SocketAddr>>,
    /// Addresses of this node, from which its kubelet probes.
    pub node_addresses: Arc<[IpAddr]>,
    /// Which NetworkPolicies are about which pod of this machine.
    pub network: Arc<Network>,
    /// Addresses that are somebody's by whom nothing is answered here: of a resource that cannot be read, or of a Service behind a
    /// waypoint, whatever port is dialled. They are not outside.
    pub guarded: Arc<HashSet<IpAddr>>,
}

impl Directory {
    /// Whether any Service has this endpoint; ask it in `Balancer::retain`.
    pub fn is_endpoint(&self, address: SocketAddr) -> bool {
        self.endpoints.contains(&address)
    }

    /// Whether an address still means in `later` what it means here: a connection to it goes to the same pod.
    pub fn is_same_endpoint(&self, later: &Self, address: SocketAddr) -> bool {
        let gone = self.is_endpoint(address) && !later.is_endpoint(address);
        !gone && self.who(address) == later.who(address)
    }

    /// Which pod has an address, as whom it speaks, and whether it is reached by tunnel.
    fn who(&self, address: SocketAddr) -> Option<(&PodName, Option<&str>, &Identity, bool)> {
        let workload = &self.workloads.get(&address.ip().to_canonical())?.workload;
        Some((&workload.pod, workload.uid.as_deref(), &workload.identity, workload.meshed))
    }
}

/// One port of a Service, compiled.
#[derive(Debug)]
pub struct ServiceEntry {
    /// The Service.
    pub service: ServiceName,
    /// The port.
    pub port: u16,
    /// What is spoken on it; where nothing was declared, what the producer's routes are of.
    pub protocol: AppProtocol,
    /// Who answers.
    pub cluster: Arc<Cluster>,
    /// The producer's routes, or the default: everything to `cluster`.
    pub routes: Arc<RouteTable>,
}

/// One workload and what its ports speak.
#[derive(Debug)]
pub struct WorkloadEntry {
    /// The workload.
    pub workload: Arc<Workload>,
    /// What Services say of its ports; a port that is missing is undeclared.
    pub protocols: HashMap<u16, AppProtocol>,
    /// For which Services it answers; known of workloads of this machine alone.
    pub answers: Vec<Answers>,
}

/// A port of a Service, and the port that answers for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The Service.
    pub service: ServiceName,
    /// Its port.
    pub port: u16,
    /// The workload's.
    pub at: u16,
}

/// What a connection is going to.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A port of a Service, by VIP.
    Service {
        /// The port.
        entry: Arc<ServiceEntry>,
        /// The rules for this caller.
        routes: Arc<RouteTable>,
    },
    /// A workload, by its own address.
    Workload {
        /// The workload.
        entry: Arc<WorkloadEntry>,
        /// What its port speaks.
        protocol: AppProtocol,
    },
    /// Nothing this mesh knows: passes through unchanged.
    Outside,
}

impl Destination {
    /// The proxy that has to be gone through to get there, if one has. Who dials a pod of a Service by the pod's own address, has not
    /// dialled the Service.
    pub fn waypoint(&self) -> Option<&str> {
        match self {
            Self::Service { entry, .. } => entry.cluster.waypoint.as_deref(),
            Self::Workload { entry, .. } => entry.workload.waypoint.as_deref(),
            Self::Outside => None,
        }
    }

    /// What was declared for it. A port of which nothing was is HTTP for callers that have HTTPRoutes for it, and HTTP/2 for those that
    /// have GRPCRoutes.
    pub fn protocol(&self) -> AppProtocol {
        match self {
            Self::Service { entry, routes } => match entry.cluster.protocol {
                AppProtocol::Undeclared => routes.protocol,
                declared => declared,
            },
            Self::Workload { protocol, .. } => *protocol,
            Self::Outside => AppProtocol::Tcp,
        }
    }

    /// The Service, for logs.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service { entry, .. } => Some(&entry.service),
            Self::Workload { .. } | Self::Outside => None,
        }
    }
}

impl Snapshot {
    /// The snapshot of a tenant before its first configuration: everything is outside.
    pub fn empty(tenant: TenantId) -> Self {
        Self {
            version: 0,
            tenant,
            isolation: Isolation::default(),
            egress: Egress::Any,
            budget: Budget::default(),
            directory: Arc::default(),
            consumer_routes: ConsumerRoutes::default(),
            policies: Arc::default(),
            external: Arc::default(),
            source: None,
        }
    }

    /// What a connection of a workload in namespace `caller` to `destination` is going to.
    pub fn resolve(&self, caller: &Namespace, destination: SocketAddr) -> Destination {
        let destination = canonical(destination);
        if let Some(entry) = self.directory.services.get(&destination) {
            let own = self.consumer_routes.table(caller, &entry.service, entry.port);
            let routes = Arc::clone(own.unwrap_or(&entry.routes));
            return Destination::Service { entry: Arc::clone(entry), routes };
        }
        if let Some(entry) = self.directory.workloads.get(&destination.ip()) {
            let protocol = entry.protocols.get(&destination.port()).copied().unwrap_or_default();
            return Destination::Workload { entry: Arc::clone(entry), protocol };
        }
        Destination::Outside
    }

    /// What is known of a workload now; what was known of it before where nothing is.
    pub fn now<'a>(&'a self, workload: &'a Arc<Workload>) -> &'a Arc<Workload> {
        let address = workload.addresses.first().map(IpAddr::to_canonical);
        let entry = address.and_then(|address| self.directory.workloads.get(&address));
        entry.filter(|entry| entry.workload.pod == workload.pod).map_or(workload, |entry| &entry.workload)
    }

    /// Where in a workload of this machine a port of a Service is answered: at the address that was `reached`, or at another
    /// of its own.
    pub fn answer(
        &self,
        workload: &Workload,
        reached: IpAddr,
        (name, namespace, port): (&str, &str, u16),
    ) -> Option<SocketAddr> {
        let is_it = |answers: &&Answers| {
            let Answers { service, port: asked, .. } = answers;
            *asked == port && service.name.as_str() == name && service.namespace.as_str() == namespace
        };
        std::iter::once(&reached).chain(&workload.addresses).find_map(|ip| {
            let entry = self.directory.workloads.get(&ip.to_canonical())?;
            let own = entry.workload.pod == workload.pod;
            let found = entry.answers.iter().filter(|_| own).find(is_it)?;
            Some(SocketAddr::new(ip.to_canonical(), found.at))
        })
    }

    /// The Service of this name and namespace, where a workload of this machine answers for any port of it at this address.
    pub fn answers_at(
        &self,
        workload: &Workload,
        at: SocketAddr,
        (name, namespace): (&str, &str),
    ) -> Option<&ServiceName> {
        let entry = self.directory.workloads.get(&at.ip().to_canonical())?;
        let services = entry.answers.iter().filter(|answers| answers.at == at.port());
        let mut services =
            services.map(|answers| &answers.service).filter(|_| entry.workload.pod == workload.pod);
        services.find(|service| service.name.as_str() == name && service.namespace.as_str() == namespace)
    }

    /// Whether the configuration has this pod on this machine, whosever it is.
    pub fn is_here(&self, pod: &PodName) -> bool {
        self.directory.network.pods.contains_key(pod)
    }

    /// The pod that has an address, for logs.
    pub fn pod_at(&self, address: SocketAddr) -> Option<&PodName> {
        self.directory.workloads.get(&address.ip().to_canonical()).map(|entry| &entry.workload.pod)
    }
}

/// The one way to write an address that is looked up among those of objects: IPv4 inside IPv6 (`::ffff:a.b.c.d`) as IPv4, and
/// without scope and flow label, which no object has. ([`ebpf_redirect::canonical`] keeps them: a connection's true end
/// is dialled, and a link-local address cannot be without its scope.)
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
