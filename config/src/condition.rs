//! What became of each object, as conditions in the words of Gateway API: accepted or not, references resolved, in force, in conflict.
//!
//! Says what was decided when objects were lowered and linked; it must never decide anything. No clock: when a condition last changed is
//! known to who keeps them.

use serde::{Serialize, Serializer};

use crate::{
    finding::{Finding, ObjectRef, Reason, Severity},
    model::InvalidBackend,
    name::TenantId,
    object::Kind,
};

/// What became of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Which.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Whose it is; nobody's if it is cluster-scoped.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// `metadata.generation` of the version that was looked at, where it says one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
    /// `Accepted`, `ResolvedRefs` where the kind refers to others, `Programmed`, `Conflicted`.
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub about: About,
    /// Whether it holds.
    #[serde(serialize_with = "as_word")]
    pub status: bool,
    /// Why, in one word from a closed set.
    pub reason: &'static str,
    /// The same for people.
    pub message: String,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum About {
    /// Whether the object is valid, and allowed to say what it says.
    Accepted,
    /// Whether everything that it refers to is there and may be referred to.
    ResolvedRefs,
    /// Whether this version of it is in force.
    Programmed,
    /// Whether it claims what another has.
    Conflicted,
}

impl About {
    /// As Gateway API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::Conflicted => "Conflicted",
        }
    }
}

impl Condition {
    /// Whether it is as the object's author wants it.
    pub fn is_well(&self) -> bool {
        self.status != (self.about == About::Conflicted)
    }
}

impl Standing {
    /// The condition of this type, if the object has one.
    pub fn of(&self, about: About) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.about == about)
    }

    /// Whether all is as its author wants it.
    pub fn is_well(&self) -> bool {
        self.conditions.iter().all(Condition::is_well)
    }
}

/// Which version of an object is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InForce {
    This,
    Earlier,
    StandIn,
    Nothing,
}

/// What is known of a route that is in force.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RouteFacts {
    /// Whether it has a parent in the mesh.
    pub(crate) attached: bool,
    /// Why the first of its backends cannot be used that cannot.
    pub(crate) unresolved: Option<InvalidBackend>,
}

/// The conditions of an object of which this was found.
pub(crate) fn conditions(
    kind: &str,
    in_force: InForce,
    found: &[&Finding],
    route: Option<RouteFacts>,
) -> Vec<Condition> {
    let mut conditions = vec![accepted(in_force, found, route)];
    if REFERRING.iter().any(|referring| referring.as_str() == kind) {
        conditions.push(resolved(found, route));
    }
    conditions.extend([programmed(in_force, found), conflicted(found)]);
    conditions
}

/// Kinds whose objects name others that have to be there.
const REFERRING: [Kind; 4] =
    [Kind::HttpRoute, Kind::GrpcRoute, Kind::EndpointSlice, Kind::AuthorizationPolicy];

fn accepted(in_force: InForce, found: &[&Finding], route: Option<RouteFacts>) -> Condition {
    let (about, status) = (About::Accepted, in_force == InForce::This);
    if in_force == InForce::Nothing && found.iter().any(|finding| is_put_off(finding)) {
        return Condition { about, status: true, reason: "Accepted", message: String::new() };
    }
    if !status {
        let rejected = found.iter().find(|finding| finding.severity == Severity::Rejected);
        let why = rejected.or(found.first());
        let (reason, message) = why.map_or_else(
            || ("Pending", "this version of it is not in force yet".to_owned()),
            |finding| (word(finding.reason), told(finding)),
        );
        return Condition { about, status, reason, message };
    }
    if route.is_some_and(|route| !route.attached) {
        let why = dangling(found, true).or_else(|| conflict(found));
        let message = why.map_or_else(|| "it has no parent in the mesh".to_owned(), told);
        return Condition { about, status: false, reason: "NoMatchingParent", message };
    }
    let ignored = found.iter().filter(|finding| finding.reason == Reason::NotObeyed).count();
    let message = match ignored {
        0 => String::new(),
        fields => format!("{fields} of its fields are not obeyed: see the findings"),
    };
    Condition { about, status, reason: "Accepted", message }
}

fn resolved(found: &[&Finding], route: Option<RouteFacts>) -> Condition {
    let about = About::ResolvedRefs;
    let invalid = route.and_then(|route| route.unresolved).map(|invalid| match invalid {
        InvalidBackend::BackendNotFound => "BackendNotFound",
        InvalidBackend::InvalidKind => "InvalidKind",
        InvalidBackend::RefNotPermitted => "RefNotPermitted",
        InvalidBackend::FilterNotApplied => "UnsupportedFilter",
    });
    let dangling = dangling(found, false);
    match invalid.or(dangling.map(|_| "RefNotFound")) {
        Some(reason) => {
            let message = dangling.map_or_else(|| "a backend of it cannot be used".to_owned(), told);
            Condition { about, status: false, reason, message }
        }
        None => Condition { about, status: true, reason: "ResolvedRefs", message: String::new() },
    }
}

fn programmed(in_force: InForce, found: &[&Finding]) -> Condition {
    let about = About::Programmed;
    let by = |reason: Reason, otherwise: &str| {
        found
            .iter()
            .find(|finding| finding.reason == reason)
            .map_or_else(|| otherwise.to_owned(), |finding| told(finding))
    };
    let put_off = found.iter().find(|finding| is_put_off(finding));
    let (status, reason, message) = match in_force {
        InForce::This | InForce::Nothing if put_off.is_some() => {
            (false, "PutOff", by(Reason::OverBudget, ""))
        }
        InForce::This => (true, "Programmed", String::new()),
        InForce::Earlier => {
            (false, "KeptLastGood", by(Reason::KeptLastGood, "an earlier version of it is in force"))
        }
        InForce::StandIn => {
            (false, "StoodIn", by(Reason::StoodIn, "the strictest reading of it is in force"))
        }
        InForce::Nothing => (false, "NotInForce", "no version of it is in force".to_owned()),
    };
    Condition { about, status, reason, message }
}

fn conflicted(found: &[&Finding]) -> Condition {
    let about = About::Conflicted;
    match conflict(found) {
        Some(finding) => {
            Condition { about, status: true, reason: word(finding.reason), message: told(finding) }
        }
        None => Condition { about, status: false, reason: "NoConflicts", message: String::new() },
    }
}

/// Whether what is found is that a newer version waits for its tenant's turn.
fn is_put_off(finding: &Finding) -> bool {
    (finding.severity, finding.reason) == (Severity::Warning, Reason::OverBudget)
}

/// What an object claims that another has: all of it is rejected, or a part of it is not in force.
fn conflict<'a>(found: &[&'a Finding]) -> Option<&'a Finding> {
    let is_conflict = |finding: &&&Finding| match finding.severity {
        Severity::Rejected => matches!(finding.reason, Reason::Conflict | Reason::Duplicate),
        Severity::Warning => finding.reason == Reason::Conflict,
        Severity::NotObeyed | Severity::Ignored => false,
    };
    found.iter().find(is_conflict).copied()
}

/// The first reference that leads nowhere: to a parent, or to anything else.
fn dangling<'a>(found: &[&'a Finding], to_parent: bool) -> Option<&'a Finding> {
    let is_it = |finding: &&&Finding| {
        finding.reason == Reason::DanglingReference
            && finding.field.starts_with("spec.parentRefs") == to_parent
    };
    found.iter().find(is_it).copied()
}

fn told(finding: &Finding) -> String {
    if finding.field.is_empty() {
        return finding.message.clone();
    }
    format!("{}: {}", finding.field, finding.message)
}

/// A finding's reason as the reason of a condition.
pub fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Unreadable => "Unreadable",
        Reason::Malformed => "Malformed",
        Reason::TooLarge => "TooLarge",
        Reason::UnknownField => "UnknownField",
        Reason::MissingField => "MissingField",
        Reason::WrongType => "WrongType",
        Reason::InvalidValue => "InvalidValue",
        Reason::Duplicate => "Duplicate",
        Reason::Conflict => "Conflict",
        Reason::DanglingReference => "RefNotFound",
        Reason::NotPermitted => "NotPermitted",
        Reason::UnknownKind => "UnknownKind",
        Reason::NotEvaluated => "NotEvaluated",
        Reason::NotAWorkload => "NotAWorkload",
        Reason::NoSidecar => "NoSidecar",
        Reason::NotObeyed => "NotObeyed",
        Reason::LeftToOthers => "LeftToOthers",
        Reason::KeptLastGood => "KeptLastGood",
        Reason::StoodIn => "StoodIn",
        Reason::OverBudget => "OverBudget",
    }
}

fn as_word<S: Serializer>(status: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *status { "True" } else { "False" })
}

fn as_text<S: Serializer>(tenant: &Option<TenantId>, serializer: S) -> Result<S::Ok, S::Error> {
    tenant.as_ref().map(ToString::to_string).serialize(serializer)
}
