//! Tables of what only comparisons have: what is added over `direct`, and what a mesh takes of a machine.

use std::fmt::Write;

use crate::outcome::{Outcome, Ratio, Row, added::DIRECT};

/// What each subject adds, percentile by percentile; empty where nothing is above `direct`.
pub(super) fn added(outcome: &Outcome) -> String {
    let is_added = |ratio: &&Ratio| ratio.metric.starts_with("added_") && ratio.to == DIRECT;
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for ratio in outcome.differences.iter().filter(is_added) {
        let pair = (ratio.case.as_str(), ratio.of.as_str());
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    if pairs.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "| added over direct, µs | subject | p50 | p90 | p99 | p99.9 |\n|---|---|--:|--:|--:|--:|\n",
    );
    for (case, of) in pairs {
        let cells = ["added_p50_us", "added_p90_us", "added_p99_us", "added_p999_us"].map(|metric| {
            let found = outcome.difference(case, of, DIRECT, metric);
            found.map_or("–".into(), |r| format!("{:.0} ({:.0}–{:.0})", r.median, r.min, r.max))
        });
        let of = if of == DIRECT { "direct, its second run" } else { of };
        // Writing to a String cannot fail; here and below.
        let _ = writeln!(text, "| {case} | {of} | {} |", cells.join(" | "));
    }
    text
}

/// What each mesh takes, of both nodes together.
pub(super) fn resources(rows: &[&Row]) -> String {
    let mut text = String::from(
        "| case | subject | memory MiB | of which sockets | sockets | proxies' CPU ms/s | machine's CPU ms/s | CPU µs each | p50 µs | p99 µs | errors |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let further = &row.further;
        let mebibytes = |bytes: f64| format!("{:.1}", bytes / 1_048_576.0);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {} |",
            row.case,
            row.subject,
            mebibytes(further.memory_bytes),
            mebibytes(further.socket_bytes),
            further.sockets,
            further.cpu_us_per_second / 1e3,
            further.machine_us_per_second / 1e3,
            row.cpu_us_per_request,
            row.p50_us,
            row.p99_us,
            row.errors,
        );
    }
    text
}

/// Whose requests failed in all rounds, and for how long nothing was answered.
pub(super) fn outages(rows: &[&Row]) -> String {
    let mut text = String::from(
        "| case | subject | failed, all rounds | asked, each round | longest without an answer, ms |\n|---|---|--:|--:|--:|\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.0} |",
            row.case, row.subject, row.unserved, row.further.asked, row.further.outage_ms
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_a_row_of_each_subject_with_its_spread() {
        let ratio = |metric: &str, median| Ratio {
            case: "c4-1k".into(),
            of: "canopy-node".into(),
            to: DIRECT.into(),
            metric: metric.into(),
            median,
            min: median - 1.0,
            max: median + 1.0,
        };
        let differences = vec![ratio("added_p50_us", 200.0), ratio("added_p99_us", 900.0)];
        let text = added(&Outcome { differences, ..Outcome::default() });
        assert!(
            text.ends_with("| c4-1k | canopy-node | 200 (199–201) | – | 900 (899–901) | – |\n"),
            "{text}"
        );
        assert!(added(&Outcome::default()).is_empty());
    }
}
