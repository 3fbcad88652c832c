//! One object of the mesh after the other, as far as it changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    super::lower::{HeldService, HeldWorkload, Key, Object},
    Assembly, Changes,
    held::{Dirty, Held},
    tenants,
};
use crate::{
    model::{
        AppProtocol, AuthorizationPolicy, Endpoint, Mesh, NetworkPolicy, Reach, Scope, Service, ServicePort,
        Topology,
    },
    name::{Name, PolicyName},
};

impl Assembly {
    /// Makes anew what is dirty. Objects that others depend on come first.
    pub(super) fn renew(&mut self, dirty: &mut Dirty, changes: &mut Changes) {
        self.held.settle(dirty);
        let mut next = self.spare.take(&self.mesh);
        if dirty.tenants {
            self.note_everywhere(dirty);
            for namespace in tenants::renew(&self.held, self.early.namespaces(), &mut next, changes) {
                dirty.keys.extend(self.held.pods_of(&namespace));
                dirty.keys.extend(self.early.of(&namespace).cloned().map(Key::Workload));
            }
        }
        if dirty.tenants || dirty.keys.contains(&Key::NetworkEverywhere) {
            dirty.keys.extend(everywhere_in(&next));
        }
        let (pods, others): (BTreeSet<Key>, BTreeSet<Key>) =
            dirty.keys.iter().cloned().partition(|key| matches!(key, Key::Workload(_)));
        others.iter().for_each(|key| self.renew_one(key, &mut next, changes));
        let pods =
            pods.into_iter().filter_map(|key| if let Key::Workload(pod) = key { Some(pod) } else { None });
        self.workloads.renew((&self.held, &self.early), pods.collect(), &mut next, changes);
        self.early.close(self.workloads.untold(), &mut next, changes);
        if dirty.guarded {
            next.guarded = self.held.guarded().collect();
        }
        if !changes.is_empty() || next.guarded != self.mesh.guarded {
            next.version = self.mesh.version + 1;
            self.spare.put(&mut self.mesh, next, changes);
        } else {
            self.spare.give_back(next);
        }
    }

    /// What was there of a namespace that goes.
    fn note_everywhere(&self, dirty: &mut Dirty) {
        dirty.keys.extend(everywhere_in(&self.mesh));
    }

    fn renew_one(&self, key: &Key, next: &mut Mesh, changes: &mut Changes) {
        let object = self.held.object(key);
        match key {
            Key::Service(name) => {
                let service = object.and_then(|object| service(&self.held, object, next.services.get(name)));
                put(&mut next.services, name, service, &mut changes.services);
            }
            Key::Authorization(name) => {
                let known = next.authorization.get(name);
                let policy = object.and_then(|object| self.authorization(key, object, known));
                put(&mut next.authorization, name, policy, &mut changes.authorization);
            }
            Key::Peer(name) => {
                let peer = object.and_then(|object| {
                    if let Object::Peer(peer) = object { Some(Arc::clone(peer)) } else { None }
                });
                put(&mut next.peer_authentication, name, peer, &mut changes.peer_authentication);
            }
            Key::Network(name) => {
                let policy = self.network(name, object, next);
                put(&mut next.network_policies, name, policy, &mut changes.network_policies);
            }
            Key::Entry(name) => {
                let entry = object.and_then(|object| {
                    if let Object::Entry(entry) = object { Some(Arc::clone(entry)) } else { None }
                });
                put(&mut next.service_entries, name, entry, &mut changes.service_entries);
            }
            Key::Route(name) => {
                let route = object.and_then(|object| {
                    if let Object::Route(route) = object { Some(Arc::clone(route)) } else { None }
                });
                put(&mut next.routes, name, route, &mut changes.routes);
            }
            Key::Tenant(_) | Key::Kept | Key::Namespace(_) | Key::Workload(_) | Key::NetworkEverywhere => {}
        }
    }

    /// A policy. One that is about the workloads that name it is about those pods.
    fn authorization(
        &self,
        key: &Key,
        object: &Object,
        known: Option<&Arc<AuthorizationPolicy>>,
    ) -> Option<Arc<AuthorizationPolicy>> {
        match object {
            Object::Authorization(policy) => Some(Arc::clone(policy)),
            Object::Named(policy) => {
                let (_, resource) = self.held.first(key)?;
                let pods = self.held.naming(resource).filter_map(|object| match object {
                    Object::Workload(held) => Some(held.workload.pod.clone()),
                    _ => None,
                });
                let scope = Scope::Pods(pods.collect());
                Some(same(AuthorizationPolicy { scope, ..AuthorizationPolicy::clone(policy) }, known))
            }
            _ => None,
        }
    }

    fn network(&self, name: &PolicyName, object: Option<&Object>, next: &Mesh) -> Option<Arc<NetworkPolicy>> {
        let is_everywhere = self.held.object(&Key::NetworkEverywhere).is_some()
            && name.name.as_str() == EVERYWHERE
            && next.namespaces.contains_key(&name.namespace);
        match object {
            _ if is_everywhere => {
                Some(same(NetworkPolicy::unreadable(name.clone()), next.network_policies.get(name)))
            }
            Some(Object::Network(policy)) => Some(Arc::clone(policy)),
            _ => None,
        }
    }
}

/// Whoever has a NetworkPolicy of this name has a stricter one in its place, while one cannot be read that may be of any namespace.
const EVERYWHERE: &str = "unreadable-in-discovery";

fn everywhere_in(mesh: &Mesh) -> Vec<Key> {
    let Ok(name) = Name::try_from(EVERYWHERE) else { return Vec::new() };
    mesh.namespaces
        .keys()
        .map(|namespace| Key::Network(PolicyName::new(namespace.clone(), name.clone())))
        .collect()
}

/// A Service with its endpoints. By Istio's word, these are the workloads that say that they are behind it.
fn service(held: &Held, object: &Object, known: Option<&Arc<Service>>) -> Option<Arc<Service>> {
    let Object::Service(own) = object else { return None };
    let lost: Vec<IpAddr> = held.lost(object).map(|(address, _)| address).collect();
    if own.targets.is_none() && lost.is_empty() {
        return Some(Arc::clone(&own.service));
    }
    let mut service = Service::clone(&own.service);
    service.vips.retain(|vip| !lost.contains(vip));
    let Some(targets) = &own.targets else { return Some(same(service, known)) };
    for object in held.behind(&own.resource) {
        let Object::Workload(workload) = object else { continue };
        service.members.named.insert(workload.workload.pod.clone());
        let Some(said) = workload.services.get(&own.resource) else { continue };
        let reached = workload.reached.iter().filter(|address| has_family(own, address.is_ipv4()));
        for address in reached {
            let endpoint = |port| Endpoint {
                address: SocketAddr::new(*address, port),
                ready: workload.ready || own.wish.unready,
                workload: Some(workload.workload.pod.clone()),
                protocol: AppProtocol::Undeclared,
                draining: false,
                topology: topology(own, workload),
            };
            for port in &mut service.ports {
                port.endpoints.extend(target(port, said, targets).map(endpoint));
            }
        }
    }
    Some(same(service, known))
}

/// Where a workload is, and as hints of the kind that Kubernetes gives what the Service wishes.
fn topology(own: &HeldService, held: &HeldWorkload) -> Option<Box<Topology>> {
    let node = held.workload.node.as_ref();
    let topology = Topology {
        node: node.filter(|_| own.service.reach == Reach::Node).cloned(),
        for_nodes: node.filter(|_| own.wish.node).into_iter().cloned().collect(),
        for_zones: held.zone.as_ref().filter(|_| own.wish.zone).into_iter().cloned().collect(),
    };
    topology.boxed()
}

/// Where a workload answers on a port: by its own word, else by the Service's.
fn target(port: &ServicePort, said: &BTreeMap<u16, u16>, targets: &BTreeMap<u16, u16>) -> Option<u16> {
    let own = said.get(&port.number).copied()?;
    let target = if own == 0 { targets.get(&port.number).copied()? } else { own };
    (target != 0).then_some(target)
}

/// A Service with addresses serves their families; a headless one serves all.
fn has_family(own: &HeldService, is_ipv4: bool) -> bool {
    let vips = &own.service.vips;
    vips.is_empty() || vips.iter().any(|vip| vip.is_ipv4() == is_ipv4)
}

/// A value, as the very one that is known if it is the same.
pub(super) fn same<V: PartialEq>(value: V, known: Option<&Arc<V>>) -> Arc<V> {
    match known {
        Some(known) if **known == value => Arc::clone(known),
        _ => Arc::new(value),
    }
}

/// Puts a value in its place, or takes out what is there, and notes whether that changes anything.
pub(super) fn put<K: Ord + Clone, V: PartialEq>(
    all: &mut BTreeMap<K, Arc<V>>,
    key: &K,
    value: Option<Arc<V>>,
    changed: &mut Vec<K>,
) {
    match (all.get(key), value) {
        (None, None) => return,
        (Some(known), Some(value)) if Arc::ptr_eq(known, &value) || *known == value => return,
        (_, Some(value)) => drop(all.insert(key.clone(), value)),
        (Some(_), None) => drop(all.remove(key)),
    }
    changed.push(key.clone());
}
