//! The files of a directory, over time: each edit in, a mesh and findings out.
//!
//! Keeps the last good version of every object, so that a broken edit loses nothing. Works on texts, never on
//! paths: reading and watching the directory is the caller's.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    finding::{Finding, ObjectRef, Position, Reason, Severity},
    link::{self, Candidate, Linked},
    lower::Lowered,
    model::Mesh,
};

pub use self::{changes::Changes, file::FileText};
pub use crate::options::Options;

mod changes;
mod excerpt;
mod file;

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

    /// Takes in all files of the directory as they are now. A file that is not among them is gone, and its
    /// objects with it. Only files whose text changed are read again.
    pub fn apply(&mut self, files: &BTreeMap<PathBuf, FileText>) -> Outcome {
        self.files = self.read(files);
        let (candidates, objects, mut findings) = self.candidates();
        let Linked { mesh, findings: linked, used } = link::link(&candidates, &self.options);
        self.good = used;
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
        let mut findings = Vec::new();
        let mut first: BTreeMap<&ObjectRef, (&Arc<Path>, Position)> = BTreeMap::new();
        let mut candidates = Vec::new();
        for (read, object) in
            self.files.values().flat_map(|read| read.objects.iter().map(move |object| (read, object)))
        {
            if let Some((file, at)) = first.get(&object.name) {
                findings.push(duplicate(&read.file, object, file, *at));
                continue;
            }
            if first.len() == self.options.limits.objects {
                findings.push(too_many(&read.file, object, self.options.limits.objects));
                break;
            }
            first.insert(&object.name, (&read.file, object.at));
            let good = self.good.get(&object.name);
            candidates.push(Candidate {
                object: object.name.clone(),
                fresh: object.lowered.clone(),
                kept: good.filter(|good| object.lowered.as_ref() != Some(good)).cloned(),
                stand_in: object.stand_in.clone(),
                file: Arc::clone(&read.file),
                at: object.at,
            });
        }
        let named = first.into_keys().cloned().collect();
        let objects = candidates.len();
        candidates.extend(self.lost_to_defects(&named));
        (candidates, objects, findings)
    }

    /// Objects that a file had before it (or a part of it) became unreadable.
    fn lost_to_defects(&self, named: &BTreeSet<ObjectRef>) -> Vec<Candidate> {
        let lost = self.good.iter().filter(|(object, _)| !named.contains(*object));
        lost.filter_map(|(object, good)| {
            let read = self.files.get(&*good.file)?;
            Some(Candidate {
                object: object.clone(),
                fresh: None,
                kept: Some(Arc::clone(good)),
                stand_in: None,
                file: Arc::clone(&read.file),
                at: read.first_defect?,
            })
        })
        .collect()
    }
}

fn duplicate(file: &Arc<Path>, object: &file::ReadObject, first: &Path, at: Position) -> Finding {
    let message =
        format!("{} is there already, on line {} of {}: remove one", object.name, at.line, first.display());
    rejected(file, object, Reason::Duplicate, message)
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
