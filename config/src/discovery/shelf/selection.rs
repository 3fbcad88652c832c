//! Which policies workloads have to name, by the namespaces and Services that they are about.
//!
//! Only whom a policy may be about: whether it is must be asked of the policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    discovery::raise::authorization::{Reach, is_about, reach},
    model::{AuthorizationPolicy, Mesh, Scope, Workload},
    name::{Namespace, PolicyName, ServiceName},
};

/// Policies that workloads name.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// By the namespace whose workloads they may be about, or those of all.
    namespaces: BTreeMap<Option<Namespace>, BTreeMap<PolicyName, Arc<str>>>,
    /// Those that name a Service.
    services: BTreeMap<ServiceName, BTreeSet<PolicyName>>,
}

/// A policy that differs, and among whose workloads it may be stale who names it.
#[derive(Debug)]
pub(super) struct Stale {
    /// The policy.
    pub(super) key: PolicyName,
    /// Its name as a resource.
    pub(super) name: Arc<str>,
    /// Namespaces; `None` is all of them.
    pub(super) among: BTreeSet<Option<Namespace>>,
}

impl Selection {
    /// Puts a policy in the place of what it was.
    pub(super) fn put(
        &mut self,
        key: &PolicyName,
        name: &Arc<str>,
        before: Option<&AuthorizationPolicy>,
        after: Option<&AuthorizationPolicy>,
    ) -> Stale {
        let mut among = BTreeSet::new();
        if let Some(policy) = before {
            if let Reach::Named(namespace) = reach(policy) {
                remove(&mut self.namespaces, &namespace, |policies| {
                    policies.remove(key);
                    policies.is_empty()
                });
                among.insert(namespace);
            }
            for service in services(policy) {
                remove(&mut self.services, service, |policies| {
                    policies.remove(key);
                    policies.is_empty()
                });
            }
        }
        if let Some(policy) = after {
            if let Reach::Named(namespace) = reach(policy) {
                let there = self.namespaces.entry(namespace.clone()).or_default();
                there.insert(key.clone(), Arc::clone(name));
                among.insert(namespace);
            }
            for service in services(policy) {
                self.services.entry(service.clone()).or_default().insert(key.clone());
            }
        }
        Stale { key: key.clone(), name: Arc::clone(name), among }
    }

    /// The policies that name a Service.
    pub(super) fn naming(&self, service: &ServiceName) -> impl Iterator<Item = &PolicyName> {
        self.services.get(service).into_iter().flatten()
    }

    /// The names of the policies that a workload has to name, in order.
    pub(super) fn of(&self, workload: &Workload, mesh: &Mesh) -> Box<[Arc<str>]> {
        let own = Some(workload.pod.namespace.clone());
        let all = [None, own].into_iter().filter_map(|namespace| self.namespaces.get(&namespace)).flatten();
        let is_about = |(key, _): &(&PolicyName, _)| {
            mesh.authorization.get(*key).is_some_and(|policy| is_about(policy, workload, &mesh.services))
        };
        let mut names: Vec<Arc<str>> = all.filter(is_about).map(|(_, name)| Arc::clone(name)).collect();
        names.sort_unstable();
        names.into()
    }
}

fn services(policy: &AuthorizationPolicy) -> &[ServiceName] {
    if let Scope::Services(services) = &policy.scope { services } else { &[] }
}

/// Takes something out of an entry, and the entry with it if nothing is left of it.
fn remove<K: Ord, V>(map: &mut BTreeMap<K, V>, key: &K, take: impl FnOnce(&mut V) -> bool) {
    if map.get_mut(key).is_some_and(take) {
        map.remove(key);
    }
}
