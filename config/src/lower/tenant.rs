//! Tenant (canopy.mesh/v1alpha1): membership, isolation, egress, and the shape of the budget.

use std::collections::BTreeSet;

use super::{Context, Meta, Place, quantity};
use crate::{
    document::Node,
    finding::Reason,
    model::{Budget, Egress, Isolation, Tenant},
    name::{Name, Namespace, TenantId},
};

/// A tenant whose claims on namespaces are not settled yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TenantDraft {
    pub(crate) tenant: Tenant,
    /// Where each of its namespaces is written, in order.
    pub(crate) namespace_places: Vec<Place>,
}

impl TenantDraft {
    /// What stands in for a tenant that cannot be read: nothing it could have said of egress is stricter.
    pub(super) fn kept(name: Name, namespaces: Vec<Namespace>) -> Self {
        let (isolation, budget) = (Isolation::default(), Budget::default());
        let tenant =
            Tenant { id: TenantId::Tenant(name), namespaces, isolation, egress: Egress::Mesh, budget };
        Self { tenant, namespace_places: Vec::new() }
    }
}

pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<TenantDraft> {
    let spec = root.get("spec")?;
    let mut namespaces: Vec<Namespace> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut namespace_places = Vec::new();
    for node in spec.items_of("namespaces") {
        let Some(namespace) = context.name::<Namespace>(node) else { continue };
        if !seen.insert(namespace.clone()) {
            context.reject(node, Reason::Duplicate, format!("{namespace} is listed twice: remove one"));
            continue;
        }
        namespaces.push(namespace);
        namespace_places.push(context.place(node));
    }
    let isolation = word(
        context,
        spec.get("isolation"),
        &[("thread", Isolation::Thread), ("process", Isolation::Process)],
    )?;
    let egress = word(context, spec.get("egress"), &[("any", Egress::Any), ("mesh", Egress::Mesh)])?;
    let budget = spec.get("budget").map(|node| budget(context, node)).unwrap_or_default();
    let tenant = Tenant { id: TenantId::Tenant(meta.name), namespaces, isolation, egress, budget };
    Some(TenantDraft { tenant, namespace_places })
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

fn budget(context: &mut Context<'_>, node: &Node) -> Budget {
    let mut millis = |path: &[&str]| node.at_path(path).and_then(|node| quantity::millis(context, node));
    let (cpu_share_millis, cpu_cap_millis) = (millis(&["cpu", "share"]), millis(&["cpu", "cap"]));
    let mut units = |path: &[&str]| node.at_path(path).and_then(|node| quantity::units(context, node));
    let budget = Budget {
        cpu_share_millis,
        cpu_cap_millis,
        memory_soft_bytes: units(&["memory", "soft"]),
        memory_hard_bytes: units(&["memory", "hard"]),
        connections: units(&["connections"]),
        connections_per_second: units(&["connectionsPerSecond"]),
        requests_per_second: units(&["requestsPerSecond"]),
        requests_in_flight: units(&["requestsInFlight"]),
        bytes_per_second_in: units(&["bytesPerSecond", "in"]),
        bytes_per_second_out: units(&["bytesPerSecond", "out"]),
    };
    order(
        context,
        node,
        &["cpu", "share"],
        &["cpu", "cap"],
        (budget.cpu_share_millis, budget.cpu_cap_millis),
    );
    let memory = (budget.memory_soft_bytes, budget.memory_hard_bytes);
    order(context, node, &["memory", "soft"], &["memory", "hard"], memory);
    budget
}

fn order(
    context: &mut Context<'_>,
    node: &Node,
    low: &[&str],
    high: &[&str],
    values: (Option<u64>, Option<u64>),
) {
    if let ((Some(low_value), Some(high_value)), Some(node)) = (values, node.at_path(low))
        && low_value > high_value
    {
        let message = format!("{} must not be above {}: lower it", low.join("."), high.join("."));
        context.invalid(node, message);
    }
}
