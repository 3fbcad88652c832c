//! What a proxy adds to a latency: above what nobody between adds, in the same round.
//!
//! As differences over `direct`, by the metrics `added_p50_us` and so on, and as ratios of what two subjects add. What `direct`
//! differs from itself by, between its two runs of a round, is the difference of `direct` to itself: who adds little more than that
//! has not been measured.

use super::{Ratio, Sample, Samples, median, sample::spread};

/// Whom all is above.
pub(crate) const DIRECT: &str = "direct";

/// A percentile, by what it is called where it is added.
type Metric = (&'static str, fn(&Sample) -> f64);

const METRICS: [Metric; 4] = [
    ("added_p50_us", |sample| sample.p50_us),
    ("added_p90_us", |sample| sample.further.p90_us),
    ("added_p99_us", |sample| sample.p99_us),
    ("added_p999_us", |sample| sample.further.p999_us),
];

/// What each subject adds in a case, and what `direct` differs from itself by.
pub(crate) fn differences(samples: &Samples, case: &str, subjects: &[&str]) -> Vec<Ratio> {
    let of = |subject: &&str| {
        METRICS.map(|(metric, value)| {
            let added = added(samples, (case, subject, *subject == DIRECT), value);
            let values: Vec<f64> = added.into_iter().map(|(_, value)| value).collect();
            spread([case, subject, DIRECT], metric, &values)
        })
    };
    subjects.iter().flat_map(of).flatten().collect()
}

/// What one subject adds for each µs that another does; to itself: of its second run to its first.
pub(crate) fn ratios(samples: &Samples, case: &str, of: &str, to: &str) -> Vec<Ratio> {
    let one = |(metric, value): Metric| {
        let (mine, theirs) =
            (added(samples, (case, of, of == to), value), added(samples, (case, to, false), value));
        let quotient = |(round, mine): &(usize, f64)| {
            let theirs = theirs.iter().find(|(other, _)| other == round)?.1;
            // Who adds nothing that could be seen is nobody's measure.
            (*mine > 0.0 && theirs > 0.0).then(|| mine / theirs)
        };
        let quotients: Vec<f64> = mine.iter().filter_map(quotient).collect();
        spread([case, of, to], metric, &quotients)
    };
    METRICS.into_iter().filter_map(one).collect()
}

/// How far `direct` is from itself in the same round, in the median; `None` for what is no metric of what is added.
pub(crate) fn own_spread(samples: &[Sample], case: &str, metric: &str) -> Option<f64> {
    let value = METRICS.into_iter().find(|(name, _)| *name == metric)?.1;
    let of =
        |again| samples.iter().filter(move |s| s.case == case && s.subject == DIRECT && s.again == again);
    let distances = of(true).filter_map(|second| {
        let first = of(false).find(|first| first.round == second.round)?;
        Some((value(second) - value(first)).abs())
    });
    Some(median(&distances.collect::<Vec<_>>()))
}

/// Of each valid round.
fn added(
    samples: &Samples,
    (case, subject, again): (&str, &str, bool),
    value: fn(&Sample) -> f64,
) -> Vec<(usize, f64)> {
    let direct: Vec<&Sample> = samples.valid(case, DIRECT, false).collect();
    let above = |sample: &Sample| {
        let direct = direct.iter().find(|direct| direct.round == sample.round)?;
        Some((sample.round, value(sample) - value(direct)))
    };
    samples.valid(case, subject, again).filter_map(above).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let sample = |subject: &str, round, again, p50_us, errors| Sample {
            case: "c".into(),
            subject: subject.into(),
            round,
            again,
            p50_us,
            errors,
            ..Sample::default()
        };
        let mut all = Vec::new();
        for (round, drift, errors) in [(0, 0.0, 0), (1, 500.0, 0), (2, 0.0, 1)] {
            all.push(sample("direct", round, false, 100.0 + drift, errors));
            all.push(sample("direct", round, true, 104.0 + drift, 0));
            all.push(sample("node", round, false, 140.0 + drift, 0));
            all.push(sample("node", round, true, 144.0 + drift, 0));
            all.push(sample("sidecar", round, false, 260.0 + drift, 0));
        }
        Samples(all)
    }

    #[test]
    fn what_is_added_is_above_direct_of_the_same_round_and_of_valid_rounds_alone() {
        let all = differences(&samples(), "c", &["direct", "node", "sidecar"]);
        let of = |subject: &str| all.iter().find(|r| r.of == subject && r.metric == "added_p50_us").unwrap();
        assert_eq!((of("node").min, of("node").max), (40.0, 40.0));
        assert_eq!(of("sidecar").median, 160.0);
        assert_eq!(of("direct").max, 4.0, "its second run above its first");
    }

    #[test]
    fn a_ratio_is_of_what_both_add_and_to_itself_of_the_second_run() {
        let all = samples();
        let of = |to| ratios(&all, "c", "node", to).into_iter().find(|r| r.metric == "added_p50_us").unwrap();
        assert_eq!(of("sidecar").median, 0.25);
        assert_eq!(of("node").median, 1.1);
        assert!(ratios(&all, "c", "node", "direct").is_empty(), "direct adds nothing");
    }
}
