//! A tail beside the same subject's in quiet: at most so much of it; or as much as quiet comes to beside quiet, where that is more.
//!
//! The noise of the machine is in what is allowed, so the result is on one side of it or on the other; errors miss it, as any bar.

use super::{Judgement, LEAST_ROUNDS, Verdict, errors, few_rounds, missed_by};
use crate::outcome::{Outcome, bars, percentile, sample::Metric};

/// `None` where it was not measured.
pub(super) fn verdict(outcome: &Outcome, bar: &bars::Bar) -> Option<Verdict> {
    let was_run =
        |subject: &str| outcome.rows.iter().any(|row| row.case == bar.case && row.subject == subject);
    if !was_run(bar.of) || !was_run(bar.to) {
        return None;
    }
    let metric = Metric::ALL.into_iter().find(|metric| metric.name() == bar.metric)?;
    let quiet = outcome.quotients([bar.case, bar.to, bar.to], metric);
    // Which of the two came first does not matter.
    let both: Vec<f64> = quiet.iter().flat_map(|quotient| [*quotient, 1.0 / quotient]).collect();
    let allowed = percentile(&both, OF_QUIET).max(bar.bar);
    let median = outcome.ratio(bar.case, bar.of, bar.to, bar.metric).map(|ratio| ratio.median);
    let aa = outcome.ratio(bar.case, bar.to, bar.to, bar.metric).map(|ratio| (ratio.min, ratio.max));
    let errors = errors(outcome, bar.case);
    let (verdict, why) = match median {
        _ if errors > 0 => missed_by(errors),
        _ if outcome.rounds < LEAST_ROUNDS => (Judgement::Inconclusive, few_rounds()),
        _ if quiet.is_empty() => (Judgement::Inconclusive, "no A/A run".into()),
        None => return None,
        Some(median) => judge(median, allowed, bar.bar),
    };
    Some(Verdict {
        case: bar.case.into(),
        of: bar.of.into(),
        to: bar.to.into(),
        metric: bar.metric.into(),
        bar: allowed,
        at_least: false,
        median,
        difference: false,
        aa,
        verdict,
        why,
    })
}

fn judge(median: f64, allowed: f64, bar: f64) -> (Judgement, String) {
    let judgement = if median <= allowed { Judgement::Passed } else { Judgement::Missed };
    let percent = (allowed / median - 1.0).abs() * 100.0;
    let noise = if allowed > bar {
        format!(": {bar:.2} × or what quiet comes to beside quiet, which is more")
    } else {
        String::new()
    };
    (judgement, format!("by {percent:.0} %{noise}"))
}

/// The part of quiet against quiet that is no more than what is allowed.
const OF_QUIET: f64 = 0.95;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Sample, Samples};

    const BAR: bars::Bar = bars::Bar {
        scenario: "churn",
        case: "victim",
        of: "a",
        to: "a-quiet",
        metric: "p99_us",
        bar: 1.1,
        at_least: false,
    };

    /// As many rounds as there are drifts of quiet from quiet; churn costs so much in each.
    fn outcome(drifts: &[f64], grown: f64, errors: u64) -> Outcome {
        let mut samples = Vec::new();
        for (round, drift) in drifts.iter().enumerate() {
            let sample = |subject: &str, again, p99_us| Sample {
                case: "victim".into(),
                subject: subject.into(),
                round,
                again,
                p99_us,
                ..Sample::default()
            };
            samples.push(sample("a-quiet", false, 400.0));
            samples.push(sample("a-quiet", true, 400.0 * drift));
            samples.push(Sample { errors, ..sample("a", false, 400.0 * grown) });
        }
        let samples = Samples(samples);
        let rows = ["a", "a-quiet"].map(|subject| samples.row("victim", subject)).to_vec();
        let ratios =
            ["a", "a-quiet"].into_iter().flat_map(|of| samples.ratios("victim", of, "a-quiet")).collect();
        Outcome { rounds: drifts.len(), rows, ratios, samples: samples.0, ..Outcome::default() }
    }

    fn word(drifts: &[f64], grown: f64) -> (Judgement, f64) {
        let verdict = verdict(&outcome(drifts, grown, 0), &BAR).unwrap();
        (verdict.verdict, (verdict.bar * 1e3).round() / 1e3)
    }

    #[test]
    fn where_quiet_is_like_quiet_the_bar_is_what_is_promised() {
        assert_eq!(word(&[1.02, 0.97, 1.0], 1.09), (Judgement::Passed, 1.1));
        assert_eq!(word(&[1.02, 0.97, 1.0], 1.11), (Judgement::Missed, 1.1));
    }

    #[test]
    fn where_quiet_differs_from_quiet_by_more_that_is_the_bar_whichever_came_first() {
        assert_eq!(word(&[1.02, 1.3, 1.0], 1.29), (Judgement::Passed, 1.3));
        assert_eq!(word(&[1.02, 0.8, 1.0], 1.24), (Judgement::Passed, 1.25));
        assert_eq!(word(&[1.02, 0.8, 1.0], 1.26), (Judgement::Missed, 1.25));
        // One round in twenty does not count.
        let mut many = [1.0; 20];
        many[7] = 9.0;
        assert_eq!(word(&many, 1.2), (Judgement::Missed, 1.1));
    }

    #[test]
    fn errors_miss_it_and_few_rounds_say_nothing() {
        let of = |outcome: &Outcome| verdict(outcome, &BAR).unwrap().verdict;
        assert_eq!(of(&outcome(&[1.0; 3], 1.0, 1)), Judgement::Missed);
        assert_eq!(of(&outcome(&[1.0; 2], 1.0, 0)), Judgement::Inconclusive);
        let mut alone = outcome(&[1.0; 3], 1.0, 0);
        alone.rows.retain(|row| row.subject == "a");
        assert!(verdict(&alone, &BAR).is_none());
    }
}
