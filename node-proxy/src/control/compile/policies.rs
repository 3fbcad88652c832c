//! Policies by workload: which AuthorizationPolicies, PeerAuthentications and NetworkPolicies are about which pod, and
//! which ServiceEntries are for which tenant.
//!
//! Only pods of this machine: nobody else's connections are decided here. What did not change stays the same object.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use config::{
    model::{Action, AuthorizationPolicy, Mesh, NetworkPolicy, Peers, Scope, Service, Workload, has_all},
    name::{Namespace, PodName, ServiceName, TenantId},
};

pub(super) use super::seen::Others;
use super::seen::Seen;
use crate::control::names::{Answers, found};
use crate::snapshot::{
    network::{Network, PodNetwork},
    policies::{External, InboundPolicy, Opening, Policies},
};

/// What a version of the mesh made of policies.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    seen: Seen,
    tenants: HashMap<TenantId, Arc<Policies>>,
    externals: HashMap<TenantId, Arc<External>>,
    network: Arc<Network>,
}

impl Compiled {
    /// Takes over the policies of a mesh, and what was found for its ServiceEntries' hosts. `others` are whether any Service and any
    /// workload is another than it was.
    pub(super) fn update(&mut self, mesh: &Mesh, answers: &Answers, others: Others) {
        let differs = self.seen.update(mesh, answers, others);
        if differs.inbound {
            self.update_tenants(mesh);
        }
        if differs.external {
            self.update_externals(mesh, answers);
        }
        if !differs.network {
            return;
        }
        let network = network(mesh);
        if !is_same_network(&network, &self.network) {
            self.network = Arc::new(network);
        }
    }

    /// What protects a tenant's workloads.
    pub(super) fn of(&self, tenant: &TenantId) -> Arc<Policies> {
        self.tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// Where a tenant may go outside the mesh.
    pub(super) fn external(&self, tenant: &TenantId) -> Arc<External> {
        self.externals.get(tenant).cloned().unwrap_or_default()
    }

    /// NetworkPolicies by pod.
    pub(super) fn network(&self) -> Arc<Network> {
        Arc::clone(&self.network)
    }

    fn update_tenants(&mut self, mesh: &Mesh) {
        let index = Index::of(mesh);
        let mut pods: HashMap<TenantId, Vec<(PodName, Arc<InboundPolicy>)>> = HashMap::new();
        let mut shared: Vec<Arc<InboundPolicy>> = Vec::new();
        for workload in local(mesh) {
            let before = self.tenants.get(&workload.tenant).and_then(|known| known.of(&workload.pod));
            let policy = reuse(index.inbound(workload), before, &mut shared);
            pods.entry(workload.tenant.clone()).or_default().push((workload.pod.clone(), policy));
        }
        let same = |tenant: &TenantId, new: Policies| match self.tenants.get(tenant) {
            Some(before) if before.is_same(&new) => Arc::clone(before),
            _ => Arc::new(new),
        };
        self.tenants = pods
            .into_iter()
            .map(|(tenant, pods)| {
                let policies = same(&tenant, pods.into_iter().collect());
                (tenant, policies)
            })
            .collect();
    }

    fn update_externals(&mut self, mesh: &Mesh, answers: &Answers) {
        let limited = mesh.tenants.iter().filter(|(_, tenant)| tenant.egress.is_mesh());
        let new = limited.map(|(id, _)| {
            let opening = |entry: &Arc<config::model::ServiceEntry>| {
                let owner = mesh.membership.get(&entry.name.namespace);
                let is_for = entry.audience.every_tenant || owner == Some(id);
                let found = || owner.map(|owner| found(answers, owner, entry)).unwrap_or_default();
                is_for.then(|| Opening { entry: Arc::clone(entry), found: found() })
            };
            let external = External(mesh.service_entries.values().filter_map(opening).collect());
            let before = self.externals.get(id).filter(|before| before.is_same(&external));
            (id.clone(), before.map_or_else(|| Arc::new(external), Arc::clone))
        });
        self.externals = new.collect();
    }
}

fn local(mesh: &Mesh) -> impl Iterator<Item = &Arc<Workload>> {
    mesh.workloads.values().filter(|workload| workload.netns.is_some())
}

/// The object of before, or of another workload, where it says the same.
fn reuse(
    policy: InboundPolicy,
    before: Option<&Arc<InboundPolicy>>,
    shared: &mut Vec<Arc<InboundPolicy>>,
) -> Arc<InboundPolicy> {
    let is_same = |known: &&Arc<InboundPolicy>| same_policies(known, &policy);
    // Few sets of policies are distinct; a tail of ever different ones is not searched for long.
    let found = before.into_iter().chain(shared.iter().rev().take(SEARCHED)).find(is_same).cloned();
    let policy = found.unwrap_or_else(|| Arc::new(policy));
    if !shared.iter().rev().take(SEARCHED).any(|known| Arc::ptr_eq(known, &policy)) {
        shared.push(Arc::clone(&policy));
    }
    policy
}

const SEARCHED: usize = 16;

fn same_policies(one: &InboundPolicy, other: &InboundPolicy) -> bool {
    let same = |one: &[Arc<AuthorizationPolicy>], other: &[Arc<AuthorizationPolicy>]| {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
    };
    one.peers == other.peers
        && same(&one.deny, &other.deny)
        && same(&one.allow, &other.allow)
        && same(&one.doubtful, &other.doubtful)
}

/// Policies by the namespace that they are about; those of the mesh, by Service, and by pod, apart.
#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    mesh: Vec<&'a Arc<AuthorizationPolicy>>,
    namespaces: HashMap<&'a Namespace, Vec<&'a Arc<AuthorizationPolicy>>>,
    services: HashMap<&'a Namespace, Vec<Targeted<'a>>>,
    pods: HashMap<&'a PodName, Vec<&'a Arc<AuthorizationPolicy>>>,
    peers: Peers<'a>,
}

impl<'a> Index<'a> {
    pub(super) fn of(mesh: &'a Mesh) -> Self {
        let mut index = Self { peers: Peers::of(&mesh.peer_authentication), ..Self::default() };
        for policy in mesh.authorization.values() {
            match &policy.scope {
                Scope::Mesh | Scope::Selected { namespace: None, .. } => index.mesh.push(policy),
                Scope::Namespace(namespace) | Scope::Selected { namespace: Some(namespace), .. } => {
                    index.namespaces.entry(namespace).or_default().push(policy);
                }
                Scope::Services(services) => {
                    let targeted = Targeted::of(policy, services, &mesh.services);
                    index.services.entry(&policy.name.namespace).or_default().push(targeted);
                }
                Scope::Pods(pods) => {
                    pods.iter().for_each(|pod| index.pods.entry(pod).or_default().push(policy));
                }
            }
        }
        index
    }

    pub(super) fn inbound(&self, workload: &Workload) -> InboundPolicy {
        let own = self.namespaces.get(&workload.pod.namespace).into_iter().flatten();
        let targeted = self.services.get(&workload.pod.namespace).into_iter().flatten();
        let by_service = targeted.clone().filter(|one| one.is_about(workload)).map(|one| &one.policy);
        let selected = |policy: &&&Arc<AuthorizationPolicy>| match &policy.scope {
            Scope::Selected { labels, .. } => has_all(&workload.labels, labels),
            _ => true,
        };
        let named = self.pods.get(&workload.pod).into_iter().flatten();
        let all = self.mesh.iter().chain(own).chain(by_service).filter(selected).chain(named);
        let mut inbound = InboundPolicy { peers: self.peers.rule(workload), ..InboundPolicy::default() };
        for policy in all {
            let list = if policy.action == Action::Allow { &mut inbound.allow } else { &mut inbound.deny };
            list.push(Arc::clone(policy));
        }
        for Targeted { policy, .. } in targeted.filter(|one| one.is_perhaps_about(workload)) {
            let list = if policy.action == Action::Allow { &mut inbound.doubtful } else { &mut inbound.deny };
            list.push(Arc::clone(policy));
        }
        inbound
    }
}

/// A policy that names Services of its namespace.
#[derive(Debug)]
struct Targeted<'a> {
    policy: &'a Arc<AuthorizationPolicy>,
    services: Vec<&'a Service>,
    /// Whether all of them are there, and it is known who is behind them.
    resolved: bool,
}

impl<'a> Targeted<'a> {
    fn of(
        policy: &'a Arc<AuthorizationPolicy>,
        names: &[ServiceName],
        services: &'a BTreeMap<ServiceName, Arc<Service>>,
    ) -> Self {
        let found: Vec<&Service> =
            names.iter().filter_map(|name| services.get(name).map(AsRef::as_ref)).collect();
        let resolved = found.len() == names.len() && found.iter().all(|service| service.members.known);
        Self { policy, services: found, resolved }
    }

    fn is_about(&self, workload: &Workload) -> bool {
        self.services.iter().any(|service| service.members.have(&service.name, workload))
    }

    /// Whether nobody can tell that it is not.
    fn is_perhaps_about(&self, workload: &Workload) -> bool {
        !self.resolved && !self.is_about(workload)
    }
}

/// NetworkPolicies by pod of this machine.
fn network(mesh: &Mesh) -> Network {
    let mut by_namespace: HashMap<&Namespace, Vec<&Arc<NetworkPolicy>>> = HashMap::new();
    for policy in mesh.network_policies.values() {
        by_namespace.entry(&policy.name.namespace).or_default().push(policy);
    }
    let unlimited = Arc::new(PodNetwork::default());
    let pods = local(mesh).map(|workload| {
        let own = by_namespace.get(&workload.pod.namespace).into_iter().flatten().copied();
        let limits = limiting(own, workload).map_or_else(|| Arc::clone(&unlimited), Arc::new);
        (workload.pod.clone(), limits)
    });
    let namespaces = if mesh.network_policies.is_empty() {
        HashMap::new()
    } else {
        mesh.namespaces.iter().map(|(name, facts)| (name.clone(), Arc::clone(facts))).collect()
    };
    Network { pods: pods.collect(), namespaces }
}

/// The policies that limit a pod, among those of its namespace; `None` where none does.
pub(super) fn limiting<'a>(
    policies: impl Iterator<Item = &'a Arc<NetworkPolicy>>,
    workload: &Workload,
) -> Option<PodNetwork> {
    let selecting: Vec<_> = policies.filter(|policy| policy.pods.matches(&workload.labels)).collect();
    let limiting = |is: fn(&NetworkPolicy) -> bool| {
        selecting.iter().filter(|policy| is(policy)).map(|policy| Arc::clone(policy)).collect()
    };
    (!selecting.is_empty()).then(|| PodNetwork {
        ingress: limiting(|policy| policy.ingress.is_some()),
        egress: limiting(|policy| policy.egress.is_some()),
    })
}

fn is_same_network(one: &Network, other: &Network) -> bool {
    let same = |one: &[Arc<NetworkPolicy>], other: &[Arc<NetworkPolicy>]| {
        one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
    };
    let pod = |(name, pod): (&PodName, &Arc<PodNetwork>)| {
        other
            .pods
            .get(name)
            .is_some_and(|there| same(&pod.ingress, &there.ingress) && same(&pod.egress, &there.egress))
    };
    one.pods.len() == other.pods.len()
        && one.namespaces.len() == other.namespaces.len()
        && one.pods.iter().all(pod)
        && one
            .namespaces
            .iter()
            .all(|(name, facts)| other.namespaces.get(name).is_some_and(|there| Arc::ptr_eq(there, facts)))
}
