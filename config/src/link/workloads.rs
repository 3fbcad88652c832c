//! Pods beside each other: an address, and a network namespace, belong to one pod.

use std::{collections::BTreeSet, net::IpAddr, ops::Bound, sync::Arc};

use super::{Candidate, Linking, Owner, Refusal, as_pod, claims, tenants, whole};
use crate::{
    finding::{ObjectRef, Reason, Severity},
    lower::{Draft, Lowered, MODE, Membership, NETNS, WorkloadDraft},
    model::{Exclusions, Workload},
    name::{Name, Namespace, PodName},
    object::Kind,
    opt_in::{self, Asked, Decision, Kept, SIDECAR},
};

/// What a pod says of an address of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OfANode {
    /// That it is one.
    Address(IpAddr),
    /// That a pod of this namespace has it, being on the node's network.
    SharedWith(Arc<str>, IpAddr),
}

/// What a version of an object says of nodes' addresses.
pub(super) fn of_nodes(version: &Lowered) -> impl Iterator<Item = OfANode> {
    let pod = if let Draft::Pod(pod) = &version.draft { Some(pod) } else { None };
    let shared = version.object.namespace.iter().flat_map(move |namespace| {
        let addresses = pod.into_iter().flat_map(|pod| &pod.host_addresses);
        addresses.map(|address| OfANode::SharedWith(Arc::clone(namespace), *address))
    });
    pod.into_iter().flat_map(|pod| &pod.node_addresses).copied().map(OfANode::Address).chain(shared)
}

impl Linking {
    /// Whether a pod says of an address that it is a node's.
    pub(super) fn is_a_nodes(&self, address: IpAddr) -> bool {
        self.of_nodes.contains(&OfANode::Address(address))
    }
}

/// The same of all candidates: of every version, so that it does not depend on which is accepted.
pub(super) fn all_of_nodes(candidates: &[Candidate]) -> BTreeSet<OfANode> {
    let versions = candidates.iter().flat_map(|candidate| candidate.fresh.iter().chain(&candidate.in_force));
    versions.flat_map(|version| of_nodes(version)).collect()
}

pub(super) fn place(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Some(draft) = as_pod(lowered) else {
        check_host_network(linking, lowered);
        return Ok(());
    };
    let netns = claims::netns_here(draft, linking.node.as_ref()).filter(|_| draft.sandbox.is_none());
    claims::take(linking, lowered)?;
    let pod = &draft.workload.pod;
    check_account(linking, lowered, draft);
    for address in &draft.workload.addresses {
        linking.addresses.insert(*address, Owner::Pod(pod.clone()));
    }
    let mut workload = draft.workload.clone();
    workload.sidecar = draft.sidecar;
    workload.tenant = tenants::of(linking, &pod.namespace);
    let kept = tenants::kept(linking, &workload.tenant);
    let asked = asked(linking, draft, kept);
    let (decision, lacks_sidecar) = (opt_in::decide(&asked), opt_in::lacks_sidecar(&asked));
    let is_asked_for = decision == Decision::Node;
    let is_captured = is_asked_for && draft.sandbox.is_none();
    let is_taken_out = draft.off_place.is_some() && kept == Kept::No;
    workload.netns = netns.filter(|_| is_captured).cloned();
    // Whatever its sandbox is: the proxy is within it.
    let has_sidecar = decision == Decision::Sidecar;
    workload.meshed =
        is_captured || has_sidecar || (draft.membership == Membership::Elsewhere && !is_taken_out);
    if kept != Kept::No {
        keep_to_the_mesh(linking, lowered, draft, (&mut workload, is_captured));
    } else if is_taken_out {
        report_not_captured(linking, lowered, draft);
    }
    if is_asked_for {
        report_sandbox(linking, lowered, draft);
        report_sidecar(linking, lowered, draft, lacks_sidecar);
    }
    linking.mesh.workloads.insert(pod.clone(), Arc::new(workload));
    linking.pods.insert(pod.clone(), Arc::clone(lowered));
    Ok(())
}

/// The pods of a namespace that are in the mesh, in the order of their names.
pub(super) fn of_namespace<'a>(
    linking: &'a Linking,
    namespace: &'a Namespace,
) -> impl Iterator<Item = &'a Arc<Lowered>> {
    // No name is before this one.
    let first = Name::try_from("0").ok().map(|name| PodName::new(namespace.clone(), name));
    let from = first.map_or(Bound::Unbounded, Bound::Included);
    let pods = linking.pods.range((from, Bound::Unbounded));
    pods.take_while(|(name, _)| name.namespace == *namespace).map(|(_, pod)| pod)
}

fn report_not_captured(linking: &mut Linking, lowered: &Lowered, draft: &WorkloadDraft) {
    if let Some(place) = draft.netns_place.as_ref().filter(|_| !linking.of_cluster) {
        let message = "the pod is out of the mesh by its label canopy.mesh/mode: it is not captured";
        linking.find(lowered, (Severity::NotObeyed, Reason::NotObeyed), place, message.to_owned());
    }
}

/// A pod that is meant to be in, and cannot be.
fn report_sandbox(linking: &mut Linking, lowered: &Lowered, draft: &WorkloadDraft) {
    let Some((sandbox, place)) = &draft.sandbox else { return };
    let message = format!(
        "not captured, and out of the mesh: {}. Give it a runtimeClassName without a sandbox, or take it out by the label {MODE}: off",
        opt_in::Why::Sandboxed(sandbox)
    );
    linking.find(lowered, (Severity::Warning, Reason::NotAWorkload), place, message);
}

/// A pod that its node carries, and whose labels or containers say something else.
fn report_sidecar(linking: &mut Linking, lowered: &Lowered, draft: &WorkloadDraft, lacks_one: bool) {
    // Of pods in files nobody but their authors says what is within them.
    let (reason, message) = match (linking.of_cluster, lacks_one, draft.sidecar) {
        (true, true, _) => (
            Reason::NoSidecar,
            format!(
                "{MODE}: sidecar, and it has none (no init container {SIDECAR} that stays), so its node's daemon carries it. Make it anew, where \
                 the overlay sidecar is installed (kubectl rollout restart), or label it {MODE}: node"
            ),
        ),
        (true, false, true) => (
            Reason::NotObeyed,
            format!(
                "has a container {SIDECAR}, and its node's daemon carries it, by its labels or its Tenant: two proxies steer its connections. \
                 Make it anew without (kubectl rollout restart)"
            ),
        ),
        _ => return,
    };
    linking.find(lowered, (Severity::Warning, reason), &whole(lowered), message);
}

/// Nothing that is done in a pod's own network can keep a pod that has none: who may write such pods is for admission to say.
fn check_host_network(linking: &mut Linking, lowered: &Lowered) {
    let Draft::Pod(pod) = &lowered.draft else { return };
    let Some(place) = &pod.host_network_place else { return };
    let namespace = lowered.object.namespace.as_deref().and_then(|name| Namespace::try_from(name).ok());
    let Some(tenant) = namespace.map(|namespace| tenants::of(linking, &namespace)) else { return };
    if tenants::is_kept(linking, &tenant) {
        let message = format!(
            "goes where it likes by the node's network, although spec.egress of Tenant {tenant} is mesh: keep such pods out of its \
             namespaces by admission (Pod Security: baseline)"
        );
        linking.find(lowered, (Severity::Warning, Reason::NotPermitted), place, message);
    }
}

/// A tenant that is kept to the mesh is so by its own object's word: none of its pods' authors takes that back by a label or
/// an annotation.
fn keep_to_the_mesh(
    linking: &mut Linking,
    lowered: &Lowered,
    draft: &WorkloadDraft,
    (workload, is_captured): (&mut Workload, bool),
) {
    let tenant = &workload.tenant;
    let is_here = workload.node.is_some() && workload.node == linking.node;
    if is_captured && is_here && workload.netns.is_none() {
        let message = if linking.of_cluster {
            format!(
                "is on this node, and nobody has said yet where its network namespace is, so it is not captured, although spec.egress of \
                 Tenant {tenant} is mesh: is the container runtime followed (--container-runtime)?"
            )
        } else {
            format!(
                "is on this node and names no network namespace ({NETNS}), so it is not captured, although spec.egress of Tenant {tenant} \
                 is mesh: add the annotation"
            )
        };
        linking.find(lowered, (Severity::Warning, Reason::NotPermitted), &whole(lowered), message);
    }
    let message = format!(
        "not obeyed, since spec.egress of Tenant {tenant} is mesh: its pods' connections are steered wherever they go. Remove this, \
         and name what they need outside in a ServiceEntry"
    );
    for place in draft.around_places.iter().chain(&draft.off_place) {
        linking.find(lowered, (Severity::Warning, Reason::NotPermitted), place, message.clone());
    }
    let inbound_ports = std::mem::take(&mut workload.exclusions.inbound_ports);
    workload.exclusions = Exclusions { inbound_ports, ..Exclusions::default() };
}

/// By what it is decided who carries a pod, as if it had no sandbox of its own. Pods of the node's network, and pods that have ended, are none
/// here.
fn asked<'a>(linking: &'a Linking, draft: &'a WorkloadDraft, kept: Kept) -> Asked<'a> {
    let namespace = linking.mesh.namespaces.get(&draft.workload.pod.namespace);
    let namespace = namespace.and_then(|facts| facts.labels.get(MODE)).map(String::as_str);
    let pod = draft.workload.labels.get(MODE).map(String::as_str);
    // In files, whoever names a pod's network namespace asks for it by that, and only the label `off` is more.
    let is_named = draft.netns_place.is_some() && !linking.of_cluster;
    let is_out = draft.off_place.is_some() && kept == Kept::No;
    let pod = if is_named && !is_out { Some(opt_in::Mode::Node.as_str()) } else { pod };
    // A sidecar that somebody has started by hand stands in no manifest.
    let sidecar = draft.sidecar || !linking.of_cluster;
    Asked { namespace, pod, sidecar, kept, ..Asked::default() }
}

/// The identity is taken from the name alone, so a missing account is worth a word, not a refusal.
fn check_account(linking: &mut Linking, lowered: &Lowered, draft: &WorkloadDraft) {
    let account = draft.workload.identity.service_account.as_str();
    let object = ObjectRef {
        kind: Arc::from(Kind::ServiceAccount.as_str()),
        namespace: Some(Arc::from(draft.workload.pod.namespace.as_str())),
        name: Arc::from(account),
    };
    // Every namespace gets an account called `default` by itself.
    if account != "default" && !linking.used.contains_key(&object) {
        let message =
            format!("there is no {object}: add it, or correct the name (the pod speaks as it all the same)");
        linking.dangling(lowered, &draft.account_place, message);
    }
}
