//! One file: what is in it, read once per version of its text.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Options, rest::Rest};
use crate::{
    document::{self, Node},
    finding::{Finding, ObjectRef, Position, Reason, Severity},
    lower::{self, Lowered, Lowering},
    name::Namespace,
    object::{self, Kind, NotAnObject},
    suspect::{self, Found, Suspect},
};

/// What the caller found under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileText {
    /// Its bytes.
    Bytes(Arc<[u8]>),
    /// It is there, but cannot be read, for this reason. Its objects stay as they were.
    Unreadable(Arc<str>),
}

impl FileText {
    /// Whether it is empty, or has only comments: as a file is between being truncated and being written.
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::Bytes(bytes) => document::says_nothing(bytes),
            Self::Unreadable(_) => false,
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
        }
    }
}

fn generation(root: &Node) -> Option<u64> {
    u64::try_from(root.at_path(&["metadata", "generation"])?.int()?).ok()
}

/// Instead of the text, which would be held twice: 128 bits, so that no two versions meet by chance. Whoever
/// makes two texts meet on purpose keeps back their own edit only.
fn fingerprint(text: &FileText) -> [u64; 2] {
    [0_u8, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        match text {
            FileText::Bytes(bytes) => bytes.hash(&mut hasher),
            FileText::Unreadable(why) => why.hash(&mut hasher),
        }
        hasher.finish()
    })
}

/// Reads a file: documents, objects, and what each says by itself.
pub(super) fn read(path: &Path, text: &FileText, before: Option<&FileRead>, options: &Options) -> FileRead {
    let mut reader = Reader {
        options,
        read: FileRead {
            file: Arc::from(path),
            fingerprint: fingerprint(text),
            objects: Vec::new(),
            findings: Vec::new(),
            first_defect: None,
            suspects: Vec::new(),
            is_mute: false,
            has_gap: false,
        },
        left_out: 0,
        last: (0..0, 0..0),
        last_kinds: Vec::new(),
    };
    match text {
        FileText::Bytes(bytes) => {
            for document in document::read(bytes, &options.limits) {
                reader.document(document);
            }
        }
        FileText::Unreadable(why) => {
            let at = Position { line: 1, column: 1 };
            let message = format!("cannot be read: {why}");
            reader.read.is_mute = true;
            reader.unread(Reason::Unreadable, at, message);
        }
    }
    reader.locate(text);
    let mut read = reader.finish();
    if let Some(before) = before {
        read.share(before);
    }
    read
}

struct Reader<'a> {
    options: &'a Options,
    read: FileRead,
    left_out: usize,
    /// The objects and suspects of the document before, and of all that may be its rest.
    last: (Range<usize>, Range<usize>),
    /// The kinds that it says itself to be, or to be a list of.
    last_kinds: Vec<Kind>,
}

impl Reader<'_> {
    fn document(&mut self, document: Result<Node, document::Defect>) {
        let (objects, suspects) = (self.read.objects.len(), self.read.suspects.len());
        let rest = Rest::of(&document);
        let kinds = document.as_ref().map(suspect::kinds_of).unwrap_or_default();
        let at = document.as_ref().map_or_else(|defect| defect.at, |root| root.at);
        if let Some(rest) = &rest {
            self.doubt_last(rest, at);
        }
        self.take(document);
        if rest.is_none() {
            self.last = (objects..self.read.objects.len(), suspects..self.read.suspects.len());
            self.last_kinds = kinds;
        }
    }

    /// What may go on in another part is not in force without it.
    fn doubt_last(&mut self, rest: &Rest, at: Position) {
        let (objects, suspects) = self.last.clone();
        // Only the last thing in it can go on.
        let last = self.read.suspects[suspects].iter().max_by_key(|suspect| suspect.at);
        let mut meant = self.last_kinds.clone();
        meant.extend(last.map(|last| last.kind));
        let mut withdrawn = None;
        if let Some(object) = self.read.objects[objects].last_mut()
            && let Some(kind) = Kind::of(&object.name).filter(|kind| kind.protects())
        {
            meant.push(kind);
            if let Some(lowered) = object.lowered.take() {
                object.stand_in = lower::strictest(&lowered).map(Arc::new);
                withdrawn = Some((object.name.clone(), object.at));
            }
        }
        if let Some((object, position)) = withdrawn {
            let message = "may go on in the part behind it, which says nothing of what it is: is the line --- between them too much?";
            self.find(Finding {
                severity: Severity::Rejected,
                reason: Reason::Malformed,
                file: Arc::clone(&self.read.file),
                position,
                object: Some(object),
                field: String::new(),
                message: message.to_owned(),
                excerpt: None,
            });
            self.read.first_defect.get_or_insert(position);
        }
        let suspect = |kind| Suspect { kind, is_sure: true, place: rest.place(kind).clone(), at };
        let suspects = meant.into_iter().map(suspect);
        self.read.suspects.extend(suspects.filter(|suspect| !suspect.place.namespaces.is_empty()));
    }

    fn take(&mut self, document: Result<Node, document::Defect>) {
        match document {
            Ok(root) => object::objects(root).into_iter().for_each(|object| self.object(object)),
            Err(document::Defect { at, reason, message, unread }) => {
                for suspect in suspect::in_text(&unread) {
                    self.read.is_mute |= suspect.is_none();
                    self.read.suspects.extend(suspect.map(|suspect| self.not_of_all(suspect)));
                }
                self.unread(reason, at, message);
            }
        }
    }

    fn unread(&mut self, reason: Reason, at: Position, message: String) {
        let (severity, field, found) = (Severity::Rejected, String::new(), Found::default());
        self.defect(NotAnObject { severity, reason, at, field, message, found });
    }

    fn object(&mut self, object: Result<object::Object, NotAnObject>) {
        let object = match object {
            Ok(object) => object,
            Err(defect) => return self.defect(defect),
        };
        let Lowering { accepted, stand_in, suspects, findings } =
            lower::lower(&self.read.file, &object, self.options);
        if accepted.is_none() {
            self.read.first_defect.get_or_insert(object.root.at);
        }
        let netns = lower::netns_of(&object, self.options.node.as_ref());
        self.read.objects.push(ReadObject {
            netns,
            generation: generation(&object.root),
            name: object.name,
            at: object.root.at,
            lowered: accepted.map(Arc::new),
            stand_in: stand_in.map(Arc::new),
        });
        self.read.suspects.extend(suspects);
        findings.into_iter().for_each(|finding| self.find(finding));
    }

    fn defect(&mut self, defect: NotAnObject) {
        if defect.severity == Severity::Rejected {
            self.read.first_defect.get_or_insert(defect.at);
            self.read.has_gap = true;
        }
        let mut finding = Finding {
            severity: defect.severity,
            reason: defect.reason,
            file: Arc::clone(&self.read.file),
            position: defect.at,
            object: None,
            field: defect.field,
            message: defect.message,
            excerpt: None,
        };
        self.read.suspects.extend(defect.found.suspects);
        // What is rejected is told of every object that is known by its name.
        let mut names = Vec::new();
        for object in defect.found.objects {
            let stand_in = lower::of_named(&self.read.file, &object, self.options).map(Arc::new);
            let generation = generation(&object.root);
            let (name, at) = (object.name, object.root.at);
            names.push((name.clone(), at));
            self.read.objects.push(ReadObject { name, at, lowered: None, stand_in, netns: None, generation });
        }
        if let [(name, _)] = &names[..] {
            finding.object = Some(name.clone());
            names.clear();
        }
        let (line, field) = (finding.position.line, String::new());
        let message = format!("cannot be read, since what it is in is rejected: see line {line}");
        let of_one = Finding { field, message, ..finding.clone() };
        self.find(finding);
        for (name, position) in names {
            self.find(Finding { object: Some(name), position, ..of_one.clone() });
        }
    }

    /// The root namespace speaks for everybody. Where another one is named as well, either may only be a word in what the
    /// part says, and who wrote it may be of the other one, which does not let them close the whole mesh.
    fn not_of_all(&self, mut suspect: Suspect) -> Suspect {
        leave_out_root(&mut suspect.place.namespaces, self.options);
        suspect
    }

    /// Where the namespace of a part cannot be read, it may be the one of objects that name none, or any other one that
    /// the file names: a slip does not reach beyond its file.
    fn locate(&mut self, text: &FileText) {
        let FileText::Bytes(bytes) = text else { return };
        if !self.read.suspects.iter().any(|suspect| suspect.place.elsewhere) {
            return;
        }
        let mut namespaces = suspect::namespaces_in(&document::legible(bytes));
        leave_out_root(&mut namespaces, self.options);
        namespaces.extend(Namespace::try_from("default").ok());
        for suspect in self.read.suspects.iter_mut().filter(|suspect| suspect.place.elsewhere) {
            suspect.place.namespaces.extend(namespaces.iter().cloned());
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.read.findings.len() < self.options.limits.findings_per_file {
            self.read.findings.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> FileRead {
        if let (1.., Some(last)) = (self.left_out, self.read.findings.last()) {
            let message = format!("{} more findings in this file are left out", self.left_out);
            let (object, field) = (None, String::new());
            let more = Finding { object, field, message, reason: Reason::TooLarge, ..last.clone() };
            self.read.findings.push(more);
        }
        self.read
    }
}

fn leave_out_root(namespaces: &mut BTreeSet<Namespace>, options: &Options) {
    if namespaces.len() > 1 {
        namespaces.remove(&options.root_namespace.0);
    }
}
