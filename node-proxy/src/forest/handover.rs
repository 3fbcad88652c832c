//! A namespace changes hands: from a pod that is gone to another that names it now.
//!
//! Whoever writes a pod may write any namespace into it. A pod that was proven to be in its namespace must never be
//! opened by the word of one that was not: it stays planted, though it is gone from the configuration, until the
//! claimant has proven to be there, does not claim it any more, or the namespace itself is gone.

use std::{collections::BTreeMap, sync::Arc};

use config::{
    model::{Mesh, Workload},
    name::PodName,
};

use super::planting::Planting;
use crate::sys::netns::{Netns, NetnsId};

/// Namespaces that pods name which are not in them yet.
#[derive(Debug)]
pub(super) struct Claims(BTreeMap<NetnsId, PodName>);

impl Claims {
    /// Of everybody in a mesh who is on this node and is not planted as it is there.
    pub(super) fn of(mesh: &Mesh, trees: &BTreeMap<PodName, Planting>) -> Self {
        let is_new = |workload: &&Arc<Workload>| {
            trees.get(&workload.pod).is_none_or(|tree| tree.workload != **workload)
        };
        let claim = |workload: &Arc<Workload>| {
            Some((Netns::id_at(workload.netns.as_deref()?)?, workload.pod.clone()))
        };
        Self(mesh.workloads.values().filter(is_new).filter_map(claim).collect())
    }

    /// Who claims a namespace. The daemon's own is nobody's to claim.
    pub(super) fn on(&self, netns: &Netns, home: &Netns) -> Option<&PodName> {
        if netns.is(home) { None } else { self.0.get(&netns.id()?) }
    }
}

/// Trees of pods that were removed, in the namespace of another.
pub(super) fn left_in(
    netns: &Netns,
    mesh: &Mesh,
    trees: &BTreeMap<PodName, Planting>,
    home: &Netns,
) -> Vec<PodName> {
    let is_left = |(pod, tree): &(&PodName, &Planting)| {
        tree.netns().is(netns) && !netns.is(home) && !is_here(mesh, pod)
    };
    trees.iter().filter(is_left).map(|(pod, _)| pod.clone()).collect()
}

/// Whether a pod is in a mesh, in any version, with a namespace of this node.
pub(super) fn is_here(mesh: &Mesh, pod: &PodName) -> bool {
    mesh.workloads.get(pod).is_some_and(|workload| workload.netns.is_some())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use config::{
        identity::{Identity, TrustDomain},
        name::{Name, Namespace, ServiceAccount, TenantId},
    };

    use super::*;

    fn workload(netns: &str) -> Workload {
        let namespace = Namespace::try_from("shop").unwrap();
        let identity = Identity {
            trust_domain: TrustDomain::default(),
            namespace: namespace.clone(),
            service_account: ServiceAccount::try_from("thief").unwrap(),
        };
        let pod = PodName::new(namespace.clone(), Name::try_from("thief").unwrap());
        Workload { netns: Some(netns.into()), ..Workload::new(pod, TenantId::Namespace(namespace), identity) }
    }

    #[test]
    fn a_claim_is_known_by_whatever_path_and_never_on_the_daemon_s_own_namespace() {
        let home = Netns::current().unwrap();
        // Namespaces of the process of another type: they take no privilege to have.
        let open = |path: &str| Netns::open(Path::new(path)).unwrap();
        let claims = |path| {
            let thief = workload(path);
            let mesh = Mesh { workloads: [(thief.pod.clone(), Arc::new(thief))].into(), ..Mesh::default() };
            Claims::of(&mesh, &BTreeMap::new())
        };
        let uts = open("/proc/self/ns/uts");
        assert_eq!(claims("/proc/thread-self/ns/uts").on(&uts, &home).unwrap().to_string(), "shop/thief");
        assert!(claims("/proc/thread-self/ns/ipc").on(&uts, &home).is_none());
        assert!(claims("/nowhere").on(&uts, &home).is_none());
        assert!(claims("/proc/thread-self/ns/net").on(&home, &home).is_none());
    }
}
