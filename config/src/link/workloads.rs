//! Pods beside each other: an address, and a network namespace, belong to one pod.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Linking, Owner, Refusal, as_pod, tenants};
use crate::{
    finding::{ObjectRef, Reason},
    lower::{Draft, Lowered, MODE, MODE_NODE, Membership, WorkloadDraft},
    object::Kind,
};

pub(super) fn place(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    if let Draft::Pod(pod) = &lowered.draft {
        linking.node_addresses.extend(&pod.node_addresses);
    }
    let Some(draft) = as_pod(lowered) else { return Ok(()) };
    let netns = draft.workload.netns.as_ref().filter(|_| is_here(linking, draft));
    check_free(linking, draft, netns)?;
    let pod = &draft.workload.pod;
    check_account(linking, lowered, draft);
    for address in &draft.workload.addresses {
        linking.addresses.insert(*address, Owner::Pod(pod.clone()));
    }
    if let Some(path) = netns {
        linking.netns.insert(one_spelling(path), pod.clone());
    }
    let mut workload = draft.workload.clone();
    workload.tenant = tenants::of(linking, &pod.namespace);
    workload.netns = netns.cloned();
    workload.meshed = is_meshed(linking, draft);
    linking.mesh.workloads.insert(pod.clone(), Arc::new(workload));
    linking.pods.insert(pod.clone(), Arc::clone(lowered));
    Ok(())
}

/// A path means a namespace of the machine it is on: the same one on another node is another namespace.
fn is_here(linking: &Linking, draft: &WorkloadDraft) -> bool {
    let of = draft.workload.node.as_ref();
    linking.node.as_ref().is_none_or(|here| of.is_none_or(|node| node == here))
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

fn check_free(linking: &Linking, draft: &WorkloadDraft, netns: Option<&PathBuf>) -> Result<(), Refusal> {
    let taken =
        |place: &super::Place, message| Refusal { place: place.clone(), reason: Reason::Conflict, message };
    for (address, place) in draft.workload.addresses.iter().zip(&draft.address_places) {
        if let Some(owner) = linking.addresses.get(address) {
            return Err(taken(
                place,
                format!("{address} belongs to {owner} already: give each pod an address of its own"),
            ));
        }
    }
    let netns = netns.zip(draft.netns_place.as_ref());
    if let Some((path, place)) = netns
        && let Some(owner) = linking.netns.get(&one_spelling(path))
    {
        let message = format!(
            "{} is the network namespace of Pod {owner} already: give each pod its own",
            path.display()
        );
        return Err(taken(place, message));
    }
    Ok(())
}

/// `/var/run` is a link to `/run` wherever network namespaces are bound to files; both are written.
fn one_spelling(path: &Path) -> PathBuf {
    path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest))
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
