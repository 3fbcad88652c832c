//! Workloads by address, with what Services say of their ports.
//!
//! Must never make a new entry where neither the workload nor what is said of it changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use config::{model::Workload, name::PodName};

use super::{clusters::Clusters, differences::differences};
use crate::snapshot::WorkloadEntry;

/// All workloads of a mesh.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    known: BTreeMap<PodName, Arc<Workload>>,
    holders: HashMap<IpAddr, BTreeSet<PodName>>,
    entries: Arc<HashMap<IpAddr, Arc<WorkloadEntry>>>,
}

impl Workloads {
    /// Takes over the workloads of a mesh; whether any is another than it was. `touched` are addresses of whose ports something else may
    /// be said.
    pub(super) fn update(
        &mut self,
        workloads: &BTreeMap<PodName, Arc<Workload>>,
        clusters: &Clusters,
        mut touched: BTreeSet<IpAddr>,
    ) -> bool {
        let different = differences(&self.known, workloads, Arc::ptr_eq);
        let differ = !different.is_empty();
        for pod in different {
            self.forget(&pod, &mut touched);
            let Some(workload) = workloads.get(&pod) else { continue };
            for address in canonical(workload) {
                self.holders.entry(address).or_default().insert(pod.clone());
                touched.insert(address);
            }
            self.known.insert(pod, Arc::clone(workload));
        }
        for address in touched {
            self.refresh(address, clusters);
        }
        differ
    }

    /// Entries by address.
    pub(super) fn by_address(&self) -> Arc<HashMap<IpAddr, Arc<WorkloadEntry>>> {
        Arc::clone(&self.entries)
    }

    fn forget(&mut self, pod: &PodName, touched: &mut BTreeSet<IpAddr>) {
        let Some(workload) = self.known.remove(pod) else { return };
        for address in canonical(&workload) {
            touched.insert(address);
            if let Some(holders) = self.holders.get_mut(&address) {
                holders.remove(pod);
                if holders.is_empty() {
                    self.holders.remove(&address);
                }
            }
        }
    }

    fn refresh(&mut self, address: IpAddr, clusters: &Clusters) {
        let Some(workload) = self.holder(address) else {
            if self.entries.contains_key(&address) {
                Arc::make_mut(&mut self.entries).remove(&address);
            }
            return;
        };
        let protocols = clusters.protocols(address);
        // Asked by what comes to the pod itself.
        let here = workload.netns.is_some();
        let answers = if here { clusters.answers(address) } else { Vec::new() };
        let same = |entry: &Arc<WorkloadEntry>| {
            Arc::ptr_eq(&entry.workload, &workload)
                && entry.protocols == protocols
                && entry.answers == answers
        };
        if !self.entries.get(&address).is_some_and(same) {
            let entry = Arc::new(WorkloadEntry { workload, protocols, answers });
            Arc::make_mut(&mut self.entries).insert(address, entry);
        }
    }

    /// Where two pods claim one address (a pod that ended, a host network), the first by name that is on this machine,
    /// otherwise the first by name.
    fn holder(&self, address: IpAddr) -> Option<Arc<Workload>> {
        let holders = self.holders.get(&address)?;
        let mut workloads = holders.iter().filter_map(|pod| self.known.get(pod));
        let local = workloads.clone().find(|workload| workload.netns.is_some());
        local.or_else(|| workloads.next()).cloned()
    }
}

fn canonical(workload: &Workload) -> impl Iterator<Item = IpAddr> {
    workload.addresses.iter().map(IpAddr::to_canonical)
}
