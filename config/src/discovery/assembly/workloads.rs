//! Workloads beside what only this machine knows of its pods.
//!
//! What a pod's author leaves alone must never open what is STRICT, nor lead out of a tenant that is kept to the mesh.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    super::lower::{Key, Object},
    Changes,
    build::{put, same},
    held::Held,
    told,
};
use crate::{
    finding::Finding,
    link::plaintext,
    model::{Egress, Exclusions, Mesh, Peers, Workload},
    name::{PodName, PolicyName, TenantId},
};

/// What has to be remembered of pods with ports that are left alone.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Those that ask for it, whether it is granted or not.
    asking: BTreeSet<PodName>,
    /// The ports that are captured all the same, and who says so.
    closed: BTreeMap<PodName, Vec<(u16, PolicyName)>>,
}

impl State {
    /// Makes pods anew; those, too, whose ports somebody else may have closed or opened.
    pub(super) fn renew(
        &mut self,
        held: &Held,
        local: &BTreeMap<PodName, Arc<Workload>>,
        mut pods: BTreeSet<PodName>,
        next: &mut Mesh,
        changes: &mut Changes,
    ) {
        if !changes.peer_authentication.is_empty() {
            pods.extend(self.asking.iter().cloned());
        }
        if pods.is_empty() {
            return;
        }
        let all = std::mem::take(&mut next.peer_authentication);
        let peers = Peers::of(&all);
        for pod in pods {
            let workload = match held.object(&Key::Workload(pod.clone())) {
                Some(Object::Workload(held)) => {
                    Some(self.workload(&held.workload, local.get(&pod), next, &peers))
                }
                _ => {
                    self.asking.remove(&pod);
                    self.closed.remove(&pod);
                    None
                }
            };
            put(&mut next.workloads, &pod, workload, &mut changes.workloads);
        }
        drop(peers);
        next.peer_authentication = all;
    }

    /// What is said of ports that are captured all the same.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        self.closed
            .iter()
            .flat_map(|(pod, ports)| ports.iter().map(move |(port, by)| told::closed(pod, *port, by)))
    }

    fn workload(
        &mut self,
        own: &Arc<Workload>,
        local: Option<&Arc<Workload>>,
        next: &Mesh,
        peers: &Peers<'_>,
    ) -> Arc<Workload> {
        let pod = &own.pod;
        let namespace = &pod.namespace;
        let tenant = next.membership.get(namespace).cloned();
        let tenant = tenant.unwrap_or_else(|| TenantId::Namespace(namespace.clone()));
        let mut workload = Workload::clone(own);
        if let Some(local) = local.filter(|local| is_the_same(own, local)) {
            workload.netns.clone_from(&local.netns);
            workload.probes.clone_from(&local.probes);
            workload.ports.clone_from(&local.ports);
            workload.exclusions.clone_from(&local.exclusions);
            if next.tenants.get(&tenant).is_some_and(|tenant| tenant.egress == Egress::Mesh) {
                let inbound_ports = std::mem::take(&mut workload.exclusions.inbound_ports);
                workload.exclusions = Exclusions { inbound_ports, ..Exclusions::default() };
            }
        }
        workload.tenant = tenant;
        self.close(&mut workload, peers);
        if workload == **own { Arc::clone(own) } else { same(workload, next.workloads.get(pod)) }
    }

    fn close(&mut self, workload: &mut Workload, peers: &Peers<'_>) {
        if workload.exclusions.inbound_ports.is_empty() {
            self.asking.remove(&workload.pod);
            self.closed.remove(&workload.pod);
            return;
        }
        self.asking.insert(workload.pod.clone());
        match plaintext::strict(peers, workload) {
            Some(ports) => {
                workload
                    .exclusions
                    .inbound_ports
                    .retain(|port| ports.iter().all(|(closed, _)| closed != port));
                self.closed.insert(workload.pod.clone(), ports);
            }
            None => drop(self.closed.remove(&workload.pod)),
        }
    }
}

/// A pod that was made anew under its name is another: nothing that was said of the one is true of the other.
fn is_the_same(own: &Workload, local: &Workload) -> bool {
    match (&own.uid, &local.uid) {
        (Some(own), Some(local)) => own == local,
        _ => true,
    }
}
