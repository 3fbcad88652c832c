//! What is made of the samples: rows, and ratios of each subject to itself in quiet and to the other.

use super::{CHANGE, QUIET, SUBJECTS, VICTIM};
use crate::{
    outcome::{Outcome, Sample, Samples},
    subject::Kind,
};

/// Fills in rows, ratios and samples.
pub(super) fn outcome(mut outcome: Outcome, samples: Vec<Sample>) -> Outcome {
    let [canopy, envoy] = SUBJECTS.map(Kind::name);
    let quiet = |name: &str| format!("{name}{QUIET}");
    let (canopy_quiet, envoy_quiet) = (quiet(canopy), quiet(envoy));
    let measured = Samples(samples);
    let rows = [canopy, &canopy_quiet, envoy, &envoy_quiet].map(|subject| (VICTIM, subject));
    for (case, subject) in rows.into_iter().chain([(CHANGE, canopy), (CHANGE, envoy)]) {
        if measured.0.iter().any(|sample| sample.case == case && sample.subject == subject) {
            outcome.rows.push(measured.row(case, subject));
        }
    }
    for (case, of, to) in [
        (VICTIM, canopy_quiet.as_str(), canopy_quiet.as_str()),
        (VICTIM, canopy, canopy),
        (VICTIM, canopy, &canopy_quiet),
        (VICTIM, envoy, &envoy_quiet),
        (VICTIM, canopy, envoy),
        (CHANGE, canopy, canopy),
        (CHANGE, canopy, envoy),
    ] {
        outcome.ratios.extend(measured.ratios(case, of, to));
    }
    outcome.samples = measured.0;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::verdict::{self, Judgement};

    /// Three rounds in which churn costs the victim so much of its p99, a change so much of Envoy's CPU and so many milliseconds.
    fn measured(grown: f64, cost: f64, took_ms: f64, errors: u64) -> Outcome {
        let mut samples = Vec::new();
        for round in 0..3 {
            let sample = |case: &str, subject: &str, again, p99_us, cpu_us_per_request| Sample {
                case: case.into(),
                subject: subject.into(),
                round,
                again,
                rps: 2_000.0,
                bytes_each: if case == CHANGE { 856.0 } else { 0.0 },
                p99_us,
                cpu_us_per_request,
                ..Sample::default()
            };
            for again in [false, true] {
                let drift = if again { 1.04 } else { 1.0 };
                samples.push(sample(VICTIM, "canopy-node-quiet", again, 400.0 * drift, 40.0));
                samples.push(sample(VICTIM, "canopy-node", again, 400.0 * grown * drift, 40.0));
                samples.push(sample(CHANGE, "canopy-node", again, took_ms * 1e3, 500.0 * cost * drift));
            }
            samples.push(sample(VICTIM, "envoy-node-quiet", false, 500.0, 70.0));
            samples.push(Sample { errors, ..sample(VICTIM, "envoy-node", false, 900.0, 80.0) });
            samples.push(sample(CHANGE, "envoy-node", false, 20_000.0, 500.0));
        }
        let begun = Outcome { scenario: super::super::NAME.into(), rounds: 3, ..Outcome::default() };
        outcome(begun, samples)
    }

    /// Of the victim's p99, of the cost of a change, of its time.
    fn judged(outcome: &Outcome) -> [Judgement; 3] {
        let verdicts = verdict::all(outcome);
        [(VICTIM, "canopy-node-quiet"), (CHANGE, "envoy-node"), (CHANGE, "")].map(|(case, to)| {
            let is_it = |v: &&verdict::Verdict| v.case == case && v.to == to && v.metric != verdict::ERRORS;
            verdicts.iter().find(is_it).unwrap().verdict
        })
    }

    #[test]
    fn each_bar_is_judged_by_its_own_figure() {
        use Judgement::{Missed, Passed};
        assert_eq!(judged(&measured(1.09, 0.08, 9.0, 0)), [Passed; 3]);
        assert_eq!(judged(&measured(1.12, 0.08, 9.0, 0)), [Missed, Passed, Passed]);
        assert_eq!(judged(&measured(1.09, 0.12, 9.0, 0)), [Passed, Missed, Passed]);
        assert_eq!(judged(&measured(1.09, 0.08, 11.0, 0)), [Passed, Passed, Missed]);
        assert_eq!(judged(&measured(1.09, 0.08, 9.0, 1))[0], Missed, "an error of any subject's victim");
    }

    #[test]
    fn rows_are_of_every_subject_in_churn_and_in_quiet_and_of_its_changes() {
        let outcome = measured(1.0, 0.1, 5.0, 0);
        let rows: Vec<(&str, &str)> =
            outcome.rows.iter().map(|row| (row.case.as_str(), row.subject.as_str())).collect();
        let victims = ["canopy-node", "canopy-node-quiet", "envoy-node", "envoy-node-quiet"];
        let expected: Vec<(&str, &str)> = victims
            .map(|subject| ("victim", subject))
            .into_iter()
            .chain([("change", "canopy-node"), ("change", "envoy-node")])
            .collect();
        assert_eq!(rows, expected);
        assert_eq!((outcome.rows[0].bytes_each, outcome.rows[4].bytes_each), (0.0, 856.0));
    }
}
