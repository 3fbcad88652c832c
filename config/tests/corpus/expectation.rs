//! What a case expects, a line each:
//!
//! - `#it CONDITIONS`, of `it`; `#of KIND NAMESPACE/NAME CONDITIONS` (`-/NAME` without a namespace), of another object;
//! - `#running`: it is put to stores alone that have the scene in force, as who starts cannot tell which is whose;
//! - `#none`: nothing is told of `it` as an object, as nobody can tell that it is one;
//! - `#told SEVERITY REASON "PIECE"`: there is such a finding of the case's files;
//! - `#closed PLACE, …` or `#closed nothing`: all that stands in for something: `shop` or `shop app=web` for a policy that denies
//!   everything, `plaintext shop`, `short cuts shop`, `kept annex` (to the mesh); `*` is the whole mesh. Whatever is no policy closes
//!   nothing where it does not say so; what is one, and is refused, has to say.
//!
//! CONDITIONS are `TYPE=REASON`, each with a piece of its message in quotes where that matters, or `well`. What is not written is as it
//! has to be: the good word; of what is not accepted, `Programmed=StoodIn` of a policy and `NotInForce` of anything else; and
//! `Conflicted` by the reason for which it is refused.

use std::collections::BTreeMap;

use config::{
    condition::{About, Condition, word},
    finding::{ObjectRef, Reason},
};

use crate::case::Kind;

/// One line of it.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    Status(ObjectRef, Status),
    NoStatus(ObjectRef),
    Told { severity: String, reason: String, piece: String },
    Closed(Vec<String>),
    AsAnEdit,
}

/// The conditions of an object: the reason of each, and a piece of its message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status(BTreeMap<About, (String, String)>);

pub(crate) fn read(line: &str, kind: &Kind) -> Result<Expected, String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "#it" => status(rest).map(|status| Expected::Status(kind.it(), status)),
        "#none" if rest.is_empty() => Ok(Expected::NoStatus(kind.it())),
        "#of" => {
            let mut words = rest.splitn(3, ' ');
            let (Some(kind), Some(name), Some(said)) = (words.next(), words.next(), words.next()) else {
                return Err(format!("{line}: write #of KIND NAMESPACE/NAME CONDITIONS"));
            };
            let (namespace, name) = name.split_once('/').ok_or_else(|| format!("{name} is no name"))?;
            let namespace = Some(namespace).filter(|namespace| *namespace != "-");
            Ok(Expected::Status(ObjectRef::new(kind, namespace, name), status(said)?))
        }
        "#running" if rest.is_empty() => Ok(Expected::AsAnEdit),
        "#told" => told(rest),
        "#closed" if !rest.is_empty() => Ok(Expected::Closed(match rest {
            "nothing" => Vec::new(),
            places => places.split(", ").map(str::to_owned).collect(),
        })),
        _ => Err(format!("{line}: neither #it, #of, #none, #told, #closed nor #running")),
    }
}

/// Whether enough is expected.
pub(crate) fn check(all: &[Expected], kind: &Kind) -> Result<(), String> {
    let closed = all.iter().filter(|expected| matches!(expected, Expected::Closed(_))).count();
    if all.iter().all(|expected| matches!(expected, Expected::Closed(_) | Expected::AsAnEdit)) {
        return Err("expects nothing of an object, nor that anything is told".to_owned());
    }
    let is_well = |expected: &Expected| match expected {
        Expected::Status(_, status) => status.reason(About::Accepted) == "Accepted",
        Expected::NoStatus(_) => false,
        Expected::Told { .. } | Expected::Closed(_) | Expected::AsAnEdit => true,
    };
    if kind.protects() && closed == 0 && !all.iter().all(is_well) {
        return Err("must say what is closed, as a policy is refused".to_owned());
    }
    if closed > 1 { Err("says twice what is closed".to_owned()) } else { Ok(()) }
}

impl Status {
    /// What of it an object has otherwise.
    pub(crate) fn complaints(&self, kind: &str, conditions: &[Condition]) -> Vec<String> {
        let mut wrong = Vec::new();
        for condition in conditions {
            let reason = match self.0.get(&condition.about) {
                Some((reason, _)) => reason.clone(),
                None => self.implied(kind, condition.about),
            };
            let is_good = condition.reason == good(condition.about);
            let status = is_good == (condition.about != About::Conflicted);
            let piece = self.0.get(&condition.about).map_or("", |(_, piece)| piece);
            if condition.reason != reason || condition.status != status || !condition.message.contains(piece)
            {
                wrong.push(format!(
                    "{} is {} ({:?}), not {reason} ({piece:?})",
                    condition.about.as_str(),
                    condition.reason,
                    condition.message
                ));
            }
        }
        let missing = self.0.keys().filter(|about| !conditions.iter().any(|one| one.about == **about));
        wrong.extend(missing.map(|about| format!("has no condition {}", about.as_str())));
        wrong
    }

    fn reason(&self, about: About) -> &str {
        self.0.get(&about).map_or(good(about), |(reason, _)| reason)
    }

    fn implied(&self, kind: &str, about: About) -> String {
        let accepted = self.reason(About::Accepted);
        let is_in_force = matches!(accepted, "Accepted" | "NoMatchingParent");
        let is_policy = ["AuthorizationPolicy", "PeerAuthentication", "NetworkPolicy"].contains(&kind);
        match about {
            About::Programmed if !is_in_force && is_policy => "StoodIn",
            About::Programmed if !is_in_force => "NotInForce",
            About::Conflicted if matches!(accepted, "Conflict" | "Duplicate") => accepted,
            about => good(about),
        }
        .to_owned()
    }
}

/// Why a condition is as its author wants it.
fn good(about: About) -> &'static str {
    match about {
        About::Accepted => "Accepted",
        About::ResolvedRefs => "ResolvedRefs",
        About::Programmed => "Programmed",
        About::Conflicted => "NoConflicts",
    }
}

fn status(text: &str) -> Result<Status, String> {
    let mut status = Status::default();
    if text == "well" {
        return Ok(status);
    }
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a line of conditions that says nothing: write well, or what is not".to_owned());
    }
    while !rest.is_empty() {
        let (said, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let (about, reason) = said.split_once('=').ok_or_else(|| format!("{said}: write TYPE=REASON"))?;
        let about = [About::Accepted, About::ResolvedRefs, About::Programmed, About::Conflicted]
            .into_iter()
            .find(|known| known.as_str() == about)
            .ok_or_else(|| format!("{about} is no condition"))?;
        if !reasons().any(|known| known == reason) {
            return Err(format!("{reason} is no reason of a condition"));
        }
        let (piece, after) = quoted(after.trim_start())?;
        status.0.insert(about, (reason.to_owned(), piece.unwrap_or_default().to_owned()));
        rest = after.trim_start();
    }
    Ok(status)
}

fn told(text: &str) -> Result<Expected, String> {
    let mut words = text.splitn(3, ' ');
    let (severity, reason) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !["rejected", "warning", "not-obeyed", "ignored"].contains(&severity) {
        return Err(format!("{severity:?} is no severity"));
    }
    if !REASONS.iter().any(|known| word(*known) == reason) {
        return Err(format!("{reason:?} is no reason of a finding"));
    }
    match quoted(words.next().unwrap_or_default())? {
        (Some(piece), "") => Ok(Expected::Told {
            severity: severity.to_owned(),
            reason: reason.to_owned(),
            piece: piece.to_owned(),
        }),
        _ => Err("#told ends with a piece of the message in quotes".to_owned()),
    }
}

/// A text in quotes at the beginning of another, and what is behind it.
fn quoted(text: &str) -> Result<(Option<&str>, &str), String> {
    let Some(behind) = text.strip_prefix('"') else { return Ok((None, text)) };
    let (piece, rest) = behind.split_once('"').ok_or_else(|| format!("{text}: a quote without its end"))?;
    Ok((Some(piece), rest))
}

fn reasons() -> impl Iterator<Item = &'static str> {
    REASONS.iter().map(|reason| word(*reason)).chain(OF_CONDITIONS)
}

/// Reasons that no finding has.
const OF_CONDITIONS: [&str; 13] = [
    "Accepted",
    "Pending",
    "NoMatchingParent",
    "ResolvedRefs",
    "BackendNotFound",
    "InvalidKind",
    "RefNotPermitted",
    "UnsupportedFilter",
    "Programmed",
    "KeptLastGood",
    "StoodIn",
    "NotInForce",
    "NoConflicts",
];

const REASONS: [Reason; 19] = [
    Reason::Unreadable,
    Reason::Malformed,
    Reason::TooLarge,
    Reason::UnknownField,
    Reason::MissingField,
    Reason::WrongType,
    Reason::InvalidValue,
    Reason::Duplicate,
    Reason::Conflict,
    Reason::DanglingReference,
    Reason::NotPermitted,
    Reason::UnknownKind,
    Reason::NotEvaluated,
    Reason::NotAWorkload,
    Reason::NotObeyed,
    Reason::LeftToOthers,
    Reason::KeptLastGood,
    Reason::StoodIn,
    Reason::OverBudget,
];
