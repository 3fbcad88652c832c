//! Pods of this machine that nobody can tell of yet: a pod is enrolled before it starts, and has an address in the cluster only then.
//!
//! Which policies are about such a pod may be known to the control plane alone, so that it must never take a connection by what is known
//! here.

use std::collections::{BTreeMap, BTreeSet};

use super::build::{put, same};
use crate::{
    model::{AuthorizationPolicy, Mesh, Scope},
    name::{Name, Namespace, PodName, PolicyName},
    store::Changes,
};

/// Those that are expected.
#[derive(Debug, Default)]
pub(super) struct Early {
    pods: BTreeSet<PodName>,
    /// The namespaces that have a policy for theirs.
    closed: BTreeSet<Namespace>,
}

impl Early {
    /// Takes over which are, and names those of which it is not as before.
    pub(super) fn expect(&mut self, pods: BTreeSet<PodName>) -> impl Iterator<Item = PodName> {
        let before = std::mem::replace(&mut self.pods, pods);
        let others: Vec<PodName> = before.symmetric_difference(&self.pods).cloned().collect();
        others.into_iter()
    }

    /// Whether a pod is in the mesh without anybody's word.
    pub(super) fn has(&self, pod: &PodName) -> bool {
        self.pods.contains(pod)
    }

    /// Their namespaces, of which nothing else may be known.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.pods.iter().map(|pod| &pod.namespace)
    }

    /// Those of a namespace.
    pub(super) fn of(&self, namespace: &Namespace) -> impl Iterator<Item = &PodName> {
        self.pods.iter().filter(move |pod| pod.namespace == *namespace)
    }

    /// Closes those to whatever comes in that are in the mesh as this machine alone knows them.
    pub(super) fn close(&mut self, untold: &BTreeSet<PodName>, next: &mut Mesh, changes: &mut Changes) {
        let Ok(name) = Name::try_from(NOT_TOLD_OF) else { return };
        let mut of: BTreeMap<Namespace, BTreeSet<PodName>> = BTreeMap::new();
        for pod in self.pods.intersection(untold) {
            of.entry(pod.namespace.clone()).or_default().insert(pod.clone());
        }
        let namespaces: BTreeSet<Namespace> = of.keys().chain(&self.closed).cloned().collect();
        for namespace in namespaces {
            let policy = PolicyName::new(namespace.clone(), name.clone());
            let known = next.authorization.get(&policy);
            let pods = of.remove(&namespace).map(Scope::Pods);
            let made = pods.map(|pods| same(AuthorizationPolicy::unreadable(policy.clone(), pods), known));
            if made.is_some() {
                self.closed.insert(namespace);
            } else {
                self.closed.remove(&namespace);
            }
            put(&mut next.authorization, &policy, made, &mut changes.authorization);
        }
    }
}

/// What refuses their connections is called, as the access log has it.
const NOT_TOLD_OF: &str = "not-told-of-in-discovery";
