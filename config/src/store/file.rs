//! One file: what is in it, read once per version of its text.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    document::{self, Node},
    finding::{Finding, ObjectRef, Position, Reason},
    lower::Lowered,
    object::Kind,
    suspect::Suspect,
};

pub(super) use self::reader::read;

mod reader;

/// What the caller found under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileText {
    /// Its bytes.
    Bytes(Arc<[u8]>),
    /// It is there, but cannot be read, for this reason. Its objects stay as they were.
    Unreadable(Arc<str>),
    /// It is there, as it was when it was given last: for who can tell without reading it. Of findings in it there are no lines.
    AsBefore,
}

impl FileText {
    /// Whether it is empty, or has only comments: as a file is between being truncated and being written.
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::Bytes(bytes) => document::says_nothing(bytes),
            Self::Unreadable(_) | Self::AsBefore => false,
        }
    }
}

impl From<&str> for FileText {
    fn from(text: &str) -> Self {
        Self::Bytes(Arc::from(text.as_bytes()))
    }
}

impl From<Vec<u8>> for FileText {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Arc::from(bytes))
    }
}

/// A file that has been read.
#[derive(Debug)]
pub(super) struct FileRead {
    pub(super) file: Arc<Path>,
    fingerprint: [u64; 2],
    /// In the order of lines.
    pub(super) objects: Vec<ReadObject>,
    pub(super) findings: Vec<Finding>,
    /// Where the first part is that was rejected: an object, or what could not even be told to be one.
    pub(super) first_defect: Option<Position>,
    /// What unreadable parts of it may be, with all namespaces that they may be of.
    pub(super) suspects: Vec<Suspect>,
    /// A part of it cannot be read, and does not say what it is.
    pub(super) is_mute: bool,
    /// A part of it is no object that could be told, and may have been any.
    pub(super) has_gap: bool,
    /// The documents that say everything by themselves.
    documents: Vec<Document>,
}

/// A document, and what came of it.
#[derive(Debug)]
struct Document {
    text: (u32, [u64; 2]),
    objects: Range<usize>,
    findings: Range<usize>,
    kinds: Vec<Kind>,
}

/// An object of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReadObject {
    pub(super) name: ObjectRef,
    pub(super) at: Position,
    /// `None` if it was rejected.
    pub(super) lowered: Option<Arc<Lowered>>,
    /// What stands in for it where it was rejected and no earlier version is known.
    pub(super) stand_in: Option<Arc<Lowered>>,
    /// The network namespace that it names, if it is a Pod of this node, accepted or not.
    pub(super) netns: Option<PathBuf>,
    /// `metadata.generation`, where it says one.
    pub(super) generation: Option<u64>,
}

impl FileRead {
    /// Whether all of it is objects that are accepted by themselves, and nothing that only the cluster's network can evaluate.
    pub(super) fn is_plain(&self) -> bool {
        let is_unevaluated = |finding: &Finding| finding.reason == Reason::NotEvaluated;
        self.first_defect.is_none()
            && self.suspects.is_empty()
            && !(self.is_mute || self.has_gap)
            && !self.findings.iter().any(is_unevaluated)
            && self.objects.iter().all(|object| object.lowered.is_some() && object.stand_in.is_none())
    }

    /// Whether there is anything to say of it, or a pod of this node in it, or it cannot be read in part.
    pub(super) fn is_notable(&self) -> bool {
        let is_here = |object: &ReadObject| object.netns.is_some();
        self.has_gap || !self.findings.is_empty() || self.objects.iter().any(is_here)
    }

    /// Has objects that are as they were be the very same as they were.
    fn share(&mut self, before: &Self) {
        let before: BTreeMap<&ObjectRef, &Arc<Lowered>> = before
            .objects
            .iter()
            .filter_map(|object| Some((&object.name, object.lowered.as_ref()?)))
            .collect();
        for object in &mut self.objects {
            let known = before.get(&object.name).filter(|known| object.lowered.as_ref() == Some(**known));
            if let Some(known) = known {
                object.lowered = Some(Arc::clone(known));
            }
        }
    }

    /// Whether this was read from the same text.
    pub(super) fn is_of(&self, text: &FileText) -> bool {
        self.fingerprint == fingerprint(text)
    }

    /// A file as it is `now`, if it is, but with those objects that are held as they were `then`, and what was said of them.
    pub(super) fn merged(
        then: Option<&Self>,
        now: Option<&Self>,
        is_held: impl Fn(&ReadObject) -> bool,
    ) -> Self {
        let objects = |read: Option<&Self>, held: bool| -> Vec<ReadObject> {
            let all = read.into_iter().flat_map(|read| &read.objects);
            all.filter(|object| is_held(object) == held).cloned().collect()
        };
        let kept = [objects(then, true), objects(now, false)];
        let said = |read: Option<&Self>, held: bool| -> Vec<Finding> {
            let names: BTreeSet<ObjectRef> = [then, now]
                .into_iter()
                .flatten()
                .flat_map(|read| &read.objects)
                .filter(|object| is_held(object))
                .map(|object| object.name.clone())
                .collect();
            let of_held =
                |finding: &&Finding| finding.object.as_ref().is_some_and(|of| names.contains(of)) == held;
            read.into_iter().flat_map(|read| &read.findings).filter(of_held).cloned().collect()
        };
        let findings = [said(then, true), said(now, false)].concat();
        // What cannot be read at all is nobody's to put off.
        Self {
            file: now.or(then).map_or_else(|| Arc::from(Path::new("")), |read| Arc::clone(&read.file)),
            fingerprint: [0; 2],
            objects: kept.concat(),
            findings,
            first_defect: now.and_then(|read| read.first_defect),
            suspects: now.map(|read| read.suspects.clone()).unwrap_or_default(),
            is_mute: now.is_some_and(|read| read.is_mute),
            has_gap: now.is_some_and(|read| read.has_gap),
            documents: Vec::new(),
        }
    }
}

fn generation(root: &Node) -> Option<u64> {
    u64::try_from(root.at_path(&["metadata", "generation"])?.int()?).ok()
}

/// A document by its place and its text: what was read of it is the same, as long as these are.
fn place_and_text(lines_before: u32, text: &str) -> (u32, [u64; 2]) {
    (lines_before, fingerprint_of(text.as_bytes()))
}

/// What is said of a file that is as it was before, but was never given.
pub(super) const NEVER_GIVEN: &str = "was not read";

/// Instead of the text, which would be held twice: 128 bits, so that no two versions meet by chance. Whoever
/// makes two texts meet on purpose keeps back their own edit only.
fn fingerprint(text: &FileText) -> [u64; 2] {
    match text {
        FileText::Bytes(bytes) => fingerprint_of(&**bytes),
        FileText::Unreadable(why) => fingerprint_of(&**why),
        FileText::AsBefore => fingerprint_of(NEVER_GIVEN),
    }
}

fn fingerprint_of(text: &(impl Hash + ?Sized)) -> [u64; 2] {
    [0_u8, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        text.hash(&mut hasher);
        hasher.finish()
    })
}
