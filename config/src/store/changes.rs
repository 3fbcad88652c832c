//! What differs between two meshes, and sharing what does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::spare::Spare;
use crate::{
    link::Patched,
    model::Mesh,
    name::{EntryName, Namespace, PodName, PolicyName, RouteName, ServiceName, TenantId},
};

/// What was added, changed or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tenants, including those whose namespaces changed.
    pub tenants: Vec<TenantId>,
    /// Namespaces whose labels changed.
    pub namespaces: Vec<Namespace>,
    /// Workloads.
    pub workloads: Vec<PodName>,
    /// Services, including those whose endpoints changed.
    pub services: Vec<ServiceName>,
    /// Routes, including those whose backends appeared or went.
    pub routes: Vec<RouteName>,
    /// AuthorizationPolicies.
    pub authorization: Vec<PolicyName>,
    /// PeerAuthentications.
    pub peer_authentication: Vec<PolicyName>,
    /// NetworkPolicies.
    pub network_policies: Vec<PolicyName>,
    /// ServiceEntries.
    pub service_entries: Vec<EntryName>,
}

impl Changes {
    /// Whether the two meshes say the same.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
            && self.namespaces.is_empty()
            && self.workloads.is_empty()
            && self.services.is_empty()
            && self.routes.is_empty()
            && self.authorization.is_empty()
            && self.peer_authentication.is_empty()
            && self.network_policies.is_empty()
            && self.service_entries.is_empty()
    }
}

/// Replaces `current` by `next` if they differ; parts that are equal stay the same `Arc`s.
pub(super) fn adopt(current: &mut Arc<Mesh>, mut next: Mesh) -> Changes {
    let changes = Changes {
        tenants: share(&current.tenants, &mut next.tenants),
        namespaces: share(&current.namespaces, &mut next.namespaces),
        workloads: share(&current.workloads, &mut next.workloads),
        services: share(&current.services, &mut next.services),
        routes: share(&current.routes, &mut next.routes),
        authorization: share(&current.authorization, &mut next.authorization),
        peer_authentication: share(&current.peer_authentication, &mut next.peer_authentication),
        network_policies: share(&current.network_policies, &mut next.network_policies),
        service_entries: share(&current.service_entries, &mut next.service_entries),
    };
    // Membership is part of every tenant, so a change of it shows among the tenants.
    if !changes.is_empty() {
        next.version = current.version + 1;
        *current = Arc::new(next);
    }
    changes
}

/// The same of those parts of a mesh only that may be others than before.
pub(super) fn adopt_parts(
    (current, spare): (&mut Arc<Mesh>, &mut Spare),
    next: &mut Mesh,
    parts: &Patched,
) -> Changes {
    let changes = Changes {
        workloads: share_some(&current.workloads, &mut next.workloads, &parts.workloads),
        services: share_some(&current.services, &mut next.services, &parts.services),
        routes: share_some(&current.routes, &mut next.routes, &parts.routes),
        authorization: share_some(&current.authorization, &mut next.authorization, &parts.authorization),
        network_policies: share_some(
            &current.network_policies,
            &mut next.network_policies,
            &parts.network_policies,
        ),
        ..Changes::default()
    };
    if !changes.is_empty() {
        let mut mesh = spare.take(current);
        mesh.version += 1;
        copy(&next.workloads, &mut mesh.workloads, &changes.workloads);
        copy(&next.services, &mut mesh.services, &changes.services);
        copy(&next.routes, &mut mesh.routes, &changes.routes);
        copy(&next.authorization, &mut mesh.authorization, &changes.authorization);
        copy(&next.network_policies, &mut mesh.network_policies, &changes.network_policies);
        spare.put(current, mesh, &changes);
    }
    changes
}

fn share_some<K: Ord + Clone, V: PartialEq>(
    before: &BTreeMap<K, Arc<V>>,
    after: &mut BTreeMap<K, Arc<V>>,
    keys: &BTreeSet<K>,
) -> Vec<K> {
    let is_gone = |key: &&K| before.contains_key(key) && !after.contains_key(key);
    let mut changed: Vec<K> = keys.iter().filter(is_gone).cloned().collect();
    for key in keys {
        let Some(value) = after.get_mut(key) else { continue };
        match before.get(key) {
            Some(known) if known == value => *value = Arc::clone(known),
            _ => changed.push(key.clone()),
        }
    }
    changed
}

/// Makes these keys of a map what they are in another.
pub(super) fn copy<K: Ord + Clone, V>(from: &BTreeMap<K, Arc<V>>, to: &mut BTreeMap<K, Arc<V>>, keys: &[K]) {
    for key in keys {
        match from.get(key) {
            Some(value) => drop(to.insert(key.clone(), Arc::clone(value))),
            None => drop(to.remove(key)),
        }
    }
}

/// Shares equal values and names the others, those that went included.
pub(crate) fn share<K: Ord + Clone, V: PartialEq>(
    before: &BTreeMap<K, Arc<V>>,
    after: &mut BTreeMap<K, Arc<V>>,
) -> Vec<K> {
    let mut changed: Vec<K> = before.keys().filter(|key| !after.contains_key(key)).cloned().collect();
    for (key, value) in after {
        match before.get(key) {
            Some(known) if Arc::ptr_eq(known, value) => {}
            Some(known) if known == value => *value = Arc::clone(known),
            _ => changed.push(key.clone()),
        }
    }
    changed
}
