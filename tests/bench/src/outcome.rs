//! What a scenario yields: one JSON file, `target/bench/SCENARIO.json`.
//!
//! Rows hold medians over rounds, ratios are of the same round's figures, samples are all there is. Nothing is left
//! out because it is unpleasant: void rounds stay among the samples, and errors are summed over all of them.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{error::BenchError, scenario::wire::WireCheck};

pub(crate) use further::Further;
pub(crate) use sample::{Sample, Samples};

pub(crate) mod added;
pub(crate) mod bars;
mod further;
mod sample;
pub(crate) mod verdict;

/// The file's content.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub scenario: String,
    pub machine: Value,
    pub rounds: usize,
    pub rows: Vec<Row>,
    pub ratios: Vec<Ratio>,
    /// What one subject takes more than another in the same round, in the metric's own unit.
    #[serde(default)]
    pub differences: Vec<Ratio>,
    /// What captures on the wire between the nodes have shown, where there are two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wire: Vec<WireCheck>,
    pub verdicts: Vec<verdict::Verdict>,
    /// When, from what, with what: for whoever repeats it.
    pub provenance: Provenance,
    pub samples: Vec<Sample>,
}

/// Where the figures come from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Provenance {
    pub date: String,
    pub commit: String,
    pub command: String,
    pub versions: Value,
    pub access_log: bool,
    pub quick: bool,
    /// What each subject was set to, where subjects are compared that could be set otherwise.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
}

/// Medians over the valid rounds of one subject in one case.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub case: String,
    pub subject: String,
    /// Exchanges per second, closed loop.
    pub rps: f64,
    /// Latency at `rate_per_second`, from the intended send time.
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU time of the proxies' processes per exchange, added up, closed loop; 0 where there is no proxy.
    pub cpu_us_per_request: f64,
    /// Of all the subject's proxies after the load; 0 where there is none.
    pub rss_bytes: f64,
    /// In all rounds.
    pub errors: u64,
    pub pss_bytes: f64,
    /// Latency in the closed loop, from the moment the previous answer was there.
    pub p50_closed_us: f64,
    pub p99_closed_us: f64,
    /// The rate at which `p50_us` and `p99_us` were taken.
    pub rate_per_second: f64,
    /// Share of its CPU that the proxy used in the closed loop: well below 1, and something else was the limit.
    pub proxy_busy: f64,
    /// In all rounds, where what is not served in time is a figure and no failure.
    #[serde(default)]
    pub unserved: u64,
    /// Bytes of what its control plane sent the proxy of each change; 0 where there is none.
    #[serde(default)]
    pub bytes_each: f64,
    /// Rounds with errors in any subject; not in these medians unless all were void.
    pub void_rounds: usize,
    #[serde(flatten)]
    pub further: Further,
}

/// The quotient (or the difference) of two subjects in the same round; median, least and greatest over the valid rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub case: String,
    pub of: String,
    pub to: String,
    pub metric: String,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Outcome {
    pub(crate) fn write(&self, directory: &Path) -> Result<(), BenchError> {
        let path = directory.join(format!("{}.json", self.scenario));
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&path, text + "\n").map_err(|e| BenchError::io(format!("write {}", path.display()), e))
    }

    /// `None` if the scenario has not been run.
    pub(crate) fn read(directory: &Path, scenario: &str) -> Result<Option<Self>, BenchError> {
        let path = directory.join(format!("{scenario}.json"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(BenchError::io(format!("read {}", path.display()), e)),
        }
    }

    /// The difference of these two, likewise.
    pub(crate) fn difference(&self, case: &str, of: &str, to: &str, metric: &str) -> Option<&Ratio> {
        self.differences.iter().find(|r| r.case == case && r.of == of && r.to == to && r.metric == metric)
    }

    /// Quotients of one subject in a case to another, of each valid round; to itself: of its second run to its first.
    pub(crate) fn quotients(&self, names: [&str; 3], metric: sample::Metric) -> Vec<f64> {
        Samples(self.samples.clone()).quotients(names, metric)
    }

    /// The ratio of these two, if it was measured.
    pub(crate) fn ratio(&self, case: &str, of: &str, to: &str, metric: &str) -> Option<&Ratio> {
        self.ratios.iter().find(|r| r.case == case && r.of == of && r.to == to && r.metric == metric)
    }
}

/// The median; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The least value that so great a part of all does not exceed; 0 of nothing.
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(
            [0.0, 0.5, 0.95, 0.99, 1.0].map(|part| percentile(&values, part)),
            [1.0, 10.0, 19.0, 20.0, 20.0]
        );
        assert_eq!((percentile(&[7.0], 0.95), percentile(&[], 0.5)), (7.0, 0.0));
    }
}
