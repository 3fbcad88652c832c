//! Which of several objects of one name is the one: that of the file whose version is in force, else the first.
//!
//! A name belongs to the file that has it: another file with the same name must never replace what runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    file::{FileRead, ReadObject},
    rejected,
};
use crate::{
    finding::{Finding, ObjectRef, Position, Reason},
    link::{Candidate, Versions},
    lower::{self, Lowered},
    object::Kind,
};

/// An object and the file it is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) read: &'a FileRead,
    pub(super) object: &'a ReadObject,
    /// How many objects are before it in its file.
    pub(super) index: usize,
}

/// All objects of all files, by name.
#[derive(Debug)]
pub(super) struct Named<'a> {
    all: Vec<Entry<'a>>,
    chosen: BTreeMap<&'a ObjectRef, Entry<'a>>,
    /// Where the first object of a file is that comes second.
    repeated: BTreeMap<&'a Path, Position>,
    /// Those that come second.
    seconds: BTreeMap<&'a ObjectRef, Vec<Entry<'a>>>,
}

impl<'a> Named<'a> {
    pub(super) fn of(files: &'a BTreeMap<PathBuf, Arc<FileRead>>, good: &Versions) -> Self {
        let of_file = |read: &'a Arc<FileRead>| {
            let objects = read.objects.iter().enumerate();
            objects.map(move |(index, object)| Entry { read, object, index })
        };
        let all: Vec<Entry<'a>> = files.values().flat_map(of_file).collect();
        let mut chosen: BTreeMap<&ObjectRef, Entry<'a>> = BTreeMap::new();
        for entry in &all {
            let name = &entry.object.name;
            let place = chosen.entry(name).or_insert(*entry);
            if std::ptr::eq(place.object, entry.object) {
                continue;
            }
            let good = good.get(name).map(|good| &**good);
            if entry.closeness(good) > place.closeness(good) {
                *place = *entry;
            }
        }
        let mut repeated = BTreeMap::new();
        let mut seconds: BTreeMap<&ObjectRef, Vec<Entry<'a>>> = BTreeMap::new();
        for entry in all.iter().filter(|entry| !is_chosen(&chosen, entry)) {
            repeated.entry(&*entry.read.file).or_insert(entry.object.at);
            seconds.entry(&entry.object.name).or_default().push(*entry);
        }
        Self { all, chosen, repeated, seconds }
    }

    /// The names that several objects have.
    pub(super) fn repeated(&self) -> BTreeSet<ObjectRef> {
        self.seconds.keys().map(|name| (*name).clone()).collect()
    }

    /// The files that have an object which comes second.
    pub(super) fn files_repeating(&self) -> BTreeSet<PathBuf> {
        self.repeated.keys().map(|file| file.to_path_buf()).collect()
    }

    /// All objects of the name of a security object that do not mean the same; none if they do. Whichever of them were
    /// taken, what another one refuses would be let in.
    pub(super) fn rivals(&self, first: &Entry<'a>) -> Vec<Entry<'a>> {
        let Some(seconds) = self.seconds.get(&first.object.name) else { return Vec::new() };
        if !is_security(&first.object.name) || seconds.iter().all(|other| first.means_the_same(other)) {
            return Vec::new();
        }
        std::iter::once(first).chain(seconds).copied().collect()
    }

    /// Whether the file of a security object has another of its name that does not mean the same.
    pub(super) fn contradicts_itself(&self, first: &Entry<'a>) -> bool {
        self.rivals(first).iter().any(|rival| {
            let is_beside = rival.index != first.index && *rival.read.file == *first.read.file;
            is_beside && !first.means_the_same(rival)
        })
    }

    /// The one object of each name, in the order of files and lines.
    pub(super) fn in_order(&self) -> impl Iterator<Item = Entry<'a>> {
        self.all.iter().copied().filter(|entry| is_chosen(&self.chosen, entry))
    }

    /// Whether a file has the object of a name.
    pub(super) fn is_in(&self, name: &ObjectRef, file: &Path) -> bool {
        self.chosen.get(name).is_some_and(|entry| *entry.read.file == *file)
    }

    /// Whether any file has it.
    pub(super) fn is_anywhere(&self, name: &ObjectRef) -> bool {
        self.chosen.contains_key(name)
    }

    /// Where the first part of a file is that is not accepted by itself.
    pub(super) fn first_defect(&self, read: &FileRead) -> Option<Position> {
        let repeated = self.repeated.get(&*read.file).copied();
        [read.first_defect, repeated].into_iter().flatten().min()
    }

    /// What there is to say of objects whose name another has.
    pub(super) fn duplicates(&self, lost: &BTreeMap<ObjectRef, Candidate>) -> Vec<Finding> {
        let finding = |entry: &Entry<'a>| {
            let name = &entry.object.name;
            let kept = lost.get(name).and_then(|lost| lost.in_force.as_ref());
            match kept {
                Some(good) => Some(entry.duplicate(&good.file, good.at)),
                None if is_chosen(&self.chosen, entry) => None,
                None => self.chosen.get(name).map(|first| entry.duplicate(&first.read.file, first.object.at)),
            }
        };
        self.all.iter().filter_map(finding).collect()
    }
}

/// Whether an object protects something.
fn is_security(object: &ObjectRef) -> bool {
    Kind::of(object).is_some_and(|kind| Kind::SECURITY.contains(&kind))
}

/// Whether one that may have been it never vanishes.
pub(super) fn protects(object: &ObjectRef) -> bool {
    Kind::of(object).is_some_and(Kind::protects)
}

fn is_chosen(chosen: &BTreeMap<&ObjectRef, Entry<'_>>, entry: &Entry<'_>) -> bool {
    chosen.get(&entry.object.name).is_some_and(|chosen| std::ptr::eq(chosen.object, entry.object))
}

impl Entry<'_> {
    /// Whether both are accepted and mean the same.
    fn means_the_same(&self, other: &Entry<'_>) -> bool {
        let both = self.object.lowered.as_ref().zip(other.object.lowered.as_ref());
        both.is_some_and(|(one, other)| lower::mean_the_same(one, other))
    }

    /// How near it is to the version in force: the same, or at least of the same file.
    fn closeness(&self, good: Option<&Lowered>) -> u8 {
        let Some(good) = good else { return 0 };
        u8::from(good.file == self.read.file) + u8::from(self.object.lowered.as_deref() == Some(good))
    }

    fn duplicate(&self, file: &Path, at: Position) -> Finding {
        let name = &self.object.name;
        let message =
            format!("{name} is there already, on line {} of {}: remove one", at.line, file.display());
        rejected(&self.read.file, self.object, Reason::Duplicate, message)
    }
}
