//! Whether a bar is met, judged beside the spread of the same subject against itself.
//!
//! What the machine's noise could have done is inconclusive: neither passed nor missed. A bar nearer than the noise reaches is
//! missed by what is wrong by more than the noise, and never passed. Errors are no noise: one in any
//! subject misses every bar of its case, and no bar may vanish because none of its rounds was valid.

use serde::{Deserialize, Serialize};

use super::{Outcome, Row, added, bars};

mod quiet;

/// A bar and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub case: String,
    pub of: String,
    /// Empty for a figure that is no ratio.
    pub to: String,
    pub metric: String,
    pub bar: f64,
    pub at_least: bool,
    /// `None` where errors left no valid round.
    pub median: Option<f64>,
    /// Whether `bar` and `median` are differences of the two, not quotients.
    #[serde(default)]
    pub difference: bool,
    /// Least and greatest ratio of the subject to itself, in the same case and metric.
    pub aa: Option<(f64, f64)>,
    pub verdict: Judgement,
    pub why: String,
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Judgement {
    Passed,
    Missed,
    Inconclusive,
}

impl Judgement {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Missed => "missed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// Judges all bars of the outcome's scenario.
pub(crate) fn all(outcome: &Outcome) -> Vec<Verdict> {
    let ratios = bars::RATIOS.iter().filter(|bar| bar.scenario == outcome.scenario);
    let mut verdicts: Vec<Verdict> = ratios.filter_map(|bar| of_two(outcome, bar, false)).collect();
    let quiet = bars::QUIET.iter().filter(|bar| bar.scenario == outcome.scenario);
    verdicts.extend(quiet.filter_map(|bar| quiet::verdict(outcome, bar)));
    let differences = bars::DIFFERENCES.iter().filter(|bar| bar.scenario == outcome.scenario);
    verdicts.extend(differences.filter_map(|bar| of_two(outcome, bar, true)));
    let figures = bars::CEILINGS.iter().filter(|ceiling| ceiling.scenario == outcome.scenario);
    verdicts.extend(figures.filter_map(|ceiling| of_figure(outcome, ceiling)));
    // Only load has samples.
    let mut cases: Vec<&str> = Vec::new();
    for sample in &outcome.samples {
        if !cases.contains(&sample.case.as_str()) {
            cases.push(&sample.case);
        }
    }
    verdicts.extend(cases.into_iter().map(|case| of_errors(outcome, case)));
    verdicts
}

/// Errors of every subject in the case.
fn errors(outcome: &Outcome, case: &str) -> u64 {
    outcome.rows.iter().filter(|row| row.case == case).map(|row| row.errors).sum()
}

/// A case of load has to go without an error, whether or not there is a bar for its figures.
fn of_errors(outcome: &Outcome, case: &str) -> Verdict {
    let errors = errors(outcome, case);
    let whose: Vec<String> = outcome
        .rows
        .iter()
        .filter(|row| row.case == case && row.errors > 0)
        .map(|row| format!("{} in {}", row.errors, row.subject))
        .collect();
    Verdict {
        case: case.into(),
        of: EVERY.into(),
        to: String::new(),
        metric: ERRORS.into(),
        bar: 0.0,
        at_least: false,
        median: Some(errors as f64),
        difference: false,
        aa: None,
        verdict: if errors == 0 { Judgement::Passed } else { Judgement::Missed },
        why: whose.join(", "),
    }
}

fn of_two(outcome: &Outcome, bar: &bars::Bar, difference: bool) -> Option<Verdict> {
    let measured = |to: &str| {
        if difference {
            outcome.difference(bar.case, bar.of, to, bar.metric)
        } else {
            outcome.ratio(bar.case, bar.of, to, bar.metric)
        }
    };
    let was_run = |subject: &str| {
        let (case, subject) = place(bar.case, subject);
        outcome.rows.iter().any(|r| r.case == case && r.subject == subject)
    };
    if !was_run(bar.of) || !was_run(bar.to) {
        return None;
    }
    let median = measured(bar.to).map(|r| r.median);
    let aa = measured(bar.of).map(|r| (r.min, r.max));
    let errors = errors(outcome, bar.case);
    let (verdict, why) = if errors > 0 {
        missed_by(errors)
    } else if let Some(why) = drowned(outcome, bar) {
        (Judgement::Inconclusive, why)
    } else {
        let evidence = Evidence { median: median?, aa, rounds: outcome.rounds };
        if difference { judge_difference(&evidence, bar.bar) } else { judge(&evidence, bar) }
    };
    Some(Verdict {
        case: bar.case.into(),
        of: bar.of.into(),
        to: bar.to.into(),
        metric: bar.metric.into(),
        bar: bar.bar,
        at_least: bar.at_least,
        median,
        difference,
        aa,
        verdict,
        why,
    })
}

/// Why what is added cannot be told from what `direct` differs from itself by, where it cannot.
fn drowned(outcome: &Outcome, bar: &bars::Bar) -> Option<String> {
    let own = added::own_spread(&outcome.samples, bar.case, bar.metric)?;
    let of = |subject| outcome.difference(bar.case, subject, added::DIRECT, bar.metric).map(|r| r.median);
    let least = of(bar.of)?.min(of(bar.to)?);
    (own > MOST_OF_ADDED * least).then(|| {
        format!(
            "direct differs from itself by {own:.0} µs, a fifth or more of the {least:.0} µs that are added"
        )
    })
}

/// Where a subject's row is: some are compared with what they did in another case.
fn place<'a>(case: &'a str, subject: &'a str) -> (&'a str, &'a str) {
    let elsewhere = |suffix, case| subject.strip_suffix(suffix).map(|subject| (case, subject));
    let one = match case {
        _ if case.starts_with("routes-") => "routes-1",
        _ if case.ends_with("-busy") => "tenants-1-busy",
        _ => "tenants-1",
    };
    elsewhere(ALONE, "solo").or_else(|| elsewhere(ONE, one)).unwrap_or((case, subject))
}

/// What a subject of a ratio ends in that is the same subject in the case `solo` …
pub(crate) const ALONE: &str = "-solo";
/// … and in the case `tenants-1`, `tenants-1-busy` or `routes-1`.
pub(crate) const ONE: &str = "-one";

struct Evidence {
    median: f64,
    aa: Option<(f64, f64)>,
    rounds: usize,
}

fn judge(evidence: &Evidence, bar: &bars::Bar) -> (Judgement, String) {
    let Some((low, high)) = evidence.aa else {
        return (Judgement::Inconclusive, "no A/A run".into());
    };
    if evidence.rounds < LEAST_ROUNDS {
        return (Judgement::Inconclusive, few_rounds());
    }
    // As a factor either way, and 1 itself belongs to it: a drift of all rounds to one side is noise as well.
    let noise = high.max(1.0 / low).max(1.0);
    let margin = if bar.at_least { evidence.median / bar.bar } else { bar.bar / evidence.median };
    let is_clear = margin.max(1.0 / margin) > noise;
    let (what, distance) =
        if (bar.bar - 1.0).abs() < f64::EPSILON { ("result", evidence.median) } else { ("bar", bar.bar) };
    // Who is slower than the bar by more than noise has missed it, whatever the bar; but no noisy run passes one.
    if distance.max(1.0 / distance) < noise && (margin >= 1.0 || !is_clear) {
        let clear = if is_clear { ", but the result is further from the bar" } else { "" };
        let why = format!("{what} nearer to 1 than the A/A spread of {low:.2} to {high:.2} reaches{clear}");
        return (Judgement::Inconclusive, why);
    }
    let percent = (margin - 1.0).abs() * 100.0;
    let within = if margin.max(1.0 / margin) < noise {
        format!(", which is less than the A/A spread of {low:.2} to {high:.2}")
    } else {
        String::new()
    };
    let judgement = if margin >= 1.0 { Judgement::Passed } else { Judgement::Missed };
    (judgement, format!("by {percent:.0} %{within}"))
}

/// At most so much more: by the same rules, with the distance from 0 in the place of the factor.
fn judge_difference(evidence: &Evidence, most: f64) -> (Judgement, String) {
    let Some((low, high)) = evidence.aa else {
        return (Judgement::Inconclusive, "no A/A run".into());
    };
    if evidence.rounds < LEAST_ROUNDS {
        return (Judgement::Inconclusive, few_rounds());
    }
    let noise = high.max(-low).max(0.0);
    let margin = most - evidence.median;
    if most < noise && (margin >= 0.0 || margin.abs() <= noise) {
        let clear = if margin > noise { ", but the result is further from the bar" } else { "" };
        let why = format!("bar nearer to 0 than the A/A spread of {low:.1} to {high:.1} reaches{clear}");
        return (Judgement::Inconclusive, why);
    }
    let within = if margin.abs() < noise {
        format!(", which is less than the A/A spread of {low:.1} to {high:.1}")
    } else {
        String::new()
    };
    let judgement = if margin >= 0.0 { Judgement::Passed } else { Judgement::Missed };
    (judgement, format!("by {:.1} µs{within}", margin.abs()))
}

fn of_figure(outcome: &Outcome, ceiling: &bars::Ceiling) -> Option<Verdict> {
    let is_it = |row: &&Row| row.case == ceiling.case && row.subject.starts_with("canopy");
    let row = outcome.rows.iter().find(is_it)?;
    let figure = match ceiling.metric {
        "rss_bytes" => row.rss_bytes,
        "p99_us" => row.p99_us,
        "cpu_us_per_request" => row.cpu_us_per_request,
        _ => row.p50_us,
    };
    let errors = errors(outcome, ceiling.case);
    let percent = (figure / ceiling.most - 1.0).abs() * 100.0;
    let (verdict, why) = match figure <= ceiling.most {
        _ if errors > 0 => missed_by(errors),
        _ if outcome.rounds < LEAST_ROUNDS => (Judgement::Inconclusive, few_rounds()),
        true => (Judgement::Passed, format!("by {percent:.0} %")),
        false => (Judgement::Missed, format!("by {percent:.0} %")),
    };
    Some(Verdict {
        case: ceiling.case.into(),
        of: row.subject.clone(),
        to: String::new(),
        metric: ceiling.metric.into(),
        bar: ceiling.most,
        at_least: false,
        median: Some(figure),
        difference: false,
        aa: None,
        verdict,
        why,
    })
}

/// An error in any subject misses a bar.
fn missed_by(errors: u64) -> (Judgement, String) {
    (Judgement::Missed, format!("{errors} errors; there must be none in any subject"))
}

fn few_rounds() -> String {
    format!("fewer than {LEAST_ROUNDS} rounds")
}

/// The metric of [`of_errors`].
pub(crate) const ERRORS: &str = "errors";
const EVERY: &str = "every subject";

/// The part of what is added that `direct` may differ from itself by.
const MOST_OF_ADDED: f64 = 0.2;
/// With fewer, a spread says nothing.
const LEAST_ROUNDS: usize = 3;

#[cfg(test)]
mod tests;
