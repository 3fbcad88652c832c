//! Policies beside the objects they name. A policy that names nothing that is there is still in force.

use std::sync::Arc;

use super::{Linking, Refusal, tenants};
use crate::{
    finding::{Reason, Severity},
    lower::{AuthorizationDraft, Draft, EntryDraft, HOSTS, Lowered},
    model::{Action, AuthorizationPolicy, Mesh, Scope},
    name::{ServiceName, TenantId},
};

pub(super) fn place(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    match &lowered.draft {
        Draft::Authorization(draft) => authorization(linking, lowered, draft),
        Draft::PeerAuthentication(policy) => {
            let policy = policy.clone();
            linking.mesh.peer_authentication.insert(policy.name.clone(), Arc::new(policy));
        }
        Draft::Network(policy) => {
            let policy = policy.clone();
            linking.mesh.network_policies.insert(policy.name.clone(), Arc::new(policy));
        }
        Draft::ServiceEntry(draft) => service_entry(linking, lowered, draft),
        _ => {}
    }
    Ok(())
}

fn service_entry(linking: &mut Linking, lowered: &Lowered, draft: &EntryDraft) {
    let mut entry = draft.entry.clone();
    let tenant = tenants::of(linking, &entry.name.namespace);
    let known = linking.hosts.entry(tenant.clone()).or_default();
    let (mut hosts, mut beyond) = (Vec::new(), Vec::new());
    for (host, place) in entry.hosts.iter().zip(&draft.host_places) {
        if known.contains(host) || known.len() < HOSTS {
            known.insert(host.clone());
            hosts.push(host.clone());
        } else {
            beyond.push(place);
        }
    }
    entry.hosts = hosts;
    report_others(linking, lowered, draft, &tenant);
    for place in beyond {
        let message =
            format!("opens nothing: {tenant} names {HOSTS} hosts already, which is as many as are looked up");
        linking.find(lowered, (Severity::NotObeyed, Reason::TooLarge), place, message);
    }
    if entry.opens_anything() {
        linking.mesh.service_entries.insert(entry.name.clone(), Arc::new(entry));
    }
}

/// An entry opens to its own tenant alone, whomever it is exported to, unless it is of the root namespace.
fn report_others(linking: &mut Linking, lowered: &Lowered, draft: &EntryDraft, tenant: &TenantId) {
    if draft.entry.audience.every_tenant {
        return;
    }
    for (namespace, place) in &draft.exported {
        let owner = tenants::of(linking, namespace);
        if owner != *tenant {
            let message = format!(
                "opens nothing to namespace {namespace}, which is of another tenant ({owner}): have its owner write an entry, or the \
                 mesh's root namespace"
            );
            linking.find(lowered, (Severity::Warning, Reason::NotPermitted), place, message);
        }
    }
}

fn authorization(linking: &mut Linking, lowered: &Arc<Lowered>, draft: &AuthorizationDraft) {
    let Some(policy) = &draft.policy else { return };
    if let (Scope::Services(services), Some(place)) = (&policy.scope, &draft.targets_place) {
        for service in services {
            if let Some(why) = unresolved(&linking.mesh, service) {
                let message = format!("{why}. Until then {}", meanwhile(policy));
                linking.dangling(lowered, place, message);
            }
        }
    }
    linking.mesh.authorization.insert(policy.name.clone(), Arc::new(policy.clone()));
}

/// Why nobody can tell which pods are behind a Service, and what to do about it.
fn unresolved(mesh: &Mesh, service: &ServiceName) -> Option<String> {
    match mesh.services.get(service) {
        Some(known) if known.members.known => None,
        Some(known) if known.members.named.is_empty() => Some(format!(
            "Service {service} has no selector, and no EndpointSlice is known: add one, or select by labels"
        )),
        Some(_) => Some(format!(
            "Service {service} has no selector, and an EndpointSlice of its namespace is rejected: mend it"
        )),
        None => Some(format!("there is no Service {service} with pods: add it, or correct the name")),
    }
}

/// What a policy does whose target is not known: nothing that it would refuse is let in, and it lets nothing in by itself.
fn meanwhile(policy: &AuthorizationPolicy) -> String {
    let namespace = &policy.name.namespace;
    match policy.action {
        Action::Allow => format!(
            "every pod of namespace {namespace} about which no other policy with ALLOW is takes only what this one allows"
        ),
        Action::Deny | Action::Unreadable => {
            format!("it denies what its rules match to every pod of namespace {namespace}")
        }
    }
}
