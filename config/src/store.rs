//! The files of a directory, over time: each edit in, a mesh and findings out.
//!
//! Keeps the last good version of every object, so that a broken edit loses nothing. Works on texts, never on
//! paths: reading and watching the directory is the caller's.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use self::{
    linked::Linked,
    named::{Entry, Named, protects},
    turns::{Difference, Turn},
};
use crate::{
    condition::Standing,
    finding::{Finding, ObjectRef, Reason, Severity},
    link::{Candidate, Doubt},
    lower::Lowered,
    model::Mesh,
};

pub use self::{
    basis::{Basis, Written},
    changes::Changes,
    excerpt::fill as show_lines,
    file::FileText,
};
pub use crate::options::Options;

mod basis;
pub(crate) mod changes;
mod doubtful;
mod excerpt;
mod file;
mod latest;
mod linked;
mod named;
mod rest;
mod room;
pub(crate) mod spare;
pub(crate) mod standing;
mod turns;
mod unevaluated;

/// What came of the files as they are now.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The mesh; the same `Arc` as before if nothing changed.
    pub mesh: Arc<Mesh>,
    /// Everything there is to say about the files as they are now, by file and line.
    pub findings: Vec<Finding>,
    /// What differs from the mesh before.
    pub changes: Changes,
    /// What is in force now, by which the next files are judged.
    pub basis: Basis,
    /// Pods that are there, but not in the mesh.
    pub rejected: Rejected,
    /// How many files were given.
    pub files: usize,
    /// How many objects the files name, good or bad, each counted once.
    pub objects: usize,
    /// How many objects are in force, in any version.
    pub accepted: usize,
    /// What became of each of them, and of what is in force though no file names it any more.
    pub standings: Arc<[Arc<Standing>]>,
    /// In how long the same files have to be taken in again, since some of what they say was put off.
    pub again: Option<Duration>,
}

/// Pods of this node of which no version is in force. They are not served; but they are there, and what held them before must
/// not let go of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected {
    /// The network namespaces that they name.
    pub netns: BTreeSet<PathBuf>,
    /// Whether a part of the files cannot be read that may hold further ones.
    pub may_be_more: bool,
}

/// Files over time.
#[derive(Debug, Default)]
pub struct Store {
    options: Options,
    files: turns::Files,
    /// Those of them of which there is something to say, or to watch: few, where many are well.
    notable: turns::Files,
    /// As they were last, with what is put off.
    latest: latest::Latest,
    turns: turns::Turns,
    /// What is made of them, for the next edit.
    linked: Option<Linked>,
    /// What the mesh is made of.
    basis: Basis,
    mesh: Arc<Mesh>,
    spare: spare::Spare,
}

/// What there is to link.
struct Collected {
    candidates: Vec<Candidate>,
    /// How many objects the files name.
    objects: usize,
    findings: Vec<Finding>,
    of_parts: BTreeSet<ObjectRef>,
    /// The names that several objects have, and the files of those that come second.
    repeated: (BTreeSet<ObjectRef>, BTreeSet<PathBuf>),
    /// How many there are for whom there is room, enforced and not; `None` if there is not room for all.
    room: Option<room::Taken>,
}

impl Store {
    /// A store that has seen nothing yet.
    pub fn new(options: Options) -> Self {
        let mesh = Mesh { trust_domain: options.trust_domain.clone(), ..Mesh::default() };
        Self { options, mesh: Arc::new(mesh), ..Self::default() }
    }

    /// Lets go of the texts of the files that were given, for a caller that does not keep them either.
    pub fn forget_texts(&mut self) {
        self.latest.forget_texts();
    }

    /// The mesh as of the last [`Store::apply`].
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// What is in force, in any version.
    pub fn in_force(&self) -> impl Iterator<Item = &ObjectRef> {
        self.basis.good.keys()
    }

    /// Takes in all files of the directory as they are now. A file that is not among them is gone, and its
    /// objects with it. Only files whose text changed are read again.
    pub fn apply(&mut self, files: &BTreeMap<PathBuf, FileText>) -> Outcome {
        self.apply_all(files, None)
    }

    /// The same at a time, from any beginning: tenants that change more often than they may are put off.
    pub fn apply_at(&mut self, files: &BTreeMap<PathBuf, FileText>, time: Duration) -> Outcome {
        self.apply_all(files, Some(time))
    }

    fn apply_all(&mut self, files: &BTreeMap<PathBuf, FileText>, time: Option<Duration>) -> Outcome {
        self.latest.take(files, &self.options);
        let Turn { files: taken_up, again, findings: put_off } = self.turn(time);
        self.take_up(&taken_up);
        let of_turn: BTreeSet<ObjectRef> =
            put_off.iter().filter_map(|finding| finding.object.clone()).collect();
        let (linked, changes, standings) = match self.in_part(&taken_up) {
            Some((linked, changes, names)) => (linked, changes, Some(names)),
            None => {
                let (linked, changes) = self.anew();
                (linked, changes, None)
            }
        };
        let findings = self.findings(&linked, put_off, files);
        let linked = linked.stand(self, &findings, standings, of_turn);
        let outcome = Outcome {
            mesh: Arc::clone(&self.mesh),
            findings,
            changes,
            basis: self.basis.clone(),
            rejected: self.rejected(),
            files: files.len(),
            objects: linked.objects,
            accepted: self.basis.good.len(),
            standings: Arc::clone(&linked.standings),
            again,
        };
        self.linked = Some(linked);
        outcome
    }

    /// What of the files differs from what is taken up, and is taken up now.
    fn turn(&mut self, time: Option<Duration>) -> Turn {
        let files = self.latest.differences(&self.files);
        match time.filter(|_| !self.options.unbudgeted) {
            Some(time) => self.turns.take(files, &self.mesh, time),
            None => Turn { files, ..Turn::default() },
        }
    }

    fn take_up(&mut self, files: &[Difference]) {
        for Difference { path, now, .. } in files {
            match now {
                Some(now) => drop(self.files.insert(path.clone(), Arc::clone(now))),
                None => drop(self.files.remove(path)),
            }
            match now.as_ref().filter(|now| now.is_notable()) {
                Some(now) => drop(self.notable.insert(path.clone(), Arc::clone(now))),
                None => drop(self.notable.remove(path)),
            }
        }
    }

    /// Everything there is to say, by file and line.
    fn findings(
        &self,
        linked: &Linked,
        put_off: Vec<Finding>,
        files: &BTreeMap<PathBuf, FileText>,
    ) -> Vec<Finding> {
        let of_files = self.notable.values().flat_map(|read| &read.findings);
        let mut findings: Vec<Finding> =
            linked.said().chain(of_files).chain(linked.found()).cloned().collect();
        findings.extend(put_off);
        findings.sort_by(|one, other| (&one.file, one.position).cmp(&(&other.file, other.position)));
        excerpt::fill(&mut findings, files);
        findings
    }

    /// Pods of which no version is in force, as far as can be told.
    fn rejected(&self) -> Rejected {
        let all = self.notable.values().flat_map(|read| &read.objects);
        let here = all.filter(|object| object.netns.is_some());
        let out = here.filter(|object| !self.basis.good.contains_key(&object.name));
        let netns = out.filter_map(|object| object.netns.clone()).collect();
        Rejected { netns, may_be_more: self.notable.values().any(|read| read.has_gap) }
    }

    /// Every object once, in the order of files and lines, with the version to fall back on.
    fn candidates(&self) -> Collected {
        let named = Named::of(&self.files, &self.basis.good);
        let mut lost = self.lost_to_defects(&named);
        let parts = doubtful::of_parts(&self.files, &named, &self.basis.good, &lost, &self.options);
        let mut findings = named.duplicates(&lost);
        let is_lost = |entry: &Entry<'_>| lost.contains_key(&entry.object.name);
        let entries: Vec<Entry<'_>> = named.in_order().filter(|entry| !is_lost(entry)).collect();
        let limit = self.options.limits.objects;
        let is_in_force = |object: &ObjectRef| self.basis.good.contains_key(object);
        let beyond = room::beyond(&entries, is_in_force, lost.keys(), limit);
        let first = beyond.first().copied();
        let names = entries.iter().map(|entry| &entry.object.name);
        let room = beyond.is_empty().then(|| room::Taken::of(names.chain(lost.keys())));
        let mut candidates = Vec::with_capacity(entries.len() + lost.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let Entry { read, object, .. } = entry;
            let mut candidate = self.candidate(&named, &entry);
            if beyond.contains(&index) {
                if first == Some(index) {
                    findings.push(too_many(&read.file, object, limit, beyond.len()));
                }
                candidate.stand_in = doubtful::strictest(object).filter(|_| protects(&object.name));
                if candidate.stand_in.is_none() {
                    continue;
                }
                (candidate.fresh, candidate.doubt) = (None, Doubt::TooMany);
            }
            candidates.push(candidate);
        }
        let objects = candidates.len();
        lost.retain(|object, _| !parts.iter().any(|part| part.object == *object));
        candidates.extend(lost.into_values());
        let of_parts = parts.iter().map(|part| part.object.clone()).collect();
        candidates.extend(parts);
        let repeated = (named.repeated(), named.files_repeating());
        Collected { candidates, objects, findings, of_parts, repeated, room }
    }

    /// An object with its versions. Where several of one name contradict each other, none of them comes into force; where one
    /// is, a file that contradicts itself leaves it there, and other files have no say.
    fn candidate(&self, named: &Named<'_>, entry: &Entry<'_>) -> Candidate {
        let candidate = self.as_read(*entry);
        if let Some(good) = &candidate.in_force {
            let stays = !named.contradicts_itself(entry) || candidate.fresh.as_ref() == Some(good);
            return if stays { candidate } else { Candidate { fresh: None, ..candidate } };
        }
        match doubtful::of_rivals(&named.rivals(entry), &self.options) {
            Some(both) => {
                Candidate { fresh: None, stand_in: Some(both), doubt: Doubt::Contradicted, ..candidate }
            }
            None => candidate,
        }
    }

    /// An object as its file has it, with the version in force.
    fn as_read(&self, Entry { read, object, index }: Entry<'_>) -> Candidate {
        Candidate {
            object: object.name.clone(),
            fresh: object.lowered.clone(),
            in_force: self.basis.good.get(&object.name).cloned(),
            stand_in: object.stand_in.clone(),
            file: Arc::clone(&read.file),
            at: object.at,
            index,
            vanished: false,
            doubt: Doubt::Unreadable,
        }
    }

    /// Objects that a file had before it, or a part of it, became unreadable or was rejected: whatever they became in
    /// that edit, their authors were not told, so they stay. Nobody else has their names meanwhile. What stands in for
    /// one stays as well, unless somebody names it.
    fn lost_to_defects(&self, named: &Named<'_>) -> BTreeMap<ObjectRef, Candidate> {
        let lost = |object: &ObjectRef, version: &Arc<Lowered>| {
            let read = self.files.get(&*version.file)?;
            let at = named.first_defect(read)?;
            let (object, file) = (object.clone(), Arc::clone(&read.file));
            let doubt = Doubt::Unreadable;
            Some(Candidate {
                object,
                fresh: None,
                in_force: None,
                stand_in: None,
                file,
                at,
                index: 0,
                vanished: true,
                doubt,
            })
        };
        let good = self.basis.good.iter().filter_map(|(object, good)| {
            let lost = lost(object, good).filter(|_| !named.is_in(object, &good.file))?;
            Some((object.clone(), Candidate { in_force: Some(Arc::clone(good)), ..lost }))
        });
        let stood_in = self.basis.stood_in.iter().filter_map(|(object, stand_in)| {
            let is_of_part = self.basis.of_parts.contains(object);
            // What a part may be is read anew; only one that does not say what it is may still be the same.
            let is_mute = || self.files.get(&*stand_in.file).is_some_and(|read| read.is_mute);
            let lost = lost(object, stand_in)
                .filter(|_| !named.is_anywhere(object) && (!is_of_part || is_mute()))?;
            Some((object.clone(), Candidate { stand_in: Some(Arc::clone(stand_in)), ..lost }))
        });
        good.chain(stood_in).collect()
    }
}

fn too_many(file: &Arc<Path>, object: &file::ReadObject, limit: usize, beyond: usize) -> Finding {
    let message = format!("more than {limit} objects: this one and {} others are not read", beyond - 1);
    rejected(file, object, Reason::TooLarge, message)
}

fn rejected(file: &Arc<Path>, object: &file::ReadObject, reason: Reason, message: String) -> Finding {
    Finding {
        severity: Severity::Rejected,
        reason,
        file: Arc::clone(file),
        position: object.at,
        object: Some(object.name.clone()),
        field: String::new(),
        message,
        excerpt: None,
    }
}

#[cfg(test)]
mod tests;
