//! Pods beside each other: an address, and a network namespace, belong to one pod.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{Candidate, Linking, Owner, Refusal, as_pod, claims, tenants};
use crate::{
    finding::{ObjectRef, Reason, Severity},
    lower::{Draft, Lowered, MODE, MODE_NODE, Membership, WorkloadDraft},
    model::{Egress, Exclusions, Workload},
    object::Kind,
};

/// Addresses of nodes, as far as pods tell: of every version, so that they do not depend on which is accepted.
pub(super) fn node_addresses(candidates: &[Candidate]) -> BTreeSet<IpAddr> {
    let versions = candidates.iter().flat_map(|candidate| candidate.fresh.iter().chain(&candidate.in_force));
    let pods =
        versions.filter_map(|version| if let Draft::Pod(pod) = &version.draft { Some(pod) } else { None });
    pods.flat_map(|pod| pod.node_addresses.iter().copied()).collect()
}

pub(super) fn place(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Some(draft) = as_pod(lowered) else { return Ok(()) };
    let netns = claims::netns_here(draft, linking.node.as_ref());
    claims::take(linking, lowered)?;
    let pod = &draft.workload.pod;
    check_account(linking, lowered, draft);
    for address in &draft.workload.addresses {
        linking.addresses.insert(*address, Owner::Pod(pod.clone()));
    }
    let mut workload = draft.workload.clone();
    workload.tenant = tenants::of(linking, &pod.namespace);
    workload.netns = netns.cloned();
    workload.meshed = is_meshed(linking, draft);
    keep_to_the_mesh(linking, lowered, draft, &mut workload);
    linking.mesh.workloads.insert(pod.clone(), Arc::new(workload));
    linking.pods.insert(pod.clone(), Arc::clone(lowered));
    Ok(())
}

/// A tenant that is kept to the mesh is so by its own object's word: none of its pods' authors takes that back by an annotation.
fn keep_to_the_mesh(
    linking: &mut Linking,
    lowered: &Lowered,
    draft: &WorkloadDraft,
    workload: &mut Workload,
) {
    let tenant = &workload.tenant;
    if linking.mesh.tenants.get(tenant).is_none_or(|tenant| tenant.egress != Egress::Mesh) {
        return;
    }
    let message = format!(
        "not obeyed, since spec.egress of Tenant {tenant} is mesh: its pods' connections are steered wherever they go. Remove this, \
         and name what they need outside in a ServiceEntry"
    );
    for place in &draft.around_places {
        linking.find(lowered, (Severity::Warning, Reason::NotPermitted), place, message.clone());
    }
    let inbound_ports = std::mem::take(&mut workload.exclusions.inbound_ports);
    workload.exclusions = Exclusions { inbound_ports, ..Exclusions::default() };
}

fn is_meshed(linking: &Linking, draft: &WorkloadDraft) -> bool {
    let namespace = linking.mesh.namespaces.get(&draft.workload.pod.namespace);
    match draft.membership {
        Membership::Off => false,
        Membership::On => true,
        Membership::AsNamespace => {
            namespace.is_some_and(|facts| facts.labels.get(MODE).is_some_and(|mode| mode == MODE_NODE))
        }
    }
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
