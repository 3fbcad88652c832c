//! Service ports by VIP: cluster, protocol and the producer's routes.
//!
//! Must never make a new entry where none of the three changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
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
    known: HashMap<ServiceName, Known>,
    /// Who wants an address.
    claims: HashMap<SocketAddr, BTreeSet<ServiceName>>,
    by_address: Arc<HashMap<SocketAddr, Arc<ServiceEntry>>>,
}

/// One Service that has addresses.
#[derive(Debug)]
struct Known {
    vips: Vec<IpAddr>,
    entries: BTreeMap<u16, Arc<ServiceEntry>>,
}

impl Services {
    /// Takes over the Services that are `touched`: they, or their producers' routes, may have changed.
    pub(super) fn update(&mut self, clusters: &Clusters, tables: &Tables, touched: &BTreeSet<ServiceName>) {
        let mut addresses = BTreeSet::new();
        for name in touched {
            let before = self.known.remove(name);
            for address in before.iter().flat_map(Known::addresses) {
                self.unclaim(address, name);
                addresses.insert(address);
            }
            let ports = clusters.services().get(name).filter(|ports| !ports.source.vips.is_empty());
            let Some(ports) = ports else { continue };
            let known = Known::new(name, ports, before.as_ref(), tables);
            for address in known.addresses() {
                self.claims.entry(address).or_default().insert(name.clone());
                addresses.insert(address);
            }
            self.known.insert(name.clone(), known);
        }
        for address in addresses {
            self.refresh(address);
        }
    }

    /// Entries by VIP and port.
    pub(super) fn by_address(&self) -> Arc<HashMap<SocketAddr, Arc<ServiceEntry>>> {
        Arc::clone(&self.by_address)
    }

    fn unclaim(&mut self, address: SocketAddr, name: &ServiceName) {
        let Some(claims) = self.claims.get_mut(&address) else { return };
        claims.remove(name);
        if claims.is_empty() {
            self.claims.remove(&address);
        }
    }

    /// Where two Services claim one VIP and port, the first by name has it: the same on every node.
    fn refresh(&mut self, address: SocketAddr) {
        let holder = self.claims.get(&address).and_then(BTreeSet::first);
        let entry = holder.and_then(|name| self.known.get(name)?.entries.get(&address.port()));
        match (entry, self.by_address.get(&address)) {
            (Some(entry), Some(before)) if Arc::ptr_eq(entry, before) => {}
            (Some(entry), _) => {
                Arc::make_mut(&mut self.by_address).insert(address, Arc::clone(entry));
            }
            (None, Some(_)) => {
                Arc::make_mut(&mut self.by_address).remove(&address);
            }
            (None, None) => {}
        }
    }
}

impl Known {
    fn new(name: &ServiceName, ports: &Ports, before: Option<&Self>, tables: &Tables) -> Self {
        let compile = |(port, cluster): (&u16, &Arc<Cluster>)| {
            let old = before.and_then(|known| known.entries.get(port));
            (*port, entry(cluster, tables.producer(name, *port), old))
        };
        let entries = ports.clusters.iter().map(compile).collect();
        Self { vips: ports.source.vips.iter().map(IpAddr::to_canonical).collect(), entries }
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let of_vip = |vip: &IpAddr| {
            let vip = *vip;
            self.entries.keys().map(move |port| SocketAddr::new(vip, *port))
        };
        self.vips.iter().flat_map(of_vip)
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
        (None, _) => Arc::new(RouteTable::open(cluster)),
    };
    if let Some(old) = same_cluster.filter(|old| Arc::ptr_eq(&old.routes, &routes)) {
        return Arc::clone(old);
    }
    let protocol = match cluster.protocol {
        AppProtocol::Undeclared => routes.protocol,
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
