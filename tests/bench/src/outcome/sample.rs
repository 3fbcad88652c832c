//! Samples, and what is made of them: rows and ratios.
//!
//! A ratio never mixes rounds: what the machine did meanwhile is the same for both of its sides only within one.

use serde::{Deserialize, Serialize};

use super::{Ratio, Row, further::Further, median};

/// One subject in one case in one round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub case: String,
    pub subject: String,
    pub round: usize,
    /// The second run of the same subject in the same round, for the A/A ratio.
    pub again: bool,
    pub rps: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p50_closed_us: f64,
    pub p99_closed_us: f64,
    pub cpu_us_per_request: f64,
    pub rss_bytes: f64,
    pub pss_bytes: f64,
    pub proxy_busy: f64,
    pub load_cpu_us_per_request: f64,
    pub rate_per_second: f64,
    /// Pieces that were measured again, since a hypervisor took the CPUs away meanwhile.
    #[serde(default)]
    pub repeated: u32,
    pub errors: u64,
    #[serde(default)]
    pub unserved: u64,
    #[serde(default)]
    pub bytes_each: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_error: Option<String>,
    #[serde(flatten)]
    pub further: Further,
    /// All latencies at the rate, where they are kept: upper bounds in nanoseconds of the histogram's buckets, and how many are in each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<(u64, u64)>,
}

/// What ratios are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metric {
    Rps,
    P50,
    P99,
    P50Closed,
    P99Closed,
    Cpu,
    Rss,
    Memory,
}

impl Metric {
    pub(crate) const ALL: [Self; 8] = [
        Self::Rps,
        Self::P50,
        Self::P99,
        Self::P50Closed,
        Self::P99Closed,
        Self::Cpu,
        Self::Rss,
        Self::Memory,
    ];

    /// As in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rps => "rps",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::P50Closed => "p50_closed_us",
            Self::P99Closed => "p99_closed_us",
            Self::Cpu => "cpu_us_per_request",
            Self::Rss => "rss_bytes",
            Self::Memory => "memory_bytes",
        }
    }

    fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Rps => sample.rps,
            Self::P50 => sample.p50_us,
            Self::P99 => sample.p99_us,
            Self::P50Closed => sample.p50_closed_us,
            Self::P99Closed => sample.p99_closed_us,
            Self::Cpu => sample.cpu_us_per_request,
            Self::Rss => sample.rss_bytes,
            Self::Memory => sample.further.memory_bytes,
        }
    }
}

/// All samples of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Samples(pub Vec<Sample>);

impl Samples {
    /// A round with an error in any subject counts for none of them, in that case.
    fn is_void(&self, case: &str, round: usize) -> bool {
        self.0.iter().any(|s| s.case == case && s.round == round && s.errors > 0)
    }

    fn of<'a>(&'a self, case: &'a str, subject: &'a str, again: bool) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |s| s.case == case && s.subject == subject && s.again == again)
    }

    /// Those of a subject in a case whose rounds count.
    pub(super) fn valid<'a>(
        &'a self,
        case: &'a str,
        subject: &'a str,
        again: bool,
    ) -> impl Iterator<Item = &'a Sample> {
        self.of(case, subject, again).filter(|sample| !self.is_void(case, sample.round))
    }

    /// The row of one subject in one case.
    pub(crate) fn row(&self, case: &str, subject: &str) -> Row {
        let all: Vec<&Sample> = self.of(case, subject, false).collect();
        let valid: Vec<&Sample> = all.iter().copied().filter(|s| !self.is_void(case, s.round)).collect();
        let used = if valid.is_empty() { &all } else { &valid };
        let middle = |get: fn(&Sample) -> f64| median(&used.iter().map(|s| get(s)).collect::<Vec<_>>());
        Row {
            case: case.to_owned(),
            subject: subject.to_owned(),
            rps: middle(|s| s.rps),
            p50_us: middle(|s| s.p50_us),
            p99_us: middle(|s| s.p99_us),
            cpu_us_per_request: middle(|s| s.cpu_us_per_request),
            rss_bytes: middle(|s| s.rss_bytes),
            errors: self.0.iter().filter(|s| s.case == case && s.subject == subject).map(|s| s.errors).sum(),
            pss_bytes: middle(|s| s.pss_bytes),
            p50_closed_us: middle(|s| s.p50_closed_us),
            p99_closed_us: middle(|s| s.p99_closed_us),
            rate_per_second: middle(|s| s.rate_per_second),
            proxy_busy: middle(|s| s.proxy_busy),
            unserved: self.of(case, subject, false).map(|s| s.unserved).sum(),
            bytes_each: middle(|s| s.bytes_each),
            void_rounds: all.len() - valid.len(),
            further: Further::of(used.first().map(|sample| &sample.further), |get| {
                median(&used.iter().map(|sample| get(&sample.further)).collect::<Vec<_>>())
            }),
        }
    }

    /// All ratios of one subject to another; to itself: of its second run to its first.
    pub(crate) fn ratios(&self, case: &str, of: &str, to: &str) -> Vec<Ratio> {
        let ratio =
            |metric: Metric| spread([case, of, to], metric.name(), &self.quotients([case, of, to], metric));
        Metric::ALL.into_iter().filter_map(ratio).collect()
    }

    /// What a ratio is made of: a quotient of each valid round.
    pub(crate) fn quotients(&self, [case, of, to]: [&str; 3], metric: Metric) -> Vec<f64> {
        self.pairs(case, of, to)
            .map(|(a, b)| metric.of(a) / metric.of(b))
            // A figure of 0 is one that there is not; but who has served nothing has done so.
            .filter(|q| q.is_finite() && (*q > 0.0 || metric == Metric::Rps))
            .collect()
    }

    /// By how much one subject's closed-loop p50 is above another's; to itself: its second run's above its first's.
    pub(crate) fn difference(&self, case: &str, of: &str, to: &str) -> Option<Ratio> {
        let metric = Metric::P50Closed;
        let differences: Vec<f64> =
            self.pairs(case, of, to).map(|(a, b)| metric.of(a) - metric.of(b)).collect();
        spread([case, of, to], metric.name(), &differences)
    }

    /// The two subjects' samples of the same valid rounds.
    fn pairs<'a>(
        &'a self,
        case: &'a str,
        of: &'a str,
        to: &'a str,
    ) -> impl Iterator<Item = (&'a Sample, &'a Sample)> {
        self.of(case, of, of == to)
            .filter(|s| !self.is_void(case, s.round))
            .filter_map(|a| Some((a, self.of(case, to, false).find(|b| b.round == a.round)?)))
    }
}

pub(super) fn spread([case, of, to]: [&str; 3], metric: &str, values: &[f64]) -> Option<Ratio> {
    (!values.is_empty()).then(|| Ratio {
        case: case.to_owned(),
        of: of.to_owned(),
        to: to.to_owned(),
        metric: metric.to_owned(),
        median: median(values),
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(subject: &str, round: usize, rps: f64, errors: u64) -> Sample {
        Sample { case: "c".into(), subject: subject.into(), round, rps, errors, ..Sample::default() }
    }

    #[test]
    fn a_ratio_pairs_figures_of_the_same_round_only() {
        let samples = Samples(vec![
            sample("a", 0, 10.0, 0),
            sample("b", 0, 5.0, 0),
            sample("a", 1, 100.0, 0),
            sample("b", 1, 25.0, 0),
        ]);
        let rps = &samples.ratios("c", "a", "b")[0];
        assert_eq!((rps.min, rps.median, rps.max), (2.0, 3.0, 4.0));
    }

    #[test]
    fn who_has_served_nothing_has_a_ratio_of_nothing_and_not_none() {
        let samples = Samples(vec![sample("a", 0, 0.0, 0), sample("b", 0, 500.0, 0)]);
        let ratios = samples.ratios("c", "a", "b");
        assert_eq!(ratios.iter().map(|r| (r.metric.as_str(), r.median)).collect::<Vec<_>>(), [("rps", 0.0)]);
    }

    #[test]
    fn a_difference_is_of_the_same_round_and_may_be_negative() {
        let at =
            |subject: &str, round, p50_closed_us| Sample { p50_closed_us, ..sample(subject, round, 1.0, 0) };
        let samples = Samples(vec![at("a", 0, 40.0), at("b", 0, 30.0), at("a", 1, 200.0), at("b", 1, 205.0)]);
        let more = samples.difference("c", "a", "b").unwrap();
        assert_eq!((more.min, more.median, more.max), (-5.0, 2.5, 10.0));
    }

    #[test]
    fn an_error_in_one_subject_voids_the_round_for_all() {
        let samples = Samples(vec![
            sample("a", 0, 10.0, 0),
            sample("b", 0, 5.0, 1),
            sample("a", 1, 12.0, 0),
            sample("b", 1, 4.0, 0),
        ]);
        assert_eq!(samples.ratios("c", "a", "b")[0].max, 3.0);
        let row = samples.row("c", "a");
        assert_eq!((row.rps, row.void_rounds), (12.0, 1));
        assert_eq!(samples.row("c", "b").errors, 1);
    }

    #[test]
    fn a_subject_to_itself_is_its_second_run_to_its_first() {
        let mut second = sample("a", 0, 11.0, 0);
        second.again = true;
        let samples = Samples(vec![sample("a", 0, 10.0, 0), second]);
        assert_eq!(samples.ratios("c", "a", "a")[0].median, 1.1);
        assert_eq!(samples.row("c", "a").rps, 10.0);
    }
}
