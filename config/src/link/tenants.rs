//! Which namespace belongs to whom: a `Tenant` object's word, else the namespace is a tenant by itself, with what the one `Tenant`
//! says that is the default.

use std::sync::Arc;

use super::{Candidate, Linking, Refusal, claims, stand_ins, whole};
use crate::{
    finding::{Reason, Severity},
    lower::{Draft, Lowered, NamespaceDraft, undescribed},
    model::{Budget, Egress, Isolation, Tenant},
    name::{Namespace, TenantId},
    opt_in::Kept,
};

/// Namespaces that every cluster has without a manifest.
const ALWAYS_THERE: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(super) fn know_namespace(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    if let Draft::Namespace(NamespaceDraft { facts, .. }) = &lowered.draft {
        linking.namespaces.insert(facts.name.clone());
        linking.mesh.namespaces.insert(facts.name.clone(), Arc::new(facts.clone()));
    }
    Ok(())
}

/// Gives a tenant its namespaces, unless another has one of them.
pub(super) fn claim(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Draft::Tenant(draft) = &lowered.draft else { return Ok(()) };
    claims::take(linking, lowered)?;
    if draft.default_place.is_some() {
        linking.default_tenant = Some(Arc::clone(lowered));
        return Ok(());
    }
    for (namespace, place) in draft.tenant.namespaces.iter().zip(&draft.namespace_places) {
        linking.mesh.membership.insert(namespace.clone(), draft.tenant.id.clone());
        if !is_there(linking, namespace) {
            linking.dangling(
                lowered,
                place,
                format!("there is no Namespace {namespace}: add it, or correct the name"),
            );
        }
    }
    linking.mesh.tenants.insert(draft.tenant.id.clone(), Arc::new(draft.tenant.clone()));
    Ok(())
}

/// Every namespace that no `Tenant` lists becomes a tenant; one without an object of its own is reported once.
pub(super) fn namespaces_by_themselves(linking: &mut Linking, candidates: &[Candidate]) {
    linking.findings.begin_base();
    for candidate in candidates {
        let named = candidate.object.namespace.as_deref();
        let Some(namespace) = named.and_then(|name| Namespace::try_from(name).ok()) else { continue };
        let Some(version) = candidate.fresh.as_ref().or(candidate.in_force.as_ref()) else { continue };
        if !linking.quiet.is_first(&namespace, candidate) {
            continue;
        }
        join(linking, &namespace);
        if !is_there(linking, &namespace) {
            let message = format!("there is no Namespace {namespace}: add it, or correct metadata.namespace");
            linking.dangling(version, &whole(version), message);
        }
    }
    for namespace in linking.namespaces.clone() {
        join(linking, &namespace);
    }
}

/// Keeps the namespaces to the mesh that a Tenant may keep there of which no version can be in force, where no other Tenant has them: what
/// stands in a part that nobody can read may be anybody's who writes there, and is no reason to limit another's tenant.
pub(super) fn keep(linking: &mut Linking, candidate: &Candidate) {
    if linking.used.contains_key(&candidate.object) {
        return;
    }
    let Some(version) = candidate.stand_in.as_ref().or(candidate.fresh.as_ref()) else { return };
    let Draft::Tenant(draft) = &version.draft else { return };
    if !draft.tenant.egress.is_mesh() {
        return;
    }
    let mut kept = draft.clone();
    kept.tenant.namespaces.retain(|namespace| {
        let itself = TenantId::Namespace(namespace.clone());
        let Some(tenant) = linking.mesh.tenants.get_mut(&itself) else { return false };
        *tenant = Arc::new(Tenant::clone(tenant).kept_in_doubt());
        true
    });
    if !kept.tenant.namespaces.is_empty() {
        let told = Lowered { draft: Draft::Tenant(kept), ..(**version).clone() };
        linking.findings.push(stand_ins::stood_in(candidate, &told));
        linking.stood_in.insert(candidate.object.clone(), Arc::clone(version));
    }
}

/// Says of a namespace that takes its pods out, although its tenant is kept to the mesh, that it does not.
pub(super) fn check_namespace(linking: &mut Linking, lowered: &Lowered) {
    let Draft::Namespace(NamespaceDraft { facts, off_place: Some(place) }) = &lowered.draft else { return };
    let tenant = of(linking, &facts.name);
    if is_kept(linking, &tenant) {
        let message = format!(
            "takes no pod out of the mesh, since spec.egress of Tenant {tenant} is mesh: remove this, or edit the Tenant"
        );
        linking.find(lowered, (Severity::Warning, Reason::NotPermitted), place, message);
    }
}

/// Whether a tenant's pods are kept to the mesh.
pub(super) fn is_kept(linking: &Linking, tenant: &TenantId) -> bool {
    kept(linking, tenant) != Kept::No
}

/// The same, as far as labels go.
pub(super) fn kept(linking: &Linking, tenant: &TenantId) -> Kept {
    linking.mesh.tenants.get(tenant).map(|tenant| tenant.kept()).unwrap_or_default()
}

fn join(linking: &mut Linking, namespace: &Namespace) {
    let facts = || Arc::new(undescribed(namespace.clone()));
    linking.mesh.namespaces.entry(namespace.clone()).or_insert_with(facts);
    if linking.mesh.membership.contains_key(namespace) {
        return;
    }
    let id = TenantId::Namespace(namespace.clone());
    linking.mesh.membership.insert(namespace.clone(), id.clone());
    let (isolation, budget) = linking.default_tenant.as_deref().map_or_else(Default::default, own);
    let namespaces = vec![namespace.clone()];
    let tenant = Tenant {
        id: id.clone(),
        namespaces,
        isolation,
        egress: Egress::default(),
        budget,
        owner: None,
        left_out: 0,
    };
    linking.mesh.tenants.insert(id, Arc::new(tenant));
}

/// What a default says of each namespace.
fn own(default: &Lowered) -> (Isolation, Budget) {
    let Draft::Tenant(draft) = &default.draft else { return Default::default() };
    (draft.tenant.isolation, draft.tenant.budget)
}

fn is_there(linking: &Linking, namespace: &Namespace) -> bool {
    linking.namespaces.contains(namespace) || ALWAYS_THERE.contains(&namespace.as_str())
}

/// The tenant of a namespace.
pub(super) fn of(linking: &Linking, namespace: &Namespace) -> TenantId {
    let owner = linking.mesh.membership.get(namespace).cloned();
    owner.unwrap_or_else(|| TenantId::Namespace(namespace.clone()))
}
