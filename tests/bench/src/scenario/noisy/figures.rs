//! What is made of the samples: rows, and the ratios of each victim to itself alone and to the other subject's victim.
//!
//! A neighbour is compared with what it does alone less what the victim uses: that much no proxy could leave to it.

use super::{RATE, SOLO};
use crate::outcome::{Outcome, Sample, Samples, verdict::ALONE};

/// Fills in rows, ratios and samples, of these cases and subjects.
pub(super) fn outcome(
    mut outcome: Outcome,
    (cases, subjects): (Vec<&'static str>, Vec<&'static str>),
    samples: Vec<Sample>,
) -> Outcome {
    let measured = Samples(samples.clone());
    let compared = Samples(with_references(&samples, &subjects));
    for case in cases {
        for subject in &subjects {
            for suffix in ["", "-aggressor", "-alone-aggressor"] {
                let subject = format!("{subject}{suffix}");
                if samples.iter().any(|s| s.case == case && s.subject == subject) {
                    outcome.rows.push(measured.row(case, &subject));
                }
            }
        }
        for of in &subjects {
            outcome.ratios.extend(compared.ratios(case, of, &format!("{of}{ALONE}")));
        }
        for of in subjects.iter().filter(|subject| subject.starts_with("canopy")) {
            for to in &subjects {
                outcome.ratios.extend(compared.ratios(case, of, to));
            }
            let noisy = format!("{of}-aggressor");
            for to in [&noisy, &format!("{of}-alone-aggressor")] {
                outcome.ratios.extend(compared.ratios(case, &noisy, to));
            }
        }
    }
    outcome.samples = samples;
    outcome
}

/// The samples, and for every round's case what its ratios are to: the victim of the same round alone, and the neighbour
/// alone, less the victim's use.
fn with_references(samples: &[Sample], subjects: &[&str]) -> Vec<Sample> {
    let solo = |round: usize, subject: &str| {
        samples.iter().find(|s| s.case == SOLO && s.round == round && s.subject == subject && !s.again)
    };
    let mut all = Vec::new();
    for sample in samples {
        let mut sample = sample.clone();
        if let Some(subject) = sample.subject.strip_suffix("-alone-aggressor")
            && let Some(solo) = solo(sample.round, subject)
        {
            sample.rps *= left(solo);
        }
        let is_victim = subjects.contains(&sample.subject.as_str());
        if is_victim
            && !sample.again
            && sample.case != SOLO
            && let Some(solo) = solo(sample.round, &sample.subject)
        {
            let subject = format!("{}{ALONE}", sample.subject);
            all.push(Sample { case: sample.case.clone(), subject, ..solo.clone() });
        }
        all.push(sample);
    }
    all
}

/// The part of the proxy's CPU that a victim leaves which sends alone.
fn left(solo: &Sample) -> f64 {
    (1.0 - solo.cpu_us_per_request * RATE / 1e6).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::verdict::{self, Judgement};

    fn sample(case: &str, subject: &str, round: usize, rps: f64) -> Sample {
        Sample { case: case.into(), subject: subject.into(), round, rps, ..Sample::default() }
    }

    /// Three rounds of a victim whose p99 grows by so much, and of a neighbour that keeps so much of what it does alone.
    fn measured(grown: f64, kept: f64) -> Outcome {
        let mut samples = Vec::new();
        for round in 0..3 {
            let victim = |case: &str, factor: f64, again| Sample {
                p50_us: 100.0,
                p99_us: 400.0 * factor,
                cpu_us_per_request: 40.0,
                again,
                ..sample(case, "canopy-node", round, 500.0)
            };
            samples.push(victim("solo", 1.0, false));
            samples.push(victim("aggressor-256", grown, false));
            samples.push(victim("aggressor-256", grown * 1.1, true));
            for again in [false, true] {
                let noisy = sample("aggressor-256", "canopy-node-aggressor", round, 49_000.0 * kept);
                samples.push(Sample { again, ..noisy });
            }
            samples.push(sample("aggressor-256", "canopy-node-alone-aggressor", round, 50_000.0));
        }
        let begun = Outcome { scenario: super::super::NAME.into(), rounds: 3, ..Outcome::default() };
        outcome(begun, (vec!["solo", "aggressor-256"], vec!["canopy-node", "envoy-node"]), samples)
    }

    fn judgement(outcome: &Outcome, to: &str, metric: &str) -> Judgement {
        let verdicts = verdict::all(outcome);
        verdicts.iter().find(|v| v.to == to && v.metric == metric).unwrap().verdict
    }

    #[test]
    fn a_victim_is_compared_with_itself_alone_in_the_same_round() {
        let fine = measured(1.5, 0.95);
        let ratio = fine.ratio("aggressor-256", "canopy-node", "canopy-node-solo", "p99_us").unwrap();
        assert!((ratio.median - 1.5).abs() < 1e-9, "{ratio:?}");
        assert_eq!(judgement(&fine, "canopy-node-solo", "p99_us"), Judgement::Passed);
        assert_eq!(judgement(&measured(3.0, 0.95), "canopy-node-solo", "p99_us"), Judgement::Missed);
    }

    #[test]
    fn a_neighbour_is_compared_with_what_it_does_alone_less_the_victims_use() {
        // 40 µs of 500 requests a second are 2 % of the CPU: of 50 000 alone, 49 000 are left to it.
        let outcome = measured(1.5, 0.9);
        let (of, to) = ("canopy-node-aggressor", "canopy-node-alone-aggressor");
        let ratio = outcome.ratio("aggressor-256", of, to, "rps").unwrap();
        assert!((ratio.median - 0.9).abs() < 1e-9, "{ratio:?}");
        assert_eq!(judgement(&outcome, to, "rps"), Judgement::Passed);
        assert_eq!(judgement(&measured(1.5, 0.5), to, "rps"), Judgement::Missed);
    }

    #[test]
    fn rows_are_of_what_was_measured_and_not_of_what_it_is_compared_with() {
        let outcome = measured(1.5, 0.9);
        let rows: Vec<(&str, &str)> =
            outcome.rows.iter().map(|row| (row.case.as_str(), row.subject.as_str())).collect();
        let case = "aggressor-256";
        assert_eq!(
            rows,
            [
                ("solo", "canopy-node"),
                (case, "canopy-node"),
                (case, "canopy-node-aggressor"),
                (case, "canopy-node-alone-aggressor"),
            ]
        );
        assert!((outcome.rows[3].rps - 50_000.0).abs() < f64::EPSILON);
    }
}
