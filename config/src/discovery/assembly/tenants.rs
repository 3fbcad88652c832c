//! Whose namespaces are whose: a Tenant's word, else the namespace is a tenant by itself.
//!
//! As `link::tenants` has it for files. Where a Tenant cannot be read, what may be its own must never go further than the mesh.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    super::lower::{Key, Object},
    held::Held,
};
use crate::{
    lower::undescribed,
    model::{Budget, Egress, Isolation, Mesh, NamespaceFacts, Tenant},
    name::{Namespace, TenantId},
    store::{Changes, changes::share},
};

/// Renews tenants, membership and namespaces, those `besides` among them of which nothing is held. Returns the namespaces whose pods may
/// be of another tenant now, or go elsewhere.
pub(super) fn renew<'a>(
    held: &'a Held,
    besides: impl Iterator<Item = &'a Namespace>,
    mesh: &mut Mesh,
    changes: &mut Changes,
) -> BTreeSet<Namespace> {
    let all: BTreeSet<&Namespace> = held.namespaces().chain(besides).collect();
    let before = egress_by_namespace(mesh);
    let kept = Kept::of(held);
    let mut membership: BTreeMap<Namespace, TenantId> = BTreeMap::new();
    let listed: Vec<&Arc<Tenant>> = held.tenants().filter_map(as_tenant).collect();
    for tenant in &listed {
        for namespace in &tenant.namespaces {
            membership.entry(namespace.clone()).or_insert_with(|| tenant.id.clone());
        }
    }
    let mut tenants = BTreeMap::new();
    for tenant in listed {
        if let Some(tenant) = own(tenant, &membership, &kept) {
            tenants.insert(tenant.id.clone(), tenant);
        }
    }
    for namespace in all.iter().copied() {
        if !membership.contains_key(namespace) {
            let id = TenantId::Namespace(namespace.clone());
            membership.insert(namespace.clone(), id.clone());
            tenants.insert(id, Arc::new(by_itself(namespace, kept.unlisted(namespace))));
        }
    }
    let facts = |namespace: &Namespace| match held.object(&Key::Namespace(namespace.clone())) {
        Some(Object::Namespace(facts)) => (namespace.clone(), Arc::clone(facts)),
        _ => (namespace.clone(), Arc::new(undescribed(namespace.clone()))),
    };
    let mut namespaces: BTreeMap<Namespace, Arc<NamespaceFacts>> = all.into_iter().map(facts).collect();
    changes.tenants.extend(share(&mesh.tenants, &mut tenants));
    changes.namespaces.extend(share(&mesh.namespaces, &mut namespaces));
    (mesh.tenants, mesh.namespaces, mesh.membership) = (tenants, namespaces, membership);
    let after = egress_by_namespace(mesh);
    let all = before.keys().chain(after.keys());
    all.filter(|namespace| before.get(*namespace) != after.get(*namespace)).cloned().collect()
}

fn as_tenant(object: &Object) -> Option<&Arc<Tenant>> {
    if let Object::Tenant(tenant) = object { Some(tenant) } else { None }
}

/// A tenant with the namespaces that are its own; `None` of a namespace by itself that another has.
fn own(tenant: &Arc<Tenant>, membership: &BTreeMap<Namespace, TenantId>, kept: &Kept) -> Option<Arc<Tenant>> {
    let is_own = |namespace: &&Namespace| membership.get(*namespace) == Some(&tenant.id);
    let namespaces: Vec<Namespace> = tenant.namespaces.iter().filter(is_own).cloned().collect();
    if namespaces.is_empty() && matches!(tenant.id, TenantId::Namespace(_)) {
        return None;
    }
    // One that cannot be read may say so of one of its namespaces, and may have had it on a node that had read it.
    let is_kept = !tenant.egress.is_mesh() && namespaces.iter().any(|namespace| kept.listed(namespace));
    if namespaces == tenant.namespaces && !is_kept {
        return Some(Arc::clone(tenant));
    }
    let own = Tenant { namespaces, ..Tenant::clone(tenant) };
    Some(Arc::new(if is_kept { own.kept_in_doubt() } else { own }))
}

fn by_itself(namespace: &Namespace, is_kept: bool) -> Tenant {
    let tenant = Tenant {
        id: TenantId::Namespace(namespace.clone()),
        namespaces: vec![namespace.clone()],
        isolation: Isolation::default(),
        egress: Egress::default(),
        budget: Budget::default(),
        owner: None,
        left_out: 0,
    };
    if is_kept { tenant.kept_in_doubt() } else { tenant }
}

/// The namespaces that Tenants may keep to the mesh that cannot be read.
struct Kept {
    all_unlisted: bool,
    named: BTreeSet<Namespace>,
}

impl Kept {
    fn of(held: &Held) -> Self {
        let mut kept = Self { all_unlisted: false, named: BTreeSet::new() };
        for object in held.objects(&Key::Kept) {
            match object {
                Object::Kept(Some(namespaces)) => kept.named.extend(namespaces.iter().cloned()),
                _ => kept.all_unlisted = true,
            }
        }
        kept
    }

    fn listed(&self, namespace: &Namespace) -> bool {
        self.named.contains(namespace)
    }

    fn unlisted(&self, namespace: &Namespace) -> bool {
        self.all_unlisted || self.listed(namespace)
    }
}

/// Of whom a namespace is, and whether its pods are kept to the mesh.
fn egress_by_namespace(mesh: &Mesh) -> BTreeMap<Namespace, (TenantId, Option<Egress>)> {
    let of = |(namespace, id): (&Namespace, &TenantId)| {
        (namespace.clone(), (id.clone(), mesh.tenants.get(id).map(|tenant| tenant.egress)))
    };
    mesh.membership.iter().map(of).collect()
}
