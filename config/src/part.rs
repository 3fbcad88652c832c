//! A tenant's part of the mesh: what a cell may be told that shares no memory with anybody.
//!
//! Facts that all tenants share (who has which address, who answers for a Service, what its owner routes) go to everybody; what
//! another tenant has said of its own workloads, or of its own calls, must never be in it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{HttpRoute, Mesh, Scope, Workload},
    name::{Namespace, TenantId},
};

/// What of a mesh is a tenant's to know. A snapshot that is compiled from it decides as one that is compiled from the whole.
pub fn of(mesh: &Mesh, tenant: &TenantId) -> Mesh {
    let owns = |namespace: &Namespace| mesh.membership.get(namespace) == Some(tenant);
    let concerns = |scope: &Scope, own: &Namespace| match scope {
        Scope::Mesh | Scope::Selected { namespace: None, .. } => true,
        Scope::Namespace(namespace) | Scope::Selected { namespace: Some(namespace), .. } => owns(namespace),
        Scope::Services(_) => owns(own),
        Scope::Pods(pods) => pods.iter().any(|pod| owns(&pod.namespace)),
    };
    let tenants = mesh.tenants.get(tenant).map(|own| (tenant.clone(), Arc::clone(own)));
    let route = |route: &Arc<HttpRoute>| {
        if owns(&route.name.namespace) { Some(Arc::clone(route)) } else { for_callers(route) }
    };
    let workload = |workload: &Arc<Workload>| {
        Some(if workload.tenant == *tenant { Arc::clone(workload) } else { as_others_see(workload) })
    };
    Mesh {
        version: mesh.version,
        trust_domain: mesh.trust_domain.clone(),
        tenants: tenants.into_iter().collect(),
        membership: mesh.membership.clone(),
        namespaces: mesh.namespaces.clone(),
        workloads: choose(&mesh.workloads, workload),
        services: mesh.services.clone(),
        routes: choose(&mesh.routes, route),
        authorization: choose(&mesh.authorization, |policy| {
            concerns(&policy.scope, &policy.name.namespace).then(|| Arc::clone(policy))
        }),
        peer_authentication: choose(&mesh.peer_authentication, |peer| {
            concerns(&peer.scope, &peer.name.namespace).then(|| Arc::clone(peer))
        }),
        // Each tenant's cell asks those of its own end.
        network_policies: choose(&mesh.network_policies, |policy| {
            owns(&policy.name.namespace).then(|| Arc::clone(policy))
        }),
        guarded: mesh.guarded.clone(),
        service_entries: choose(&mesh.service_entries, |entry| {
            (entry.audience.every_tenant || owns(&entry.name.namespace)).then(|| Arc::clone(entry))
        }),
    }
}

/// Puts the very objects of `before` where a mesh that was bytes says the same: by that a compiler knows what did not change.
pub fn adopt(mesh: &mut Mesh, before: &Mesh) {
    keep(&mut mesh.tenants, &before.tenants);
    keep(&mut mesh.namespaces, &before.namespaces);
    keep(&mut mesh.workloads, &before.workloads);
    keep(&mut mesh.services, &before.services);
    keep(&mut mesh.routes, &before.routes);
    keep(&mut mesh.authorization, &before.authorization);
    keep(&mut mesh.peer_authentication, &before.peer_authentication);
    keep(&mut mesh.network_policies, &before.network_policies);
    keep(&mut mesh.service_entries, &before.service_entries);
}

fn keep<K: Ord, V: PartialEq>(now: &mut BTreeMap<K, Arc<V>>, before: &BTreeMap<K, Arc<V>>) {
    for (key, value) in now {
        if let Some(old) = before.get(key).filter(|old| *old == value) {
            *value = Arc::clone(old);
        }
    }
}

fn choose<K: Ord + Clone, V>(
    all: &BTreeMap<K, Arc<V>>,
    choice: impl Fn(&Arc<V>) -> Option<Arc<V>>,
) -> BTreeMap<K, Arc<V>> {
    all.iter().filter_map(|(key, value)| Some((key.clone(), choice(value)?))).collect()
}

/// A route as another tenant's callers meet it: where it is its Services' own.
fn for_callers(route: &Arc<HttpRoute>) -> Option<Arc<HttpRoute>> {
    let own = |service: &Namespace| *service == route.name.namespace;
    let parents: Vec<_> =
        route.parents.iter().filter(|parent| own(&parent.service.namespace)).cloned().collect();
    match parents.len() {
        0 => None,
        all if all == route.parents.len() => Some(Arc::clone(route)),
        _ => Some(Arc::new(HttpRoute { parents, ..HttpRoute::clone(route) })),
    }
}

/// Where another tenant's pod is, and who it is. What its kubelet asks may carry secrets, and its namespace's file is nobody
/// else's; that it is on this machine stays known.
pub fn as_others_see(workload: &Arc<Workload>) -> Arc<Workload> {
    let netns = workload.netns.as_ref().map(|_| std::path::PathBuf::new());
    let seen = Workload {
        netns,
        probes: Vec::new(),
        exclusions: crate::model::Exclusions::default(),
        ..Workload::clone(workload)
    };
    if seen == **workload { Arc::clone(workload) } else { Arc::new(seen) }
}

#[cfg(test)]
mod tests;
