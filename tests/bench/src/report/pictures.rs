//! The comparison's pictures: bars of what is added, curves of latencies, and resources along pods.
//!
//! Only puts figures where they are drawn; each is named as the page calls it.

use std::{collections::BTreeMap, fs, path::Path};

use super::{
    curves::{Chart, Line, Marks},
    plot,
};
use crate::{
    error::BenchError,
    outcome::{Outcome, Row, added::DIRECT},
};

/// Writes those of which there is something to draw.
pub(super) fn write(outcomes: &[Outcome], directory: &Path) -> Result<(), BenchError> {
    let of = |name: &str| outcomes.iter().find(|outcome| outcome.scenario == name);
    let mut drawn: Vec<(String, Option<String>)> = Vec::new();
    if let Some(latency) = of(LATENCY) {
        drawn.push((format!("{LATENCY}-added"), Some(added(latency))));
        for case in ["c4-1k", "c64-1k"] {
            drawn.push((format!("{LATENCY}-{case}"), distribution(latency, case)));
        }
    }
    if let Some(resources) = of(RESOURCES) {
        let memory = along_pods(resources, "memory of a node's proxies", "MiB (PSS and sockets)", |row| {
            row.further.memory_bytes / row.further.nodes.max(1) as f64 / 1_048_576.0
        });
        let cpu =
            along_pods(resources, "CPU of a request", "µs, both ends, at 1,000 requests/s in all", |row| {
                row.cpu_us_per_request
            });
        drawn.push((format!("{RESOURCES}-memory"), memory));
        drawn.push((format!("{RESOURCES}-cpu"), cpu));
    }
    for (name, picture) in drawn {
        let path = directory.join(format!("{name}.svg"));
        // An empty picture rather than none: the page names it.
        let picture = picture.unwrap_or_else(|| {
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\"><title>{name}: not measured</title></svg>\n")
        });
        fs::write(&path, picture).map_err(|e| BenchError::io(format!("write {}", path.display()), e))?;
    }
    Ok(())
}

/// What each subject adds to p50 and p99 in the cases that the page asks about.
fn added(outcome: &Outcome) -> String {
    let is_of = |row: &&Row| row.subject != DIRECT && ["c4-1k", "c64-1k"].contains(&row.case.as_str());
    let above = |row: &Row, metric| {
        outcome.difference(&row.case, &row.subject, DIRECT, metric).map_or(0.0, |added| added.median.max(0.0))
    };
    let rows: Vec<Row> = outcome
        .rows
        .iter()
        .filter(is_of)
        .map(|row| Row {
            p50_us: above(row, "added_p50_us"),
            p99_us: above(row, "added_p99_us"),
            ..row.clone()
        })
        .collect();
    plot::draw_panels("what is added above direct", &rows, &plot::ADDED)
}

/// All latencies of a case, of all rounds, up to the rarest that there are enough of.
fn distribution(outcome: &Outcome, case: &str) -> Option<String> {
    let mut subjects: Vec<&str> = Vec::new();
    for row in outcome.rows.iter().filter(|row| row.case == case) {
        subjects.push(&row.subject);
    }
    let lines = subjects.into_iter().map(|subject| Line { subject, points: rarity(outcome, case, subject) });
    let title = format!("{case}: latency of all requests");
    Chart { title: &title, along: "percentile", up: "µs", marks: Marks::Percentiles, lines: lines.collect() }
        .draw()
}

/// For each latency, how many times rarer than all is what takes longer.
fn rarity(outcome: &Outcome, case: &str, subject: &str) -> Vec<(f64, f64)> {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let of = outcome.samples.iter().filter(|s| s.case == case && s.subject == subject && !s.again);
    for (bound, count) in of.flat_map(|sample| &sample.latencies) {
        *counts.entry(*bound).or_default() += count;
    }
    let total: u64 = counts.values().sum();
    let mut before = 0;
    let mut points = Vec::new();
    for (bound, count) in counts {
        let rarity = total as f64 / (total - before) as f64;
        if rarity <= RAREST && bound > 0 {
            points.push((rarity, bound as f64 / 1e3));
        }
        before += count;
    }
    points
}

/// With ten tenants, or one of each pod where there are fewer.
fn along_pods(outcome: &Outcome, title: &str, up: &str, figure: fn(&Row) -> f64) -> Option<String> {
    let is_of = |row: &&Row| row.case.ends_with("-loaded") && row.further.tenants == row.further.pods.min(10);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for row in outcome.rows.iter().filter(is_of).filter(|row| figure(row) > 0.0) {
        let point = (row.further.pods as f64, figure(row));
        match lines.iter_mut().find(|line| line.subject == row.subject) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { subject: &row.subject, points: vec![point] }),
        }
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|one, other| one.0.total_cmp(&other.0)));
    Chart { title, along: "pods on each of two nodes", up, marks: Marks::Measured, lines }.draw()
}

const LATENCY: &str = "compare-latency";
const RESOURCES: &str = "compare-resources";
/// One request in so many: beyond it a run of some seconds has too few.
const RAREST: f64 = 1_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Further, Sample};

    #[test]
    fn latency_stands_at_the_part_of_requests_that_are_faster() {
        let sample = |round, latencies: &[(u64, u64)]| Sample {
            case: "c".into(),
            subject: "s".into(),
            round,
            latencies: latencies.to_vec(),
            ..Sample::default()
        };
        let samples = vec![sample(0, &[(1_000, 50), (5_000, 10)]), sample(1, &[(2_000, 40)])];
        let outcome = Outcome { samples, ..Outcome::default() };
        assert_eq!(rarity(&outcome, "c", "s"), [(1.0, 1.0), (2.0, 2.0), (10.0, 5.0)]);
        assert!(rarity(&outcome, "c", "other").is_empty());
    }

    #[test]
    fn curves_along_pods_are_of_one_series_of_tenants() {
        let row = |subject: &str, pods, tenants| Row {
            case: format!("pods-{pods}-tenants-{tenants}-loaded"),
            subject: subject.into(),
            further: Further { pods, tenants, nodes: 2, memory_bytes: 1e8, ..Further::default() },
            ..Row::default()
        };
        let rows = vec![row("a", 1, 1), row("a", 30, 1), row("a", 30, 10), row("b", 110, 10)];
        let drawn =
            along_pods(&Outcome { rows, ..Outcome::default() }, "t", "u", |row| row.further.memory_bytes);
        assert_eq!(drawn.unwrap().matches("<circle").count(), 3, "of 30 pods one, that of ten tenants");
    }
}
