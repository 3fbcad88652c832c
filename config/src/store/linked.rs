//! What was made of the files as they were, and an edit made in it; or everything made anew, where an edit may concern more.
//!
//! It must never give anything else than making everything anew would.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Basis, Changes, Collected, Store, changes, file::FileRead, named::Entry, room, turns::Difference,
    unevaluated,
};
use crate::{
    condition::{InForce, Standing},
    finding::{Finding, ObjectRef},
    link::{self, Edit, Linking},
    model::Mesh,
    object::Kind,
};

/// What the files as they were are linked to.
#[derive(Debug)]
pub(super) struct Linked {
    linking: Linking,
    /// What was said when objects were collected.
    said: Vec<Finding>,
    /// The names that several objects have, and the files of those that come second.
    pub(super) repeated: (BTreeSet<ObjectRef>, BTreeSet<PathBuf>),
    room: Option<room::Taken>,
    pub(super) objects: usize,
    pub(super) standings: Arc<[Arc<Standing>]>,
    /// Objects of which it is said that they wait.
    of_turn: BTreeSet<ObjectRef>,
}

/// Objects of which something else may be said than before, each with its generation where the files have it in another version.
#[derive(Debug)]
pub(super) struct Restated(BTreeMap<ObjectRef, Option<Option<u64>>>);

/// An object in the files as they were, and as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Place<'a> {
    then: Option<Entry<'a>>,
    now: Option<Entry<'a>>,
}

impl Store {
    /// Links everything.
    pub(super) fn anew(&mut self) -> (Linked, Changes) {
        let Collected { candidates, objects, findings: said, of_parts, repeated, room } = self.candidates();
        let mut linking = link::link(&candidates, &self.options);
        let mut mesh = std::mem::take(&mut linking.mesh);
        let unevaluated = unevaluated::are_there(&self.files, self.basis.unevaluated);
        if unevaluated {
            unevaluated::stand_in(&mut mesh);
        }
        let of_parts = self.basis.of_parts.iter().cloned().chain(of_parts);
        let of_parts: BTreeSet<ObjectRef> = of_parts.filter(|of| linking.stood_in.contains_key(of)).collect();
        let basis = Basis {
            good: Arc::clone(&linking.used),
            stood_in: Arc::new(linking.stood_in.clone()),
            of_parts: Arc::new(of_parts),
            unevaluated,
        };
        // Objects are collected by what is in force: where that has changed, others may be.
        let is_same = |name: &ObjectRef| basis.good.get(name) == self.basis.good.get(name);
        let stands = (&basis.stood_in, &basis.of_parts) == (&self.basis.stood_in, &self.basis.of_parts)
            && basis.unevaluated == self.basis.unevaluated
            && repeated.0.iter().all(is_same);
        self.basis = basis;
        let changes = changes::adopt(&mut self.mesh, mesh);
        self.spare.forget();
        linking.mesh = Mesh::clone(&self.mesh);
        let (standings, of_turn) = (Arc::new([]), BTreeSet::new());
        let room = room.filter(|_| stands);
        (Linked { linking, said, repeated, room, objects, standings, of_turn }, changes)
    }

    /// Links what has changed, and what depends on it. `None` if that may be anything.
    pub(super) fn in_part(&mut self, files: &[Difference]) -> Option<(Linked, Changes, Restated)> {
        let mut linked = self.linked.take()?;
        let places = places(files, &linked.repeated.1)?;
        let mut restated = BTreeMap::new();
        let mut edits = Vec::new();
        for (name, place) in places {
            if place.is_same() {
                continue;
            }
            let edit = self.edit(&mut linked, name, place)?;
            restated.insert(name.clone(), Some(place.now.and_then(|now| now.object.generation)));
            edits.push(edit);
        }
        if !linked.room.is_some_and(|room| room.is_within(self.options.limits.objects)) {
            return None;
        }
        let patched = linked.linking.patch(&edits)?;
        self.basis.good = Arc::clone(&linked.linking.used);
        let changes =
            changes::adopt_parts((&mut self.mesh, &mut self.spare), &mut linked.linking.mesh, &patched);
        for object in patched.objects {
            restated.entry(object).or_insert(None);
        }
        Some((linked, changes, Restated(restated)))
    }

    fn edit(&self, linked: &mut Linked, name: &ObjectRef, place: Place<'_>) -> Option<Edit> {
        let is_of_network = |kind| matches!(kind, Kind::Pod | Kind::NetworkPolicy);
        let known = linked.linking.candidate(name);
        let was_there = |then: Entry<'_>| {
            known.is_some_and(|known| known.file == then.read.file && known.index == then.index)
        };
        let is_known = match place.then {
            Some(then) => was_there(then),
            None => known.is_none(),
        };
        if !is_known
            || linked.repeated.0.contains(name)
            || self.basis.stood_in.contains_key(name)
            || self.may_be_lost(linked, name)
            || self.basis.unevaluated && Kind::of(name).is_some_and(is_of_network)
        {
            return None;
        }
        if place.then.is_some() != place.now.is_some() {
            let comes = place.now.is_some();
            linked.room.as_mut()?.count(name, comes);
            linked.objects = if comes { linked.objects + 1 } else { linked.objects.saturating_sub(1) };
        }
        Some(Edit { object: name.clone(), new: place.now.map(|now| self.as_read(now)) })
    }

    /// Whether the version in force is of a file that may still have it in a part that is not accepted.
    fn may_be_lost(&self, linked: &Linked, name: &ObjectRef) -> bool {
        let Some(good) = self.basis.good.get(name) else { return false };
        let read = self.files.get(&*good.file);
        read.is_some_and(|read| read.first_defect.is_some() || linked.repeated.1.contains(&*read.file))
    }
}

/// All objects of files that have changed. `None` if an object is there twice, or cannot be told by itself.
fn places<'a>(
    files: &'a [Difference],
    repeating: &BTreeSet<PathBuf>,
) -> Option<BTreeMap<&'a ObjectRef, Place<'a>>> {
    let mut places: BTreeMap<&ObjectRef, Place<'a>> = BTreeMap::new();
    for Difference { path, then, now } in files {
        let is_plain = |read: &Option<Arc<FileRead>>| read.as_ref().is_none_or(|read| read.is_plain());
        if !is_plain(then) || !is_plain(now) || repeating.contains(path) {
            return None;
        }
        for (read, is_now) in [(then, false), (now, true)] {
            let Some(read) = read else { continue };
            for (index, object) in read.objects.iter().enumerate() {
                let place = places.entry(&object.name).or_default();
                let side = if is_now { &mut place.now } else { &mut place.then };
                if side.replace(Entry { read, object, index }).is_some() {
                    return None;
                }
            }
        }
    }
    Some(places)
}

impl Place<'_> {
    /// Whether the object is the very same, where it was.
    fn is_same(&self) -> bool {
        let Some((then, now)) = self.then.zip(self.now) else { return false };
        let lowered = then.object.lowered.as_ref().zip(now.object.lowered.as_ref());
        lowered.is_some_and(|(then, now)| Arc::ptr_eq(then, now))
            && then.read.file == now.read.file
            && then.index == now.index
            && then.object.generation == now.object.generation
    }
}

impl Linked {
    /// What was said when objects were collected.
    pub(super) fn said(&self) -> impl Iterator<Item = &Finding> {
        self.said.iter()
    }

    /// What was said when they were linked.
    pub(super) fn found(&self) -> impl Iterator<Item = &Finding> {
        self.linking.findings.all()
    }

    /// Says what became of each object: of all, or of those of which something else may be to be said than before.
    pub(super) fn stand(
        mut self,
        store: &Store,
        findings: &[Finding],
        restated: Option<Restated>,
        of_turn: BTreeSet<ObjectRef>,
    ) -> Self {
        let waited = std::mem::replace(&mut self.of_turn, of_turn);
        let restated = restated.map(|Restated(mut names)| {
            for name in waited.iter().chain(&self.of_turn) {
                names.entry(name.clone()).or_insert(None);
            }
            names
        });
        let standings = restated.and_then(|names| self.restate(store, findings, &names, &waited));
        self.standings = standings.unwrap_or_else(|| store.standings(findings, &self.of_turn).into());
        self
    }

    /// `None` if it cannot be told of one of them by itself.
    fn restate(
        &self,
        store: &Store,
        findings: &[Finding],
        names: &BTreeMap<ObjectRef, Option<Option<u64>>>,
        waited: &BTreeSet<ObjectRef>,
    ) -> Option<Arc<[Arc<Standing>]>> {
        let mut found: BTreeMap<&ObjectRef, Vec<&Finding>> = BTreeMap::new();
        for finding in findings {
            if let Some(object) = finding.object.as_ref().filter(|object| names.contains_key(object)) {
                found.entry(object).or_default().push(finding);
            }
        }
        let mut changed = Vec::new();
        for (name, generation) in names {
            if self.repeated.0.contains(name) || store.basis.stood_in.contains_key(name) {
                return None;
            }
            let place = self.standings.binary_search_by(|standing| standing.object.cmp(name));
            let before = place.ok().and_then(|place| self.standings.get(place));
            let candidate = self.linking.candidate(name);
            let (waits, has_waited) = (self.of_turn.contains(name), waited.contains(name));
            if candidate.is_none() && generation.is_none() && !(waits || has_waited) {
                return None;
            }
            let found = found.get(name).map_or(&[][..], Vec::as_slice);
            let standing = match candidate.filter(|_| !store.is_for_others(name)) {
                Some(candidate) => {
                    let in_force = store.version_in_force(name, candidate.fresh.as_ref());
                    let known = before.and_then(|before| before.observed_generation);
                    Some(store.standing(name, (in_force, generation.unwrap_or(known)), found))
                }
                // Put off, it is in no file as that is taken up.
                None if waits && candidate.is_none() => {
                    Some(store.standing(name, (InForce::Nothing, None), found))
                }
                None => None,
            };
            if before.map(|before| &**before) != standing.as_ref() {
                changed.push((place, standing.map(Arc::new)));
            }
        }
        if changed.is_empty() {
            return Some(Arc::clone(&self.standings));
        }
        let mut standings = self.standings.to_vec();
        // From the end, so that the places before stay what they are.
        for (place, standing) in changed.into_iter().rev() {
            match (place, standing) {
                (Ok(place), Some(standing)) => standings[place] = standing,
                (Ok(place), None) => drop(standings.remove(place)),
                (Err(place), Some(standing)) => standings.insert(place, standing),
                (Err(_), None) => {}
            }
        }
        Some(standings.into())
    }
}
