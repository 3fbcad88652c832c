//! What becomes of all requests like the one that was asked about, from what becomes of each share of them.

use super::told::{Object, Outcome, Verdict};
use crate::telemetry::Reason;

/// What becomes of a share of requests.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// It goes there, by the proxy.
    Carried { to: String },
    /// It is answered by the proxy.
    Answered { with: String },
    /// It goes there, past the proxy.
    Passed { to: String },
    /// It is refused.
    Refused(Refusal),
}

/// Why a share of requests is refused.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) says: String,
    pub(super) by: Option<Object>,
    /// What would have to be changed, by whom.
    pub(super) remedy: String,
}

/// A share of requests.
#[derive(Debug, Clone)]
pub(super) struct Share {
    /// How many of how many, where it is not all.
    pub(super) part: Option<String>,
    pub(super) fate: Fate,
}

impl Share {
    /// All of them.
    pub(super) fn whole(fate: Fate) -> Self {
        Self { part: None, fate }
    }

    /// The same, of a part.
    pub(super) fn of(self, part: &str) -> Self {
        let part = self.part.map_or_else(|| part.to_owned(), |own| format!("{part}, {own}"));
        Self { part: Some(part), ..self }
    }

    fn told(&self) -> String {
        let what = match &self.fate {
            Fate::Carried { to } | Fate::Passed { to } => to,
            Fate::Answered { with } => with,
            Fate::Refused(refusal) => &refusal.says,
        };
        self.part.as_ref().map_or_else(|| what.clone(), |part| format!("{part}: {what}"))
    }
}

/// The verdict on all shares.
pub(super) fn of(shares: Vec<Share>) -> Verdict {
    let refused = |share: &Share| match &share.fate {
        Fate::Refused(refusal) => Some(refusal.clone()),
        _ => None,
    };
    let first = shares.iter().find_map(refused);
    let (lost, served): (Vec<&Share>, Vec<&Share>) =
        shares.iter().partition(|share| matches!(share.fate, Fate::Refused(_)));
    let says = |shares: &[&Share]| shares.iter().map(|share| share.told()).collect::<Vec<_>>().join("; ");
    let Some(Refusal { reason, by, remedy, .. }) = first else {
        let outcome = match served.first().map(|share| &share.fate) {
            Some(Fate::Answered { .. }) => Outcome::Answered,
            Some(Fate::Passed { .. }) => Outcome::Passed,
            _ => Outcome::Carried,
        };
        return Verdict { outcome, reason: None, says: says(&served), by: None, remedy: None };
    };
    let (outcome, says) = if served.is_empty() {
        (Outcome::Refused, says(&lost))
    } else {
        (Outcome::Partly, format!("refused is {}; the rest goes on: {}", says(&lost), says(&served)))
    };
    Verdict { outcome, reason: Some(reason.as_str().to_owned()), says, by, remedy: Some(remedy) }
}
