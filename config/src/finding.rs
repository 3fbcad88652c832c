//! What is said about manifests: one finding per thing that is wrong, ignored or not obeyed.
//!
//! Every finding names the place and, in its message, the remedy. It must never carry the content of a
//! whole object: findings are logged.

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

use crate::name::PodName;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The object (or document, or file) is not accepted; its last good version stays, if there is one.
    Rejected,
    /// Accepted, but something in it cannot work as written.
    Warning,
    /// Accepted; Kubernetes knows the field, Canopy does not act on it.
    NotObeyed,
    /// Not for Canopy at all: an object of another kind, a pod that is no workload.
    Ignored,
}

impl Severity {
    /// The word that stands for it in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Warning => "warning",
            Self::NotObeyed => "not-obeyed",
            Self::Ignored => "ignored",
        }
    }
}

/// Why there is a finding: a closed set, usable as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The file could not be read, or is not text.
    Unreadable,
    /// Not YAML or JSON, or not an object.
    Malformed,
    /// More than the limits of reading allow.
    TooLarge,
    /// A field that Kubernetes does not know.
    UnknownField,
    /// A field that must be there is not.
    MissingField,
    /// A value of the wrong type.
    WrongType,
    /// A value of the right type that is not allowed.
    InvalidValue,
    /// The second of something that may exist once.
    Duplicate,
    /// An address, namespace, network namespace or port that something else already has.
    Conflict,
    /// A reference to something that is not there.
    DanglingReference,
    /// Something the writer has no right to say.
    NotPermitted,
    /// A kind or version that Canopy does not read.
    UnknownKind,
    /// A policy for the network, of a kind that Canopy does not evaluate.
    NotEvaluated,
    /// A pod that is no workload of the mesh.
    NotAWorkload,
    /// A pod that a label gives to a sidecar, and that has none.
    NoSidecar,
    /// A field that Canopy knows and does not act on.
    NotObeyed,
    /// A field that other parts of Kubernetes act on (kubelet, scheduler, …).
    LeftToOthers,
    /// An earlier version stays in force.
    KeptLastGood,
    /// The strictest reading of an object that cannot be read is in force.
    StoodIn,
    /// Its tenant's budget has no room for it.
    OverBudget,
}

/// A place in a file, counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// An object as its manifest names it: valid or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Arc<str>,
    /// Its namespace; `None` for a cluster-scoped kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// The object of this kind and name; without a namespace, of a cluster-scoped kind.
    pub fn new(kind: &str, namespace: Option<&str>, name: &str) -> Self {
        Self { kind: Arc::from(kind), namespace: namespace.map(Arc::from), name: Arc::from(name) }
    }

    /// A pod.
    pub fn pod(pod: &PodName) -> Self {
        Self::new("Pod", Some(pod.namespace.as_str()), pod.name.as_str())
    }
}

/// Prints as `KIND NAMESPACE/NAME`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One thing to tell the author of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Why, from a closed set.
    pub reason: Reason,
    /// The file it is in.
    #[serde(serialize_with = "path_as_text")]
    pub file: Arc<Path>,
    /// Where in the file.
    #[serde(flatten)]
    pub position: Position,
    /// The object, when it has been recognised that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// The field, as `spec.rules[0].backendRefs[1].port`; empty for the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The line in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

impl Finding {
    /// What it says, without where: the same before and after an edit that only moves it.
    pub fn gist(&self) -> String {
        let object = self.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default();
        let field = if self.field.is_empty() { String::new() } else { format!("{}: ", self.field) };
        visible(&format!("{}: {object}{field}{}", self.severity.as_str(), self.message))
    }
}

/// Prints on one line: `FILE:LINE:COLUMN: SEVERITY: OBJECT: FIELD: MESSAGE`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        let place = visible(&format!("{}:{line}:{column}", self.file.display()));
        write!(f, "{place}: {}", self.gist())
    }
}

/// Control characters would let a manifest write to the reader's terminal, or forge a line of a log.
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn path_as_text<S: Serializer>(path: &Arc<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
