//! The immutable compiled configuration of one tenant: what a connection's destination is, which rules apply
//! to it, and who answers there.
//!
//! Compiled by `control::compile` off the data path, read by every stage. It must never change after it was
//! made, and never hold state of the data path (latencies, connections): that is the cell's.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use config::{
    model::{AppProtocol, Egress, Endpoint, Workload},
    name::{Namespace, PodName, ServiceName, TenantId},
};

pub use self::routes::RouteTable;

pub mod routes;

/// The compiled configuration of one tenant.
#[derive(Debug)]
pub struct Snapshot {
    /// `Mesh::version` it was compiled from.
    pub version: u64,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where this tenant's workloads may connect to.
    pub egress: Egress,
    /// Facts that all tenants share: who has which address.
    pub directory: Arc<Directory>,
    /// Routes by caller's namespace and Service port, where this tenant's own (consumer) routes replace the
    /// producer's.
    pub consumer_routes: HashMap<(Namespace, ServiceName, u16), Arc<RouteTable>>,
}

/// Facts that all tenants share, held once.
#[derive(Debug, Default)]
pub struct Directory {
    /// Service ports by VIP and port.
    pub services: HashMap<SocketAddr, Arc<ServiceEntry>>,
    /// Workloads by address, with what is known of their ports.
    pub workloads: HashMap<std::net::IpAddr, Arc<WorkloadEntry>>,
}

/// One port of a Service, compiled.
#[derive(Debug)]
pub struct ServiceEntry {
    /// The Service.
    pub service: ServiceName,
    /// The port.
    pub port: u16,
    /// What is spoken on it; `Http1` where it was undeclared but an HTTPRoute is attached.
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
}

/// The endpoints of one Service port.
#[derive(Debug)]
pub struct Cluster {
    /// The Service.
    pub service: ServiceName,
    /// The Service's port.
    pub port: u16,
    /// What the Service port speaks; an endpoint may say otherwise.
    pub protocol: AppProtocol,
    /// Ready and not ready ones.
    pub endpoints: Vec<Arc<Endpoint>>,
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
    /// What was declared for it.
    pub fn protocol(&self) -> AppProtocol {
        match self {
            Self::Service { entry, .. } => entry.protocol,
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
            egress: Egress::Any,
            directory: Arc::default(),
            consumer_routes: HashMap::new(),
        }
    }

    /// What a connection of a workload in namespace `caller` to `destination` is going to.
    pub fn resolve(&self, caller: &Namespace, destination: SocketAddr) -> Destination {
        if let Some(entry) = self.directory.services.get(&destination) {
            let own = if self.consumer_routes.is_empty() {
                None
            } else {
                self.consumer_routes.get(&(caller.clone(), entry.service.clone(), entry.port))
            };
            let routes = Arc::clone(own.unwrap_or(&entry.routes));
            return Destination::Service { entry: Arc::clone(entry), routes };
        }
        if let Some(entry) = self.directory.workloads.get(&destination.ip()) {
            let protocol = entry.protocols.get(&destination.port()).copied().unwrap_or_default();
            return Destination::Workload { entry: Arc::clone(entry), protocol };
        }
        Destination::Outside
    }

    /// The pod that has an address, for logs.
    pub fn pod_at(&self, address: SocketAddr) -> Option<&PodName> {
        self.directory.workloads.get(&address.ip()).map(|entry| &entry.workload.pod)
    }
}
