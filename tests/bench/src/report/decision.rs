//! Node or sidecar, for whom: a table per question, what is least in each row in bold, and where a sidecar is better.
//!
//! Every word that judges follows from the figures of the rows beside it; what was not measured has no row.

use std::fmt::Write;

use crate::outcome::{Outcome, Row, added::DIRECT};

/// The page's part, of all scenarios that were measured; empty where none that compares was.
pub(super) fn section(outcomes: &[Outcome]) -> String {
    let tables: Vec<(&Question, Vec<Line>)> = QUESTIONS
        .iter()
        .map(|question| (question, question.lines(outcomes)))
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    if tables.is_empty() {
        return String::new();
    }
    let mut text = String::from("## Node or sidecar, for whom?\n\n");
    let lines: Vec<&Line> = tables.iter().flat_map(|(_, lines)| lines).collect();
    text.push_str(&in_short(&lines));
    for (question, lines) in &tables {
        // Writing to a String cannot fail; here and below.
        let _ = write!(text, "\n### {}\n\n{}\n\n{}", question.asks, question.how, table(lines));
        for plot in question.plots {
            let _ = write!(text, "\n![{plot}](benchmarks/{plot}.svg)\n");
        }
    }
    text.push_str(&wins(&lines));
    text
}

/// What somebody asks who has to choose.
struct Question {
    asks: &'static str,
    /// How it was measured, and what less or more of it means.
    how: &'static str,
    scenario: &'static str,
    asked: &'static [Asked],
    plots: &'static [&'static str],
}

/// A figure of a case.
struct Asked {
    case: &'static str,
    figure: Figure,
}

#[derive(Clone, Copy)]
enum Figure {
    /// Above `direct`, in µs.
    Added(&'static str),
    Row {
        called: &'static str,
        of: fn(&Row) -> f64,
        more_is_better: bool,
    },
}

/// A figure of every subject that has it.
struct Line {
    says: String,
    of: Vec<(String, f64)>,
    more_is_better: bool,
}

impl Question {
    fn lines(&self, outcomes: &[Outcome]) -> Vec<Line> {
        let outcome = outcomes.iter().find(|outcome| outcome.scenario == self.scenario);
        outcome
            .map_or(Vec::new(), |outcome| self.asked.iter().filter_map(|asked| asked.line(outcome)).collect())
    }
}

impl Asked {
    fn line(&self, outcome: &Outcome) -> Option<Line> {
        let value = |subject: &&str| -> Option<(String, f64)> {
            let value = match self.figure {
                Figure::Added(metric) => outcome.difference(self.case, subject, DIRECT, metric)?.median,
                Figure::Row { of, .. } => of(row(outcome, self.case, subject)?),
            };
            Some(((*subject).to_owned(), value))
        };
        let of: Vec<(String, f64)> = SUBJECTS.iter().filter_map(value).collect();
        let (called, more_is_better) = match self.figure {
            Figure::Added("added_p50_us") => ("added p50, µs", false),
            Figure::Added("added_p99_us") => ("added p99, µs", false),
            Figure::Added(other) => (other, false),
            Figure::Row { called, more_is_better, .. } => (called, more_is_better),
        };
        let some = of.iter().any(|(_, value)| *value != 0.0);
        some.then(|| Line { says: format!("`{}`: {called}", self.case), of, more_is_better })
    }
}

impl Line {
    fn of(&self, subject: &str) -> Option<f64> {
        self.of.iter().find(|(name, _)| name == subject).map(|(_, value)| *value)
    }

    /// Which subject has the best of a mesh's figures.
    fn best(&self) -> Option<(&str, f64)> {
        let of_meshes = self.of.iter().map(|(name, value)| (name.as_str(), *value));
        let order = |a: &(&str, f64), b: &(&str, f64)| a.1.total_cmp(&b.1);
        if self.more_is_better { of_meshes.max_by(order) } else { of_meshes.min_by(order) }
    }

    /// How many times better one is than another; below 1 where it is worse.
    fn times(&self, one: &str, other: &str) -> Option<f64> {
        let (one, other) = (self.of(one)?, self.of(other)?);
        let times = if self.more_is_better { one / other } else { other / one };
        (one > 0.0 && other > 0.0).then_some(times)
    }
}

fn row<'a>(outcome: &'a Outcome, case: &str, subject: &str) -> Option<&'a Row> {
    outcome.rows.iter().find(|row| row.case == case && row.subject == subject)
}

fn table(lines: &[Line]) -> String {
    let mut text = format!("| | {} |\n|---|{}\n", SUBJECTS.join(" | "), "--:|".repeat(SUBJECTS.len()));
    for line in lines {
        let best = line.best().map(|(name, _)| name);
        let cells = SUBJECTS.map(|subject| match line.of(subject) {
            None => "–".to_owned(),
            Some(value) if best == Some(subject) => format!("**{}**", shown(value)),
            Some(value) => shown(value),
        });
        let _ = writeln!(text, "| {} | {} |", line.says, cells.join(" | "));
    }
    text
}

/// Three figures at least, and none of nothing.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// How often each has the best figure.
fn in_short(lines: &[&Line]) -> String {
    let mut text = format!("Of {} figures below, the best is ", lines.len());
    let counted = SUBJECTS.map(|subject| {
        let count = lines.iter().filter(|line| line.best().is_some_and(|(name, _)| name == subject)).count();
        format!("`{subject}`'s in {count}")
    });
    let _ = writeln!(text, "{}. What is best in a row is bold.", counted.join(", "));
    text
}

/// Every figure in which a sidecar is better than the node's daemon, by how much.
fn wins(lines: &[&Line]) -> String {
    let mut text = String::from("\n### Where a sidecar is better\n\n");
    let mut found = Vec::new();
    for sidecar in SUBJECTS.into_iter().filter(|subject| subject.ends_with("-sidecar")) {
        let better = |line: &&&Line| line.times(sidecar, NODE).is_some_and(|times| times > 1.0);
        for line in lines.iter().filter(better) {
            let times = line.times(sidecar, NODE).unwrap_or(1.0);
            found.push((
                times,
                format!("- {}: `{sidecar}` is {times:.2} times better than `{NODE}`.\n", line.says),
            ));
        }
    }
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    if found.is_empty() {
        text.push_str("In none of the figures above.\n");
    }
    found.iter().for_each(|(_, line)| text.push_str(line));
    text
}

const NODE: &str = "canopy-node";
const SUBJECTS: [&str; 4] = [NODE, "canopy-sidecar", "envoy-node", "envoy-sidecar"];

const fn added(case: &'static str, metric: &'static str) -> Asked {
    Asked { case, figure: Figure::Added(metric) }
}

const fn less(case: &'static str, called: &'static str, of: fn(&Row) -> f64) -> Asked {
    Asked { case, figure: Figure::Row { called, of, more_is_better: false } }
}

const fn rate(case: &'static str) -> Asked {
    Asked { case, figure: Figure::Row { called: "per second", of: |row| row.rps, more_is_better: true } }
}

const fn cpu(case: &'static str) -> Asked {
    less(case, "CPU µs each, both ends", |row| row.cpu_us_per_request)
}

const fn memory(case: &'static str) -> Asked {
    less(case, "MiB of each node", |row| {
        row.further.memory_bytes / row.further.nodes.max(1) as f64 / 1_048_576.0
    })
}

const fn tail(case: &'static str) -> Asked {
    less(case, "victim's p99, µs", |row| row.p99_us)
}

const fn failed(case: &'static str) -> Asked {
    less(case, "longest without an answer, ms", |row| row.further.outage_ms)
}

const QUESTIONS: &[Question] = &[
    Question {
        asks: "What is added to a request?",
        how: "A GET of 1 KiB from node to node, 1,000 a second at fixed times on 4 and on 64 connections: latency above `direct`. Less is better.",
        scenario: "compare-latency",
        asked: &[
            added("c4-1k", "added_p50_us"),
            added("c4-1k", "added_p99_us"),
            added("c64-1k", "added_p50_us"),
            added("c64-1k", "added_p99_us"),
        ],
        plots: &["compare-latency-added", "compare-latency-c4-1k", "compare-latency-c64-1k"],
    },
    Question {
        asks: "What does a node's mesh take?",
        how: "So many pods on each of two nodes, of so many tenants: memory (PSS and sockets), and CPU time while all pods together send 1,000 requests a second. Less is better.",
        scenario: "compare-resources",
        asked: &[
            memory("pods-1-tenants-1-loaded"),
            memory("pods-10-tenants-10-loaded"),
            memory("pods-30-tenants-10-loaded"),
            memory("pods-110-tenants-30-loaded"),
            cpu("pods-1-tenants-1-loaded"),
            cpu("pods-30-tenants-10-loaded"),
            cpu("pods-110-tenants-30-loaded"),
        ],
        plots: &["compare-resources-memory", "compare-resources-cpu"],
    },
    Question {
        asks: "How much is carried?",
        how: "As much as each can on one CPU for all its proxies. More is better; CPU of an exchange, less.",
        scenario: "compare-throughput",
        asked: &[
            rate("http1-c32"),
            cpu("http1-c32"),
            rate("http2-c32x10"),
            rate("tcp-ping-pong"),
            rate("tcp-bulk"),
            rate("connect"),
        ],
        plots: &[],
    },
    Question {
        asks: "What does a neighbour do to me?",
        how: "A victim's 500 requests a second beside a tenant that sends all it can. A sidecar shares nothing but the machine. Less is better.",
        scenario: "compare-noisy",
        asked: &[tail("solo"), tail("aggressor-64"), tail("aggressor-256"), tail("storm")],
        plots: &[],
    },
    Question {
        asks: "Whom does a fault reach?",
        how: "A proxy is killed, or replaced as for an upgrade, and started again at once. Less is better, and 20 ms is what lies between two requests.",
        scenario: "compare-blast",
        asked: &[
            failed("crash-own"),
            failed("crash-same-tenant"),
            failed("crash-other-tenants"),
            failed("upgrade-own"),
            failed("upgrade-other-tenants"),
        ],
        plots: &[],
    },
    Question {
        asks: "What does a chain of calls add?",
        how: "One to five apps, each of which calls the next through the mesh, on one node and by turns on two: p50 above `direct`. Less is better.",
        scenario: "compare-hops",
        asked: &[
            added("hops-1-same-node", "added_p50_us"),
            added("hops-1-other-node", "added_p50_us"),
            added("hops-5-same-node", "added_p50_us"),
            added("hops-5-other-node", "added_p50_us"),
        ],
        plots: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy(figures: &[(&str, f64)]) -> Vec<Outcome> {
        let row = |(subject, p99_us): &(&str, f64)| Row {
            case: "storm".into(),
            subject: (*subject).into(),
            p99_us: *p99_us,
            ..Row::default()
        };
        let rows = figures.iter().map(row).collect();
        vec![Outcome { scenario: "compare-noisy".into(), rows, ..Outcome::default() }]
    }

    #[test]
    fn best_of_a_row_is_bold_and_what_a_sidecar_does_better_is_listed_by_how_much() {
        let text =
            section(&noisy(&[("canopy-node", 300.0), ("canopy-sidecar", 200.0), ("envoy-sidecar", 600.0)]));
        assert!(text.contains("| 300 | **200** | – | 600 |"), "{text}");
        assert!(text.contains("`canopy-sidecar` is 1.50 times better than `canopy-node`"), "{text}");
        assert!(!text.contains("`envoy-sidecar` is"), "{text}");
        assert!(text.contains("`canopy-node`'s in 0, `canopy-sidecar`'s in 1"), "{text}");
    }

    #[test]
    fn what_was_not_measured_has_no_row_and_nothing_measured_no_section() {
        assert!(section(&[]).is_empty());
        let text = section(&noisy(&[("canopy-node", 1.0), ("canopy-sidecar", 2.0)]));
        assert_eq!(text.matches("\n### ").count(), 2, "the question, and where a sidecar is better: {text}");
        assert!(text.contains("In none of the figures above"), "{text}");
    }

    #[test]
    fn more_is_better_where_it_is_said() {
        let row = |subject: &str, rps| Row {
            case: "connect".into(),
            subject: subject.into(),
            rps,
            ..Row::default()
        };
        let rows = vec![row("canopy-node", 10.0), row("envoy-sidecar", 20.0)];
        let text = section(&[Outcome { scenario: "compare-throughput".into(), rows, ..Outcome::default() }]);
        assert!(text.contains("| 10.0 | – | – | **20.0** |"), "{text}");
        assert!(text.contains("`envoy-sidecar` is 2.00 times better"), "{text}");
    }
}
