//! The files of a directory, over time: each edit in, a mesh and findings out.
//!
//! Keeps the last good version of every object, so that a broken edit loses nothing. Works on texts, never on
//! paths: reading and watching the directory is the caller's.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::named::{Entry, Named};
use crate::{
    finding::{Finding, ObjectRef, Reason, Severity},
    link::{self, Candidate, Linked},
    lower::Lowered,
    model::Mesh,
};

pub use self::{changes::Changes, file::FileText};
pub use crate::options::Options;

mod changes;
mod excerpt;
mod file;
mod named;

/// What came of the files as they are now.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The mesh; the same `Arc` as before if nothing changed.
    pub mesh: Arc<Mesh>,
    /// Everything there is to say about the files as they are now, by file and line.
    pub findings: Vec<Finding>,
    /// What differs from the mesh before.
    pub changes: Changes,
    /// How many files were given.
    pub files: usize,
    /// How many objects the files name, good or bad, each counted once.
    pub objects: usize,
    /// How many objects are in force, in any version.
    pub accepted: usize,
}

/// Files over time.
#[derive(Debug, Default)]
pub struct Store {
    options: Options,
    files: BTreeMap<PathBuf, Arc<file::FileRead>>,
    /// The version of each object that the mesh is made of.
    good: BTreeMap<ObjectRef, Arc<Lowered>>,
    /// What stands in for objects that never had a good one.
    stood_in: BTreeMap<ObjectRef, Arc<Lowered>>,
    mesh: Arc<Mesh>,
}

impl Store {
    /// A store that has seen nothing yet.
    pub fn new(options: Options) -> Self {
        let mesh = Mesh { trust_domain: options.trust_domain.clone(), ..Mesh::default() };
        Self { options, mesh: Arc::new(mesh), ..Self::default() }
    }

    /// The mesh as of the last [`Store::apply`].
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// What is in force, in any version.
    pub fn in_force(&self) -> impl Iterator<Item = &ObjectRef> {
        self.good.keys()
    }

    /// Takes in all files of the directory as they are now. A file that is not among them is gone, and its
    /// objects with it. Only files whose text changed are read again.
    pub fn apply(&mut self, files: &BTreeMap<PathBuf, FileText>) -> Outcome {
        self.files = self.read(files);
        let (candidates, objects, mut findings) = self.candidates();
        let Linked { mesh, findings: linked, used, stood_in } = link::link(&candidates, &self.options);
        (self.good, self.stood_in) = (used, stood_in);
        findings.extend(self.files.values().flat_map(|read| read.findings.iter().cloned()));
        findings.extend(linked);
        findings.sort_by(|one, other| (&one.file, one.position).cmp(&(&other.file, other.position)));
        excerpt::fill(&mut findings, files);
        let changes = changes::adopt(&mut self.mesh, mesh);
        let mesh = Arc::clone(&self.mesh);
        Outcome { mesh, findings, changes, files: self.files.len(), objects, accepted: self.good.len() }
    }

    fn read(&self, files: &BTreeMap<PathBuf, FileText>) -> BTreeMap<PathBuf, Arc<file::FileRead>> {
        let read = |(path, text): (&PathBuf, &FileText)| {
            let known = self.files.get(path).filter(|known| known.is_of(text));
            let read = known.cloned().unwrap_or_else(|| Arc::new(file::read(path, text, &self.options)));
            (path.clone(), read)
        };
        files.iter().map(read).collect()
    }

    /// Every object once, in the order of files and lines, with the version to fall back on; and how many of
    /// them the files name.
    fn candidates(&self) -> (Vec<Candidate>, usize, Vec<Finding>) {
        let named = Named::of(&self.files, &self.good);
        let lost = self.lost_to_defects(&named);
        let mut findings = named.duplicates(&lost);
        let is_lost = |entry: &Entry<'_>| lost.contains_key(&entry.object.name);
        let entries: Vec<Entry<'_>> = named.in_order().filter(|entry| !is_lost(entry)).collect();
        // What is in force has its place; newcomers have what is left.
        let known =
            entries.iter().filter(|entry| self.good.contains_key(&entry.object.name)).count() + lost.len();
        let mut room = self.options.limits.objects.saturating_sub(known);
        let mut candidates = Vec::with_capacity(entries.len() + lost.len());
        let mut is_full = false;
        for Entry { read, object } in entries {
            let in_force = self.good.get(&object.name).cloned();
            if in_force.is_none() {
                if room == 0 {
                    if !std::mem::replace(&mut is_full, true) {
                        findings.push(too_many(&read.file, object, self.options.limits.objects));
                    }
                    continue;
                }
                room -= 1;
            }
            candidates.push(Candidate {
                object: object.name.clone(),
                fresh: object.lowered.clone(),
                in_force,
                stand_in: object.stand_in.clone(),
                file: Arc::clone(&read.file),
                at: object.at,
                vanished: false,
            });
        }
        let objects = candidates.len();
        candidates.extend(lost.into_values());
        (candidates, objects, findings)
    }

    /// Objects that a file had before it, or a part of it, became unreadable or was rejected: whatever they became in
    /// that edit, their authors were not told, so they stay. Nobody else has their names meanwhile. What stands in for
    /// one stays as well, unless somebody names it.
    fn lost_to_defects(&self, named: &Named<'_>) -> BTreeMap<ObjectRef, Candidate> {
        let lost = |object: &ObjectRef, version: &Arc<Lowered>| {
            let read = self.files.get(&*version.file)?;
            let at = named.first_defect(read)?;
            let (object, file) = (object.clone(), Arc::clone(&read.file));
            Some(Candidate { object, fresh: None, in_force: None, stand_in: None, file, at, vanished: true })
        };
        let good = self.good.iter().filter_map(|(object, good)| {
            let lost = lost(object, good).filter(|_| !named.is_in(object, &good.file))?;
            Some((object.clone(), Candidate { in_force: Some(Arc::clone(good)), ..lost }))
        });
        let stood_in = self.stood_in.iter().filter_map(|(object, stand_in)| {
            let lost = lost(object, stand_in).filter(|_| !named.is_anywhere(object))?;
            Some((object.clone(), Candidate { stand_in: Some(Arc::clone(stand_in)), ..lost }))
        });
        good.chain(stood_in).collect()
    }
}

fn too_many(file: &Arc<Path>, object: &file::ReadObject, limit: usize) -> Finding {
    let message = format!("more than {limit} objects: this and all further ones are not read");
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
