//! What becomes of a pod that is about to start: one pure function.
//!
//! What a daemon says goes before all. Without its word a pod of nobody starts, and one that is captured never starts uncaptured unless its
//! namespace says so.

use config::opt_in::{Mode, OnFailure};

use super::answer::{Code, Failure};
use crate::control::gate::mode::OfPod;

/// What is known of the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its namespace's pods pass unasked.
    pub(super) is_exempt: bool,
    /// What the daemon says.
    pub(super) gate: Gate,
    /// Whose it is by the API server, or by the daemon's cache; or why nobody can tell.
    pub(super) terms: Result<OfPod, String>,
    /// There is no more time.
    pub(super) is_late: bool,
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gate {
    /// It was not asked.
    Unasked,
    /// The pod is steered and fenced.
    Enrolled,
    /// The pod is not this daemon's.
    Outside,
    /// It is this daemon's, and could not be enrolled.
    Refused(String),
    /// It knows of no such pod.
    Unknown(String),
    /// It is not there, or does not answer.
    Away(String),
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It starts.
    Start,
    /// It starts, although it should be captured and is not; why.
    StartOpen(String),
    /// It is asked again in a moment.
    Wait,
    /// It does not start now.
    Fail(Failure),
}

/// Decides.
pub(super) fn decide(facts: &Facts) -> Decision {
    if facts.is_exempt {
        return Decision::Start;
    }
    match (&facts.gate, &facts.terms) {
        (Gate::Enrolled | Gate::Outside, _) => Decision::Start,
        (Gate::Refused(_), _) if !facts.is_late => Decision::Wait,
        (Gate::Refused(why), _) => again("the pod cannot be enrolled", why),
        (_, Ok(terms)) if terms.mode != Mode::Node => Decision::Start,
        (Gate::Away(why), Ok(OfPod { on_failure: OnFailure::Open, .. })) => Decision::StartOpen(why.clone()),
        (Gate::Unasked, _) => Decision::Wait,
        (Gate::Away(_) | Gate::Unknown(_), _) if !facts.is_late => Decision::Wait,
        (Gate::Away(why), Ok(_)) => {
            let why = format!(
                "{why}. Its namespace is captured, so it waits for the daemon; label the namespace canopy.mesh/on-failure: open to have its \
                 pods start uncaptured instead"
            );
            again("no daemon enrols the pod", &why)
        }
        (Gate::Unknown(why), Ok(_)) => again("the daemon does not know the pod", why),
        (Gate::Away(why), Err(unknown)) => {
            again("no daemon, and nobody else knows whose the pod is", &format!("{why}; {unknown}"))
        }
        (Gate::Unknown(why), Err(unknown)) => {
            again("nobody knows whose the pod is", &format!("{why}; {unknown}"))
        }
    }
}

/// The kubelet tries again, whatever the code.
fn again(message: &str, why: &str) -> Decision {
    Decision::Fail(Failure::new(Code::TryAgain, message, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination that there is: exempt, daemon, terms, time; what comes of it.
    #[test]
    fn every_pod_is_decided_as_the_table_says() {
        let terms = |mode, on_failure| Ok(OfPod { mode, on_failure });
        let all = [
            ("closed", terms(Mode::Node, OnFailure::Closed)),
            ("open", terms(Mode::Node, OnFailure::Open)),
            ("sidecar", terms(Mode::Sidecar, OnFailure::Closed)),
            ("off", terms(Mode::Off, OnFailure::Closed)),
            ("unknown", Err("no API".to_owned())),
        ];
        let gates = [
            ("enrolled", Gate::Enrolled),
            ("outside", Gate::Outside),
            ("refused", Gate::Refused("no port".to_owned())),
            ("stranger", Gate::Unknown("behind".to_owned())),
            ("away", Gate::Away("no socket".to_owned())),
        ];
        // Of each daemon's word: in time and late, by what is known of the namespace.
        let table = [
            ("enrolled", ["start"; 5], ["start"; 5]),
            ("outside", ["start"; 5], ["start"; 5]),
            ("refused", ["wait"; 5], ["fail"; 5]),
            (
                "stranger",
                ["wait", "wait", "start", "start", "wait"],
                ["fail", "fail", "start", "start", "fail"],
            ),
            ("away", ["wait", "open", "start", "start", "wait"], ["fail", "open", "start", "start", "fail"]),
        ];
        for ((name, gate), (row, in_time, late)) in gates.iter().zip(table) {
            assert_eq!(*name, row);
            for (is_late, expected) in [(false, in_time), (true, late)] {
                for ((of, terms), expected) in all.iter().zip(expected) {
                    let facts =
                        |is_exempt| Facts { is_exempt, gate: gate.clone(), terms: terms.clone(), is_late };
                    let decided = match decide(&facts(false)) {
                        Decision::Start => "start",
                        Decision::StartOpen(_) => "open",
                        Decision::Wait => "wait",
                        Decision::Fail(failure) => {
                            assert_eq!(failure.code, Code::TryAgain);
                            "fail"
                        }
                    };
                    assert_eq!(decided, expected, "{name}, {of}, late: {is_late}");
                    assert_eq!(decide(&facts(true)), Decision::Start, "exempt: {name}, {of}");
                }
            }
        }
    }

    #[test]
    fn a_failure_says_what_is_in_the_way_and_what_to_do() {
        let facts = |gate, terms| Facts { is_exempt: false, gate, terms, is_late: true };
        let said = |facts: &Facts| match decide(facts) {
            Decision::Fail(failure) => failure.to_string(),
            other => format!("{other:?}"),
        };
        let closed = Ok(OfPod { mode: Mode::Node, on_failure: OnFailure::Closed });
        let away = said(&facts(Gate::Away("no socket".to_owned()), closed));
        assert!(away.contains("no socket") && away.contains("canopy.mesh/on-failure: open"), "{away}");
        let unknown = said(&facts(Gate::Away("no socket".to_owned()), Err("no API".to_owned())));
        assert!(unknown.contains("no socket") && unknown.contains("no API"), "{unknown}");
    }
}
