//! Tenant (canopy.mesh/v1alpha1): membership, isolation, egress, budget; or what namespaces have that no Tenant lists.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Context, Meta, Place, budget};
use crate::{
    document::Node,
    finding::Reason,
    model::{Budget, Egress, Isolation, Tenant},
    name::{Name, Namespace, TenantId},
};

/// A tenant whose claims on namespaces are not settled yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TenantDraft {
    pub(crate) tenant: Tenant,
    /// Where each of its namespaces is written, in order.
    pub(crate) namespace_places: Vec<Place>,
    /// Where it says that it is for all namespaces that no Tenant lists, each by itself.
    pub(crate) default_place: Option<Place>,
}

impl TenantDraft {
    /// What stands in for a tenant that cannot be read: nothing it could have said of egress is stricter.
    pub(super) fn kept(name: Name, namespaces: Vec<Namespace>) -> Self {
        let (isolation, budget) = (Isolation::default(), Budget::default());
        let tenant = Tenant {
            id: TenantId::Tenant(name),
            namespaces,
            isolation,
            egress: Egress::Mesh,
            budget,
            owner: None,
            left_out: 0,
        };
        Self { tenant, namespace_places: Vec::new(), default_place: None }
    }
}

pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<TenantDraft> {
    let spec = root.get("spec")?;
    let (namespaces, namespace_places) = namespaces(context, spec);
    let default_place = default_place(context, spec);
    let isolation = word(
        context,
        spec.get("isolation"),
        &[("thread", Isolation::Thread), ("process", Isolation::Process)],
    );
    let egress = word(context, spec.get("egress"), &[("any", Egress::Any), ("mesh", Egress::Mesh)]);
    let budget = spec.get("budget").map(|node| budget::lower(context, node)).unwrap_or_default();
    let (isolation, egress) = (isolation?, egress?);
    let owner = spec.get("owner").and_then(|node| owner(context, node));
    let tenant =
        Tenant { id: TenantId::Tenant(meta.name), namespaces, isolation, egress, budget, owner, left_out: 0 };
    Some(TenantDraft { tenant, namespace_places, default_place })
}

fn namespaces(context: &mut Context<'_>, spec: &Node) -> (Vec<Namespace>, Vec<Place>) {
    let (mut namespaces, mut places) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for node in spec.items_of("namespaces") {
        let Some(namespace) = context.name::<Namespace>(node) else { continue };
        if !seen.insert(namespace.clone()) {
            context.reject(node, Reason::Duplicate, format!("{namespace} is listed twice: remove one"));
            continue;
        }
        namespaces.push(namespace);
        places.push(context.place(node));
    }
    (namespaces, places)
}

/// A default is nobody's object: it lists no namespace, and says nothing of egress, which a default that cannot be read could
/// not keep (decision 0017).
fn default_place(context: &mut Context<'_>, spec: &Node) -> Option<Place> {
    let node = spec.get("globalDefault").filter(|node| node.bool() == Some(true));
    let Some(node) = node else {
        if spec.get("namespaces").is_none() {
            context.missing(spec, "namespaces", "must be there: list the tenant's namespaces");
        }
        return None;
    };
    if let Some(namespaces) = spec.get("namespaces").filter(|node| !node.items().is_empty()) {
        let message =
            "a globalDefault is for namespaces that no Tenant lists: remove these, or globalDefault";
        context.invalid(namespaces, message);
    }
    if let Some(egress) = spec.get("egress").filter(|node| node.text() != Some("any")) {
        let message = "only a Tenant that lists a namespace says this of it: list those that it is for in another Tenant";
        context.invalid(egress, message);
    }
    if let Some(owner) = spec.get("owner") {
        let message = "only a Tenant that lists its namespaces has an owner: list those that it is for in another Tenant";
        context.invalid(owner, message);
    }
    Some(context.place(node))
}

/// A user's number. The last is nobody's: the kernel takes it for "leave as it is".
fn owner(context: &mut Context<'_>, node: &Node) -> Option<u32> {
    let node = node.get("uid")?;
    let uid = node.int().and_then(|uid| u32::try_from(uid).ok()).filter(|uid| *uid != u32::MAX);
    if uid.is_none() {
        let message = format!("must be a user's number, 0 to {}, not {}", u32::MAX - 1, node.describe());
        context.invalid(node, message);
    }
    uid
}

/// One of some words; the default if nothing is said.
fn word<T: Copy + Default>(context: &mut Context<'_>, node: Option<&Node>, words: &[(&str, T)]) -> Option<T> {
    let Some(node) = node else { return Some(T::default()) };
    let found = words.iter().find(|(word, _)| Some(*word) == node.text()).map(|(_, value)| *value);
    if found.is_none() {
        let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        context.invalid(node, format!("must be {}, not {}", allowed.join(" or "), node.describe()));
    }
    found
}
