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
    early::Early,
    held::Held,
    told,
};
use crate::{
    finding::Finding,
    link::plaintext,
    model::{Action, AuthorizationPolicy, ConnectionMatch, Exclusions, Mesh, Peers, Workload, is_about},
    name::{PodName, PolicyName, TenantId},
};

/// The pods of this machine, and what has to be remembered of those with ports that are left alone.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Pods of this machine, as its own files tell.
    local: BTreeMap<PodName, Arc<Workload>>,
    /// Those whose addresses there are known from who made their sandboxes.
    vouched: BTreeSet<PodName>,
    /// Those that are in the mesh as their files tell, since no resource is about them.
    untold: BTreeSet<PodName>,
    /// Those that ask for it, whether it is granted or not.
    asking: BTreeSet<PodName>,
    /// The ports that are captured all the same, and who says so.
    closed: BTreeMap<PodName, Vec<(u16, PolicyName)>>,
}

impl State {
    /// Takes over the pods of this machine, and names those of which something else is known now.
    pub(super) fn place(&mut self, local: BTreeMap<PodName, Arc<Workload>>) -> Vec<PodName> {
        let before = std::mem::replace(&mut self.local, local);
        let all: BTreeSet<&PodName> = before.keys().chain(self.local.keys()).collect();
        all.into_iter().filter(|pod| before.get(*pod) != self.local.get(*pod)).cloned().collect()
    }

    /// Takes over of which pods the addresses are known, and names those of which it is not as before.
    pub(super) fn vouch(&mut self, pods: BTreeSet<PodName>) -> Vec<PodName> {
        let before = std::mem::replace(&mut self.vouched, pods);
        before.symmetric_difference(&self.vouched).cloned().collect()
    }

    /// Those that are in the mesh without anybody's word but their node's.
    pub(super) fn untold(&self) -> &BTreeSet<PodName> {
        &self.untold
    }

    /// Pods of this machine that no resource tells of.
    pub(super) fn unknown(&self, mesh: &Mesh) -> Vec<Arc<Workload>> {
        let is_known = |workload: &Workload| {
            mesh.workloads.get(&workload.pod).is_some_and(|known| known.netns.is_some())
        };
        let here = self.local.values().filter(|workload| workload.netns.is_some());
        here.filter(|workload| !is_known(workload)).cloned().collect()
    }

    /// Makes pods anew; those, too, whose ports somebody else may have closed or opened.
    pub(super) fn renew(
        &mut self,
        (resources, early): (&Held, &Early),
        mut pods: BTreeSet<PodName>,
        next: &mut Mesh,
        changes: &mut Changes,
    ) {
        if !(changes.peer_authentication.is_empty() && changes.authorization.is_empty()) {
            pods.extend(self.asking.iter().cloned());
        }
        if pods.is_empty() {
            return;
        }
        let all = std::mem::take(&mut next.peer_authentication);
        let peers = Peers::of(&all);
        for pod in pods {
            let local = Local { workload: self.local.get(&pod), is_vouched: self.vouched.contains(&pod) };
            let early = local.workload.filter(|local| early.has(&pod) && local.netns.is_some());
            let held = match resources.object(&Key::Workload(pod.clone())) {
                // Of another of its name, or of a former sandbox: the control plane has not heard of this one yet.
                Some(Object::Workload(held)) if early.is_none() || local.is_it(&held.workload) => Some(held),
                _ => None,
            };
            let workload = match held {
                Some(held) => {
                    let placed = place(&held.workload, local, next);
                    let workload = self.close(placed, |placed| closed(placed, &peers, resources, next));
                    Some(share(workload, &held.workload, next))
                }
                None => {
                    self.asking.remove(&pod);
                    self.closed.remove(&pod);
                    early.map(|own| same(place(own, local, next), next.workloads.get(&pod)))
                }
            };
            if held.is_none() && workload.is_some() {
                self.untold.insert(pod.clone());
            } else {
                self.untold.remove(&pod);
            }
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

    /// Has ports captured like any other that take no plaintext.
    fn close(
        &mut self,
        mut workload: Workload,
        closed: impl FnOnce(&Workload) -> Vec<(u16, PolicyName)>,
    ) -> Workload {
        let pod = workload.pod.clone();
        let asks = !workload.exclusions.inbound_ports.is_empty();
        let closed = if asks { closed(&workload) } else { Vec::new() };
        let is_open = |port: &u16| closed.iter().all(|(closed, _)| closed != port);
        workload.exclusions.inbound_ports.retain(is_open);
        if asks {
            self.asking.insert(pod.clone())
        } else {
            self.asking.remove(&pod)
        };
        if closed.is_empty() {
            self.closed.remove(&pod)
        } else {
            self.closed.insert(pod, closed)
        };
        workload
    }
}

/// What only this machine knows of a pod.
#[derive(Debug, Clone, Copy)]
struct Local<'a> {
    workload: Option<&'a Arc<Workload>>,
    /// Whether it has its addresses from who made its sandbox.
    is_vouched: bool,
}

impl<'a> Local<'a> {
    /// A pod that was made anew under its name is another: nothing that was said of the one is true of the other. Who says no UIDs is
    /// known by an address, which is no other sandbox's.
    fn of(&self, own: &Workload) -> Option<&'a Arc<Workload>> {
        self.workload.filter(|local| match (&own.uid, &local.uid) {
            (Some(own), Some(local)) => own == local,
            _ if !self.is_vouched || own.addresses.is_empty() => true,
            _ => own.addresses.iter().any(|address| local.addresses.contains(address)),
        })
    }

    fn is_it(&self, own: &Workload) -> bool {
        self.of(own).is_some()
    }
}

/// A workload, with what only this machine knows of it.
fn place(own: &Workload, local: Local<'_>, next: &Mesh) -> Workload {
    let namespace = &own.pod.namespace;
    let tenant = next.membership.get(namespace).cloned();
    let tenant = tenant.unwrap_or_else(|| TenantId::Namespace(namespace.clone()));
    let mut workload = own.clone();
    let is_vouched = local.is_vouched;
    if let Some(local) = local.of(own) {
        if is_vouched && !local.addresses.is_empty() {
            workload.addresses.clone_from(&local.addresses);
        }
        workload.netns.clone_from(&local.netns);
        workload.sidecar = local.sidecar;
        workload.probes.clone_from(&local.probes);
        workload.ports.clone_from(&local.ports);
        workload.exclusions.clone_from(&local.exclusions);
        if next.tenants.get(&tenant).is_some_and(|tenant| tenant.egress.is_mesh()) {
            let inbound_ports = std::mem::take(&mut workload.exclusions.inbound_ports);
            workload.exclusions = Exclusions { inbound_ports, ..Exclusions::default() };
        }
    }
    Workload { tenant, ..workload }
}

/// A workload, as the very one that is known if it is the same.
fn share(workload: Workload, own: &Arc<Workload>, next: &Mesh) -> Arc<Workload> {
    if workload == **own { Arc::clone(own) } else { same(workload, next.workloads.get(&own.pod)) }
}

/// The ports that are left alone and take no plaintext, and who says so: PeerAuthentications, or the policies that Istio makes of
/// its own.
fn closed(workload: &Workload, peers: &Peers<'_>, resources: &Held, next: &Mesh) -> Vec<(u16, PolicyName)> {
    let mut closed = plaintext::strict(peers, workload).unwrap_or_default();
    let made_up = resources.made_up().filter_map(|name| next.authorization.get(name));
    let denying =
        made_up.filter(|policy| policy.action != Action::Allow && is_about(&policy.scope, workload));
    for policy in denying {
        let refuses = |port: &&u16| policy.action == Action::Unreadable || refuses_plaintext(policy, **port);
        let ports = workload.exclusions.inbound_ports.iter().filter(refuses);
        closed.extend(ports.map(|port| (*port, policy.name.clone())));
    }
    closed
}

/// Whether a policy that denies could mean a caller who proves nothing, from wherever.
fn refuses_plaintext(policy: &AuthorizationPolicy, port: u16) -> bool {
    let could = |one: &ConnectionMatch| {
        let asks_who =
            !(one.principals.is_empty() && one.namespaces.is_empty() && one.service_accounts.is_empty());
        let is_port = one.ports.is_empty() || one.ports.contains(&port);
        !asks_who && is_port && !one.not_ports.contains(&port)
    };
    policy.rules.iter().any(|rule| rule.clauses.iter().all(|clause| clause.any.iter().any(could)))
}
