//! How many objects, and how much of them, each tenant's budget has room for.
//!
//! Decided by what the files say alone, in an order of its own (what protects first, then by kind, namespace and name), never by who
//! came first or what is in force: so a node that starts decides as its neighbours do. It must never take anything from another
//! tenant, nor let what protects vanish: of that the strictest reading is in force.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use super::{Candidate, Doubt, Linking, tenants};
use crate::{
    finding::{Finding, Reason, Severity},
    lower::{self, Lowered},
    model::Budget,
    name::{Namespace, TenantId},
    object::Kind,
    options::Options,
};

/// What is left of a tenant's budget.
#[derive(Debug)]
pub(super) struct Room {
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
pub(super) fn keep_to<'a>(
    linking: &mut Linking,
    candidates: &'a [Candidate],
    options: &Options,
) -> Cow<'a, [Candidate]> {
    if options.unbudgeted {
        linking.quiet.is_unbudgeted = true;
        return Cow::Borrowed(candidates);
    }
    linking.findings.begin_base();
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
fn beyond(linking: &mut Linking, candidates: &[Candidate]) -> BTreeMap<usize, (TenantId, &'static str)> {
    let mut rooms: BTreeMap<TenantId, Option<Room>> = BTreeMap::new();
    let mut sorted = BTreeSet::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(kind) = Kind::of(&candidate.object).filter(|kind| kind.is_configuration()) else { continue };
        let namespace = candidate.object.namespace.as_deref();
        let Some(namespace) = namespace.and_then(|name| Namespace::try_from(name).ok()) else { continue };
        let tenant = tenants::of(linking, &namespace);
        let room = rooms.entry(tenant.clone()).or_insert_with(|| bounds(linking, &tenant));
        if room.is_some() {
            sorted.insert((!kind.protects(), &candidate.object, index, tenant));
        }
    }
    let mut beyond = BTreeMap::new();
    for (_, _, index, tenant) in sorted {
        let weight = candidates.get(index).map_or(0, weight);
        if let Some(Some(room)) = rooms.get_mut(&tenant)
            && let Err(field) = room.take(weight)
        {
            beyond.insert(index, (tenant, field));
        }
    }
    rooms.retain(|_, room| room.is_some());
    linking.rooms = rooms;
    for (tenant, _) in beyond.values() {
        linking.rooms.insert(tenant.clone(), None);
    }
    beyond
}

fn bounds(linking: &Linking, tenant: &TenantId) -> Option<Room> {
    let budget = linking.mesh.tenants.get(tenant)?.budget;
    (budget.objects.is_some() || budget.compiled_bytes.is_some()).then(|| Room::of(&budget))
}

/// Whether there is room for a tenant's objects after an edit of one of them as before it, so that none is left out.
pub(super) fn have_room(
    linking: &mut Linking,
    tenant: &TenantId,
    (before, after): (Option<u64>, Option<u64>),
) -> bool {
    let whole = bounds(linking, tenant);
    if let Entry::Vacant(unknown) = linking.rooms.entry(tenant.clone()) {
        // None of its objects counted so far.
        let Some(room) = whole else { return true };
        if before.is_some() {
            return false;
        }
        unknown.insert(Some(room));
    }
    let Some(Some(room)) = linking.rooms.get_mut(tenant) else { return false };
    if let Some(weight) = before {
        (room.objects, room.bytes) = (room.objects + 1, room.bytes + weight);
    }
    after.is_none_or(|weight| room.take(weight).is_ok())
}

/// How much of the room for bytes a candidate takes.
pub(super) fn weight(candidate: &Candidate) -> u64 {
    version(candidate).map_or(0, |version| version.weight)
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
