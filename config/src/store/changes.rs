//! What differs between two meshes, and sharing what does not.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
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

/// Shares equal values and names the others, those that went included.
fn share<K: Ord + Clone, V: PartialEq>(
    before: &BTreeMap<K, Arc<V>>,
    after: &mut BTreeMap<K, Arc<V>>,
) -> Vec<K> {
    let mut changed: Vec<K> = before.keys().filter(|key| !after.contains_key(key)).cloned().collect();
    for (key, value) in after {
        match before.get(key) {
            Some(known) if known == value => *value = Arc::clone(known),
            _ => changed.push(key.clone()),
        }
    }
    changed
}
