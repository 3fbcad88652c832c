//! What stands in for security objects that are not known by a version of their own: parts of files of which nothing but
//! signs is left, objects of one name that contradict each other, objects beyond the limit.
//!
//! A pure function of the files and of the versions that are in force, so that a daemon that starts decides as those that
//! run. It must never stand beside a last good version of the same object.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Options,
    file::{FileRead, ReadObject},
    named::{Entry, Named, protects},
};
use crate::{
    finding::{ObjectRef, Position},
    link::{Candidate, Doubt, Versions},
    lower::{self, Lowered},
    name::{Name, Namespace, PolicyName},
    object::Kind,
    suspect::Suspect,
};

/// The strictest reading of an object, accepted or not.
pub(super) fn strictest(object: &ReadObject) -> Option<Arc<Lowered>> {
    let of_accepted = || object.lowered.as_deref().and_then(lower::strictest).map(Arc::new);
    object.stand_in.clone().or_else(of_accepted)
}

/// What stands in for several objects of one name, of which none is in force.
pub(super) fn of_rivals(rivals: &[Entry<'_>], options: &Options) -> Option<Arc<Lowered>> {
    let all: Vec<Arc<Lowered>> = rivals.iter().filter_map(|rival| strictest(rival.object)).collect();
    lower::of_all(&all, options)
}

/// One candidate per kind and namespace that unreadable parts of a file may be of.
pub(super) fn of_parts(
    files: &BTreeMap<PathBuf, Arc<FileRead>>,
    named: &Named<'_>,
    good: &Versions,
    lost: &BTreeMap<ObjectRef, Candidate>,
    options: &Options,
) -> Vec<Candidate> {
    let with_parts = files.values().filter(|read| !read.suspects.is_empty());
    with_parts.flat_map(|read| of_file(read, kept(read, named, good, lost), options)).collect()
}

fn of_file(read: &FileRead, kept: Vec<&ObjectRef>, options: &Options) -> Vec<Candidate> {
    let mut places: BTreeMap<(Kind, &Namespace), Position> = BTreeMap::new();
    for suspect in unanswered(&read.suspects, kept) {
        for namespace in &suspect.place.namespaces {
            let at = places.entry((suspect.kind, namespace)).or_insert(suspect.at);
            *at = suspect.at.min(*at);
        }
    }
    let candidate = |((kind, namespace), at): ((Kind, &Namespace), Position)| {
        let name = PolicyName::new(namespace.clone(), name_of(&read.file)?);
        let version = lower::unreadable_in(kind, name, (&read.file, at), options)?;
        Some(Candidate {
            object: version.object.clone(),
            fresh: None,
            in_force: None,
            stand_in: Some(Arc::new(version)),
            file: Arc::clone(&read.file),
            at,
            index: 0,
            vanished: false,
            doubt: Doubt::Signs,
        })
    };
    places.into_iter().filter_map(candidate).collect()
}

/// The security objects of a file that are kept in their last good versions, and that no object of the file answers for.
fn kept<'a>(
    read: &FileRead,
    named: &Named<'a>,
    good: &Versions,
    lost: &'a BTreeMap<ObjectRef, Candidate>,
) -> Vec<&'a ObjectRef> {
    let is_here = |file: &Path| *file == *read.file;
    let lost = lost.iter().filter(|(_, lost)| lost.in_force.is_some() && is_here(&lost.file));
    let has_only_signs = |entry: &Entry<'_>| {
        let Entry { read, object, .. } = entry;
        is_here(&read.file)
            && object.lowered.is_none()
            && object.stand_in.is_none()
            && good.contains_key(&object.name)
    };
    let broken = named.in_order().filter(has_only_signs).map(|entry| &entry.object.name);
    lost.map(|(object, _)| object).chain(broken).filter(|object| protects(object)).collect()
}

/// Parts that cannot be taken for what is kept. Each of the kept answers for one.
fn unanswered<'a>(suspects: &'a [Suspect], mut kept: Vec<&ObjectRef>) -> Vec<&'a Suspect> {
    let mut parts: Vec<&Suspect> = suspects.iter().collect();
    // Who says most chooses first.
    parts.sort_by_key(|part| (!part.is_sure, part.place.elsewhere, part.at));
    parts.retain(|part| match kept.iter().position(|object| may_be(part, object)) {
        Some(index) => {
            kept.swap_remove(index);
            false
        }
        None => true,
    });
    parts
}

fn may_be(part: &Suspect, object: &ObjectRef) -> bool {
    if part.kind == Kind::Tenant || is_tenant(object) {
        // Of no namespace, whatever it lists.
        return part.kind == Kind::Tenant && is_tenant(object);
    }
    let is_kind = |kind: Kind| kind.as_str() == &*object.kind;
    let of_its_group = part.kind == Kind::AuthorizationPolicy && is_kind(Kind::PeerAuthentication);
    let is_there = |namespace: &Namespace| object.namespace.as_deref() == Some(namespace.as_str());
    (is_kind(part.kind) || !part.is_sure && of_its_group)
        && (part.place.elsewhere || part.place.namespaces.iter().any(is_there))
}

fn is_tenant(object: &ObjectRef) -> bool {
    Kind::of(object) == Some(Kind::Tenant)
}

/// Under which name the access log has what stands in for the unreadable parts of a file.
fn name_of(file: &Path) -> Option<Name> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = name.chars().map(letter).take(LONGEST).collect();
    let name = format!("unreadable-in-{}", name.trim_matches(['-', '.']));
    Name::try_from(name.as_str()).or_else(|_| Name::try_from("unreadable-in-a-file")).ok()
}

const LONGEST: usize = 200;
