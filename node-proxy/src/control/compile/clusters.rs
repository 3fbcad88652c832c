//! Service ports to clusters, and what Services say of the ports of the addresses behind them.
//!
//! Must never make a new cluster where its endpoints did not change: route tables and balancers hang on it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use config::{
    model::{AppProtocol, Endpoint, Here, Service, ServicePort},
    name::ServiceName,
};

use super::{differences::differences, narrow};
use crate::snapshot::{Affinity, Answers, Cluster, canonical};

/// All clusters of a mesh.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    services: BTreeMap<ServiceName, Ports>,
    claims: HashMap<IpAddr, BTreeMap<u16, Claims>>,
    endpoints: Arc<HashSet<SocketAddr>>,
    /// Where the callers are.
    here: Here,
}

/// One Service and what was made of it.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) source: Arc<Service>,
    pub(super) clusters: BTreeMap<u16, Arc<Cluster>>,
}

/// Of what something else may be said now.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) services: BTreeSet<ServiceName>,
    /// What is behind them, now or before.
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// What each Service port says of one port of one address.
#[derive(Debug, Default)]
struct Claims(BTreeMap<(ServiceName, u16), AppProtocol>);

impl Claims {
    /// What all that say anything agree on; who disagree are not believed, and the bytes decide.
    fn agreed(&self) -> AppProtocol {
        let mut declared = self.0.values().filter(|protocol| **protocol != AppProtocol::Undeclared);
        let first = declared.next().copied().unwrap_or_default();
        if declared.all(|protocol| *protocol == first) { first } else { AppProtocol::Undeclared }
    }
}

impl Clusters {
    /// As seen from there.
    pub(super) fn seen_from(here: Here) -> Self {
        Self { here, ..Self::default() }
    }

    /// Where they are seen from.
    pub(super) fn here(&self) -> &Here {
        &self.here
    }

    /// Takes over the Services of a mesh.
    pub(super) fn update(&mut self, services: &BTreeMap<ServiceName, Arc<Service>>) -> Touched {
        let mut touched = Touched::default();
        let is_same = |ports: &Ports, service: &Arc<Service>| Arc::ptr_eq(&ports.source, service);
        for name in differences(&self.services, services, is_same) {
            let before = self.services.remove(&name);
            if let Some(before) = &before {
                self.unclaim(before, &mut touched.addresses);
            }
            if let Some(service) = services.get(&name) {
                let clusters = compile(service, before.as_ref(), &self.here);
                let ports = Ports { source: Arc::clone(service), clusters };
                self.claim(&ports, &mut touched.addresses);
                self.services.insert(name.clone(), ports);
            }
            touched.services.insert(name);
        }
        self.update_endpoints(&touched.addresses);
        touched
    }

    /// The cluster of a Service port.
    pub(super) fn cluster(&self, service: &ServiceName, port: u16) -> Option<&Arc<Cluster>> {
        self.services.get(service)?.clusters.get(&port)
    }

    /// Every Service, by name.
    pub(super) fn services(&self) -> &BTreeMap<ServiceName, Ports> {
        &self.services
    }

    /// The addresses of all endpoints.
    pub(super) fn endpoints(&self) -> Arc<HashSet<SocketAddr>> {
        Arc::clone(&self.endpoints)
    }

    /// What is said of the ports of an address.
    pub(super) fn protocols(&self, address: IpAddr) -> HashMap<u16, AppProtocol> {
        let ports = self.claims.get(&address).into_iter().flatten();
        ports.map(|(port, claims)| (*port, claims.agreed())).collect()
    }

    /// For which Service ports an address answers, and where.
    pub(super) fn answers(&self, address: IpAddr) -> Vec<Answers> {
        let ports = self.claims.get(&address).into_iter().flatten();
        let of_port = |(at, claims): (&u16, &Claims)| {
            let at = *at;
            let names: Vec<_> = claims.0.keys().cloned().collect();
            names.into_iter().map(move |(service, port)| Answers { service, port, at })
        };
        ports.flat_map(of_port).collect()
    }

    fn claim(&mut self, ports: &Ports, touched: &mut BTreeSet<IpAddr>) {
        for cluster in ports.clusters.values() {
            for endpoint in cluster.endpoints.iter() {
                let protocol = match endpoint.protocol {
                    AppProtocol::Undeclared => cluster.protocol,
                    declared => declared,
                };
                let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
                let claims = self.claims.entry(ip).or_default().entry(port).or_default();
                claims.0.insert((cluster.service.clone(), cluster.port), protocol);
                touched.insert(ip);
            }
        }
    }

    fn unclaim(&mut self, ports: &Ports, touched: &mut BTreeSet<IpAddr>) {
        for cluster in ports.clusters.values() {
            for endpoint in cluster.endpoints.iter() {
                let (ip, port) = (endpoint.address.ip(), endpoint.address.port());
                touched.insert(ip);
                let Some(of_address) = self.claims.get_mut(&ip) else { continue };
                if let Some(claims) = of_address.get_mut(&port) {
                    claims.0.remove(&(cluster.service.clone(), cluster.port));
                    if claims.0.is_empty() {
                        of_address.remove(&port);
                    }
                }
                if of_address.is_empty() {
                    self.claims.remove(&ip);
                }
            }
        }
    }

    /// Brings the set of addresses up to date. Copied as plain memory when it changes: its elements are `Copy`.
    fn update_endpoints(&mut self, touched: &BTreeSet<IpAddr>) {
        let now: HashSet<SocketAddr> = touched.iter().flat_map(|ip| self.addresses(*ip)).collect();
        let missing = now.iter().any(|address| !self.endpoints.contains(address));
        let stale = |address: &SocketAddr| touched.contains(&address.ip()) && !now.contains(address);
        if missing || (!touched.is_empty() && self.endpoints.iter().any(stale)) {
            let endpoints = Arc::make_mut(&mut self.endpoints);
            endpoints.retain(|address| !stale(address));
            endpoints.extend(now.iter());
        }
    }

    fn addresses(&self, ip: IpAddr) -> impl Iterator<Item = SocketAddr> {
        let ports = self.claims.get(&ip).into_iter().flat_map(BTreeMap::keys);
        ports.map(move |port| SocketAddr::new(ip, *port))
    }
}

fn compile(service: &Service, before: Option<&Ports>, here: &Here) -> BTreeMap<u16, Arc<Cluster>> {
    let compile = |port: &ServicePort| {
        let new = cluster(service, port, here);
        let old = before.and_then(|ports| ports.clusters.get(&port.number));
        let cluster = match old {
            Some(old) if is_same(old, &new) => Arc::clone(old),
            _ => Arc::new(new),
        };
        (port.number, cluster)
    };
    service.ports.iter().map(compile).collect()
}

fn is_same(old: &Cluster, new: &Cluster) -> bool {
    // Of the same endpoints, the same are those that callers of one node go to.
    let by = |cluster: &Cluster| cluster.narrowed.as_ref().map(|narrowed| narrowed.by);
    old.protocol == new.protocol
        && old.waypoint == new.waypoint
        && old.affinity == new.affinity
        && by(old) == by(new)
        && old.endpoints[..] == new.endpoints[..]
}

/// An address that is listed twice (in two slices) counts once, and is ready if any of them says so.
fn cluster(service: &Service, port: &ServicePort, here: &Here) -> Cluster {
    let mut positions: HashMap<SocketAddr, usize> = HashMap::with_capacity(port.endpoints.len());
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(port.endpoints.len());
    for endpoint in &port.endpoints {
        let address = canonical(endpoint.address);
        let position = *positions.entry(address).or_insert(endpoints.len());
        match endpoints.get_mut(position) {
            Some(known) => {
                known.ready |= endpoint.ready;
                known.draining |= endpoint.draining;
            }
            None => endpoints.push(Endpoint { address, ..endpoint.clone() }),
        }
    }
    let endpoints: Vec<Arc<Endpoint>> = endpoints.into_iter().map(Arc::new).collect();
    Cluster {
        narrowed: narrow::narrow(&endpoints, service.reach, here),
        affinity: service.affinity.map(|seconds| Affinity {
            key: key(&service.name, port.number),
            lasts: Duration::from_secs(seconds.into()),
        }),
        waypoint: service.waypoint.as_deref().map(Arc::from),
        ..Cluster::new(service.name.clone(), port.number, port.protocol, endpoints.into())
    }
}

/// A Service's port as a number; without keys, so that it is the same in all lanes and after a restart.
fn key(service: &ServiceName, port: u16) -> u64 {
    let mut hasher = DefaultHasher::new();
    (service, port).hash(&mut hasher);
    hasher.finish()
}
