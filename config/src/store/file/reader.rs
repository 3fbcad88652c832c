//! Reads a file, document by document. One that stands where it stood, as it was, is not read again.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    path::Path,
    sync::Arc,
};

use super::{Document, FileRead, FileText, NEVER_GIVEN, ReadObject, fingerprint, generation, place_and_text};
use crate::{
    document::{self, Node, Part},
    finding::{Finding, Position, Reason, Severity},
    lower::{self, Lowering},
    name::Namespace,
    object::{self, Kind, NotAnObject},
    options::Options,
    store::rest::Rest,
    suspect::{self, Found, Suspect},
};

/// Reads a file: documents, objects, and what each says by itself.
pub(in crate::store) fn read(
    path: &Path,
    text: &FileText,
    before: Option<&FileRead>,
    options: &Options,
) -> FileRead {
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
            documents: Vec::new(),
        },
        known: before.filter(|before| before.is_plain()).map(Known::of).unwrap_or_default(),
        left_out: 0,
        last: (0..0, 0..0),
        last_kinds: Vec::new(),
    };
    match text {
        FileText::Bytes(bytes) => {
            for part in document::parts(bytes, &options.limits) {
                reader.part(part);
            }
        }
        FileText::Unreadable(why) => reader.unreadable(why),
        FileText::AsBefore => reader.unreadable(NEVER_GIVEN),
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
    known: Known<'a>,
    left_out: usize,
    /// The objects and suspects of the document before, and of all that may be its rest.
    last: (Range<usize>, Range<usize>),
    /// The kinds that it says itself to be, or to be a list of.
    last_kinds: Vec<Kind>,
}

/// What was read of the documents of the file as it was. All of it is objects that are accepted by themselves, so none was
/// looked at beside another.
#[derive(Default)]
struct Known<'a> {
    read: Option<&'a FileRead>,
    documents: HashMap<(u32, [u64; 2]), &'a Document>,
}

impl<'a> Known<'a> {
    fn of(read: &'a FileRead) -> Self {
        let documents = read.documents.iter().map(|document| (document.text, document)).collect();
        Self { read: Some(read), documents }
    }
}

impl Reader<'_> {
    fn part(&mut self, part: Part<'_>) {
        let (lines_before, text) = match part {
            Part::Document { lines_before, text } => (lines_before, text),
            Part::Defect(defect) => return self.document(Err(defect)),
        };
        let place_and_text = place_and_text(lines_before, text);
        let (objects, findings) = (self.read.objects.len(), self.read.findings.len());
        let left_out = self.left_out;
        if let (Some(read), Some(known)) = (self.known.read, self.known.documents.get(&place_and_text)) {
            self.read.objects.extend(read.objects[known.objects.clone()].iter().cloned());
            self.last =
                (objects..self.read.objects.len(), self.read.suspects.len()..self.read.suspects.len());
            self.last_kinds.clone_from(&known.kinds);
            read.findings[known.findings.clone()].iter().for_each(|finding| self.find(finding.clone()));
        } else {
            let before = (self.read.suspects.len(), self.read.first_defect, self.read.has_gap);
            self.document(document::parse(text, lines_before, &self.options.limits));
            if before != (self.read.suspects.len(), self.read.first_defect, self.read.has_gap)
                || self.last.0 != (objects..self.read.objects.len())
            {
                return;
            }
        }
        if self.left_out == left_out {
            let (objects, findings) = (objects..self.read.objects.len(), findings..self.read.findings.len());
            let kinds = self.last_kinds.clone();
            self.read.documents.push(Document { text: place_and_text, objects, findings, kinds });
        }
    }

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

    /// Nothing is known of it.
    fn unreadable(&mut self, why: &str) {
        self.read.is_mute = true;
        self.unread(Reason::Unreadable, Position { line: 1, column: 1 }, format!("cannot be read: {why}"));
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
