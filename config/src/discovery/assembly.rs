//! The node's side: resources in, a mesh out.
//!
//! The mesh is a function of what is held, never of the order in which it came. A resource that cannot be read leaves its last good
//! version in force, and what protects never goes without one: must never open anything, nor stall what others say.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use self::{
    held::{Dirty, Entry, Held, Id},
    told::Told,
};
use super::{
    Kind, Rejection, Resource,
    lower::{self, Bad, Key, Lowered, Object, Site, guard, stand_in},
};
use crate::{
    condition::Standing,
    finding::{Finding, Reason},
    model::{Mesh, Workload},
    name::{ClusterDomain, PodName},
    options::Options,
    store::{Changes, Rejected, spare::Spare},
};

mod build;
mod early;
mod held;
mod tenants;
mod told;
mod workloads;

/// What came of all resources as they are now.
#[derive(Debug, Clone)]
pub struct Made {
    /// The mesh; the same `Arc` as before if nothing changed.
    pub mesh: Arc<Mesh>,
    /// What differs from the mesh before.
    pub changes: Changes,
    /// Pods of this machine that are there, but not in the mesh.
    pub rejected: Rejected,
    /// Everything there is to say about the resources as they are now, by type and name.
    pub findings: Vec<Finding>,
    /// What became of each object. Of pods, those that were taken are left out: there may be a million.
    pub standings: Arc<[Arc<Standing>]>,
}

/// Resources over time.
#[derive(Debug)]
pub struct Assembly {
    options: Options,
    site: Site,
    held: Held,
    dirty: Dirty,
    mesh: Arc<Mesh>,
    spare: Spare,
    workloads: workloads::State,
    early: early::Early,
    told: Told,
}

impl Assembly {
    /// One that has seen nothing yet. Our network is the one without a name.
    pub fn new(options: Options, domain: ClusterDomain) -> Self {
        let mesh = Arc::new(Mesh { trust_domain: options.trust_domain.clone(), ..Mesh::default() });
        let held = Held::new(domain.clone());
        let site = Site { domain, network: String::new(), bytes: options.limits.file_bytes };
        Self {
            options,
            site,
            mesh,
            spare: Spare::default(),
            held,
            dirty: Dirty::default(),
            workloads: workloads::State::default(),
            early: early::Early::default(),
            told: Told::default(),
        }
    }

    /// Names the network that this node is in: addresses of it can be dialled, as those of the one without a name can. To be said
    /// before anything is taken in.
    #[must_use]
    pub fn on_network(mut self, network: &str) -> Self {
        network.clone_into(&mut self.site.network);
        self
    }

    /// Names the cluster that this node is in, as the control plane calls it: where another one has a pod of the same name, its own counts.
    /// To be said before anything is taken in.
    #[must_use]
    pub fn in_cluster(mut self, cluster: &str) -> Self {
        self.held.be_in(cluster);
        self
    }

    /// Takes in new and changed resources of a type, and lets go of those that are removed. Each is taken or not by itself: what is
    /// not is answered, and stays as it was.
    pub fn take(&mut self, kind: Kind, set: Vec<Resource>, removed: &[String]) -> Vec<Rejection> {
        for name in removed {
            self.held.put((kind, Arc::from(name.as_str())), None, &mut self.dirty);
        }
        set.iter().filter_map(|resource| self.take_one(kind, resource)).collect()
    }

    /// Says which pods are on this machine, and what only it knows of them: network namespace, probes, ports, and what their
    /// capture leaves alone.
    pub fn place(&mut self, local: BTreeMap<PodName, Arc<Workload>>) {
        self.dirty.keys.extend(self.workloads.place(local).into_iter().map(Key::Workload));
    }

    /// Says which of the pods that are [on this machine](Self::place) are enrolled before anybody can tell of them: those that wait at
    /// the gate, whose addresses the API server has only once they have passed it. They are in the mesh as this machine knows them, go out
    /// as themselves, and take no connection until they are told of.
    pub fn expect(&mut self, pods: BTreeSet<PodName>) {
        let others: Vec<PodName> = self.early.expect(pods).collect();
        self.dirty.tenants |= !others.is_empty();
        self.dirty.keys.extend(others.into_iter().map(Key::Workload));
    }

    /// Says of which of the pods that are [on this machine](Self::place) the addresses are those that their sandboxes have, by the word of
    /// who made these. Whatever else is said of their addresses is of former sandboxes: a control plane hears of a pod's new address
    /// only when the pod has passed the gate.
    pub fn vouch(&mut self, pods: BTreeSet<PodName>) {
        self.dirty.keys.extend(self.workloads.vouch(pods).into_iter().map(Key::Workload));
    }

    /// Puts the mesh together anew, as far as anything changed.
    pub fn make(&mut self) -> Made {
        let mut dirty = mem::take(&mut self.dirty);
        let mut changes = Changes::default();
        if !dirty.is_empty() {
            self.renew(&mut dirty, &mut changes);
        }
        let unknown = self.workloads.unknown(&self.mesh);
        let standings = self.told.standings(&self.held, &self.mesh, &dirty);
        let rejected = Rejected {
            netns: unknown.iter().filter_map(|workload| workload.netns.clone()).collect(),
            may_be_more: false,
        };
        let mut findings = told::findings(&self.held);
        findings.extend(unknown.iter().map(|workload| told::unknown(workload)));
        findings.extend(self.workloads.findings());
        findings.sort_by(|one, other| (&one.file, &one.message).cmp(&(&other.file, &other.message)));
        Made { mesh: Arc::clone(&self.mesh), changes, rejected, findings, standings }
    }

    fn take_one(&mut self, kind: Kind, resource: &Resource) -> Option<Rejection> {
        let id: Id = (kind, Arc::from(resource.name.as_str()));
        let known = self.held.get(&id);
        let is_new = known.is_none_or(|entry| entry.is_stand_in || entry.object.is_none());
        let limit = self.options.limits.objects;
        let read = if is_new && self.held.accepted(kind) >= limit {
            Err(Bad::new(Reason::TooLarge, format!("more than {limit} of its type: it is not read")))
        } else {
            lower::lower(kind, resource, &self.site)
        };
        let guard = |object: Option<&Object>| match kind {
            Kind::Address => guard::of(resource, object, &self.site),
            _ => Vec::new(),
        };
        let (entry, rejection) = match read {
            Ok(Lowered { object, notes }) => {
                let guarded = guard(Some(&object));
                (Entry { guarded, ..Entry::good(object, notes) }, None)
            }
            Err(bad) => {
                // By what was known before, it would be reached around the proxy that it names now.
                let is_around = kind == Kind::Address && guard::names_waypoint(resource);
                let kept = known.and_then(Entry::last_good).filter(|_| !is_around);
                let stand_in = || stand_in::of(kind, resource, &self.options.root_namespace);
                let Bad { reason, message } = bad.clone();
                let name = resource.name.clone();
                let entry = Entry { guarded: guard(None), ..Entry::rejected(bad, kept, stand_in) };
                (entry, Some(Rejection { kind, name, reason, message }))
            }
        };
        self.held.put(id, Some(entry), &mut self.dirty);
        rejection
    }
}

#[cfg(test)]
mod tests;
