//! How many objects, and how much of them, each tenant's budget has room for.
//!
//! Decided by what the files say alone, in an order of its own (what protects first, then by kind, namespace and name), never by who
//! came first or what is in force: so a node that starts decides as its neighbours do. It must never take anything from another
//! tenant, nor let what protects vanish: of that the strictest reading is in force.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Candidate, Doubt, Linking, tenants};
use crate::{
    finding::{Finding, Reason, Severity},
    lower::{self, Lowered},
    model::Budget,
    name::{Namespace, TenantId},
    object::Kind,
};

/// What is left of a tenant's budget.
#[derive(Debug)]
struct Room {
    objects: u64,
    bytes: u64,
}

impl Room {
    fn of(budget: &Budget) -> Self {
        Self { objects: budget.objects.unwrap_or(u64::MAX), bytes: budget.compiled_bytes.unwrap_or(u64::MAX) }
    }

    /// Takes room for one object, or says of what there is too little.
    fn take(&mut self, weight: u64) -> Result<(), &'static str> {
        if self.objects == 0 {
            return Err("objects");
        }
        if self.bytes < weight {
            return Err("compiledBytes");
        }
        self.objects -= 1;
        self.bytes -= weight;
        Ok(())
    }
}

/// The candidates for which their tenants have room. Those beyond that protect something stay, as their strictest reading.
pub(super) fn keep_to<'a>(linking: &mut Linking, candidates: &'a [Candidate]) -> Cow<'a, [Candidate]> {
    let beyond = beyond(linking, candidates);
    if beyond.is_empty() {
        return Cow::Borrowed(candidates);
    }
    let mut kept = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let Some((tenant, field)) = beyond.get(&index) else {
            kept.push(candidate.clone());
            continue;
        };
        linking.findings.push(left_out(candidate, tenant, field));
        if let Some(tenant) = linking.mesh.tenants.get_mut(tenant) {
            Arc::make_mut(tenant).left_out += 1;
        }
        let of_version = || version(candidate).and_then(|version| lower::strictest(version)).map(Arc::new);
        let stand_in = candidate.stand_in.clone().or_else(of_version);
        if stand_in.is_some() {
            let doubt = Doubt::OverBudget;
            kept.push(Candidate { fresh: None, in_force: None, stand_in, doubt, ..candidate.clone() });
        }
    }
    Cow::Owned(kept)
}

/// The numbers of those for which there is no room, with whose budget it is and what of it there is too little of.
fn beyond(linking: &Linking, candidates: &[Candidate]) -> BTreeMap<usize, (TenantId, &'static str)> {
    let bounds = |id: &TenantId| {
        let budget = linking.mesh.tenants.get(id)?.budget;
        (budget.objects.is_some() || budget.compiled_bytes.is_some()).then(|| Room::of(&budget))
    };
    let mut rooms: BTreeMap<TenantId, Option<Room>> = BTreeMap::new();
    let mut sorted = BTreeSet::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(kind) = Kind::of(&candidate.object).filter(|kind| kind.is_configuration()) else { continue };
        let namespace = candidate.object.namespace.as_deref();
        let Some(namespace) = namespace.and_then(|name| Namespace::try_from(name).ok()) else { continue };
        let tenant = tenants::of(linking, &namespace);
        let room = rooms.entry(tenant.clone()).or_insert_with(|| bounds(&tenant));
        if room.is_some() {
            sorted.insert((!kind.protects(), &candidate.object, index, tenant));
        }
    }
    let mut beyond = BTreeMap::new();
    for (_, _, index, tenant) in sorted {
        let weight = candidates.get(index).and_then(version).map_or(0, |version| version.weight);
        if let Some(Some(room)) = rooms.get_mut(&tenant)
            && let Err(field) = room.take(weight)
        {
            beyond.insert(index, (tenant, field));
        }
    }
    beyond
}

/// What counts of it: as the files have it, else as it is in force.
fn version(candidate: &Candidate) -> Option<&Arc<Lowered>> {
    candidate.fresh.as_ref().or(candidate.in_force.as_ref())
}

fn left_out(candidate: &Candidate, tenant: &TenantId, field: &str) -> Finding {
    let message = format!(
        "is beyond budget.{field} of its tenant, {tenant}, and not in force: remove objects of its namespaces, or raise the budget"
    );
    candidate.finding((Severity::Rejected, Reason::OverBudget), message)
}
