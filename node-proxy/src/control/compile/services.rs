//! Service ports by VIP: cluster, protocol and the producer's routes.
//!
//! Must never make a new entry where none of the three changed.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use config::{model::AppProtocol, name::ServiceName};

use super::{
    clusters::{Clusters, Ports},
    tables::Tables,
};
use crate::snapshot::{Cluster, RouteTable, ServiceEntry};

/// All Service ports of a mesh.
#[derive(Debug, Default)]
pub(super) struct Services {
    entries: BTreeMap<ServiceName, BTreeMap<u16, Arc<ServiceEntry>>>,
    by_address: Arc<HashMap<SocketAddr, Arc<ServiceEntry>>>,
}

impl Services {
    /// Takes over the Services of a mesh.
    pub(super) fn update(&mut self, clusters: &Clusters, tables: &Tables) {
        let entries: BTreeMap<_, _> = clusters
            .services()
            .iter()
            .filter(|(_, ports)| !ports.source.vips.is_empty())
            .map(|(name, ports)| (name.clone(), self.compile(name, ports, tables)))
            .collect();
        self.entries = entries;
        let by_address = index(clusters, &self.entries);
        let same = |(address, entry): (&SocketAddr, &&Arc<ServiceEntry>)| {
            self.by_address.get(address).is_some_and(|before| Arc::ptr_eq(before, entry))
        };
        if by_address.len() != self.by_address.len() || !by_address.iter().all(same) {
            let shared = |(address, entry): (SocketAddr, &Arc<ServiceEntry>)| (address, Arc::clone(entry));
            self.by_address = Arc::new(by_address.into_iter().map(shared).collect());
        }
    }

    /// Entries by VIP and port.
    pub(super) fn by_address(&self) -> Arc<HashMap<SocketAddr, Arc<ServiceEntry>>> {
        Arc::clone(&self.by_address)
    }

    fn compile(
        &self,
        name: &ServiceName,
        ports: &Ports,
        tables: &Tables,
    ) -> BTreeMap<u16, Arc<ServiceEntry>> {
        let before = self.entries.get(name);
        let compile = |(port, cluster): (&u16, &Arc<Cluster>)| {
            let old = before.and_then(|entries| entries.get(port));
            (*port, entry(cluster, tables.producer(name, *port), old))
        };
        ports.clusters.iter().map(compile).collect()
    }
}

fn entry(
    cluster: &Arc<Cluster>,
    producer: Option<&Arc<RouteTable>>,
    old: Option<&Arc<ServiceEntry>>,
) -> Arc<ServiceEntry> {
    let same_cluster = old.filter(|old| Arc::ptr_eq(&old.cluster, cluster));
    let routes = match (producer, same_cluster) {
        (Some(table), _) => Arc::clone(table),
        (None, Some(old)) if old.routes.default.is_some() => Arc::clone(&old.routes),
        (None, _) => Arc::new(RouteTable {
            port: cluster.port,
            default: Some(Arc::clone(cluster)),
            entries: Vec::new(),
        }),
    };
    if let Some(old) = same_cluster.filter(|old| Arc::ptr_eq(&old.routes, &routes)) {
        return Arc::clone(old);
    }
    let protocol = match cluster.protocol {
        AppProtocol::Undeclared if producer.is_some() => AppProtocol::Http1,
        declared => declared,
    };
    Arc::new(ServiceEntry {
        service: cluster.service.clone(),
        port: cluster.port,
        protocol,
        cluster: Arc::clone(cluster),
        routes,
    })
}

/// Where two Services claim one VIP and port, the first by name has it: the same on every node.
fn index<'a>(
    clusters: &Clusters,
    entries: &'a BTreeMap<ServiceName, BTreeMap<u16, Arc<ServiceEntry>>>,
) -> HashMap<SocketAddr, &'a Arc<ServiceEntry>> {
    let mut index = HashMap::new();
    for (name, of_service) in entries {
        let Some(ports) = clusters.services().get(name) else { continue };
        for vip in &ports.source.vips {
            for (port, entry) in of_service {
                index.entry(SocketAddr::new(vip.to_canonical(), *port)).or_insert(entry);
            }
        }
    }
    index
}
