//! Whether a bar is met, judged beside the spread of the same subject against itself.
//!
//! What the machine's noise could have done is inconclusive: neither passed nor missed. A bar nearer than the noise reaches is
//! missed by what is wrong by more than the noise, and never passed. Errors are no noise: one in any
//! subject misses every bar of its case, and no bar may vanish because none of its rounds was valid.

use serde::{Deserialize, Serialize};

use super::{Outcome, bars};

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
        (Judgement::Missed, format!("{errors} errors; there must be none in any subject"))
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

/// Where a subject's row is: some are compared with what they did in another case.
fn place<'a>(case: &'a str, subject: &'a str) -> (&'a str, &'a str) {
    let elsewhere = |suffix, case| subject.strip_suffix(suffix).map(|subject| (case, subject));
    let one = if case.ends_with("-busy") { "tenants-1-busy" } else { "tenants-1" };
    elsewhere(ALONE, "solo").or_else(|| elsewhere(ONE, one)).unwrap_or((case, subject))
}

/// What a subject of a ratio ends in that is the same subject in the case `solo` …
pub(crate) const ALONE: &str = "-solo";
/// … and in the case `tenants-1`, or `tenants-1-busy`.
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
    let is_sure = margin.max(1.0 / margin) > noise;
    let (what, distance) =
        if (bar.bar - 1.0).abs() < f64::EPSILON { ("result", evidence.median) } else { ("bar", bar.bar) };
    if distance.max(1.0 / distance) < noise && !is_sure {
        let why = format!("{what} nearer to 1 than the A/A spread of {low:.2} to {high:.2} reaches");
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
    if most < noise && margin.abs() <= noise {
        let why = format!("bar nearer to 0 than the A/A spread of {low:.1} to {high:.1} reaches");
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
    let row = outcome.rows.iter().find(|r| r.case == ceiling.case)?;
    let figure = if ceiling.metric == "rss_bytes" { row.rss_bytes } else { row.p50_us };
    let percent = (figure / ceiling.most - 1.0).abs() * 100.0;
    let (verdict, why) = match figure <= ceiling.most {
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

fn few_rounds() -> String {
    format!("fewer than {LEAST_ROUNDS} rounds")
}

/// The metric of [`of_errors`].
pub(crate) const ERRORS: &str = "errors";
const EVERY: &str = "every subject";

/// With fewer, a spread says nothing.
const LEAST_ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Ratio, Row, Sample};

    /// Both subjects of `http`'s bars in one case of five rounds; so many errors each; with their ratios, if rounds were valid.
    fn http(case: &str, errors: [u64; 2], valid: bool) -> Outcome {
        let subjects = ["canopy-node", "envoy-node"];
        let mut outcome = Outcome { scenario: "http".into(), rounds: 5, ..Outcome::default() };
        for (subject, errors) in subjects.into_iter().zip(errors) {
            let (case, subject) = (case.to_owned(), subject.to_owned());
            outcome.samples.push(Sample {
                case: case.clone(),
                subject: subject.clone(),
                ..Sample::default()
            });
            outcome.rows.push(Row { case, subject, errors, ..Row::default() });
        }
        for (to, metric) in
            subjects.into_iter().flat_map(|to| [(to, "rps"), (to, "p50_us")]).filter(|_| valid)
        {
            let figure = if to == "canopy-node" { 1.0 } else { 1.9 };
            outcome.ratios.push(Ratio {
                case: case.into(),
                of: "canopy-node".into(),
                to: to.into(),
                metric: metric.into(),
                median: figure,
                min: figure - 0.01,
                max: figure + 0.01,
            });
        }
        outcome
    }

    fn judgement(verdicts: &[Verdict], metric: &str) -> Option<(Judgement, Option<f64>)> {
        verdicts.iter().find(|v| v.metric == metric).map(|v| (v.verdict, v.median))
    }

    #[test]
    fn a_bar_is_missed_by_errors_even_where_they_left_no_round_to_compare() {
        let verdicts = all(&http("c32-64b", [0, 317], false));
        assert_eq!(judgement(&verdicts, "rps"), Some((Judgement::Missed, None)));
        let verdicts = all(&http("c32-64b", [1, 0], true));
        assert_eq!(judgement(&verdicts, "rps"), Some((Judgement::Missed, Some(1.9))));
        assert_eq!(judgement(&verdicts, "cpu_us_per_request"), Some((Judgement::Missed, None)));
    }

    #[test]
    fn a_bar_of_what_was_not_run_is_neither_missed_nor_passed() {
        let mut outcome = http("c32-64b", [3, 0], true);
        outcome.rows.retain(|row| row.subject == "canopy-node");
        let verdicts = all(&outcome);
        assert_eq!(judgement(&verdicts, "rps"), None);
        assert_eq!(judgement(&verdicts, ERRORS), Some((Judgement::Missed, Some(3.0))));
    }

    #[test]
    fn every_case_of_load_is_judged_by_its_errors_with_or_without_a_bar() {
        let verdicts = all(&http("c1-64b", [0, 0], true));
        assert_eq!(judgement(&verdicts, ERRORS), Some((Judgement::Passed, Some(0.0))));
        assert_eq!(verdicts.len(), 1);
        let verdicts = all(&http("c1-64b", [2, 40], false));
        assert_eq!(judgement(&verdicts, ERRORS), Some((Judgement::Missed, Some(42.0))));
        assert_eq!(verdicts[0].why, "2 in canopy-node, 40 in envoy-node");
    }

    #[test]
    fn a_case_without_errors_is_judged_by_its_figures() {
        let verdicts = all(&http("c32-64b", [0, 0], true));
        assert_eq!(judgement(&verdicts, "rps"), Some((Judgement::Passed, Some(1.9))));
        assert_eq!(judgement(&verdicts, "p50_us"), Some((Judgement::Missed, Some(1.9))));
        assert_eq!(judgement(&verdicts, ERRORS), Some((Judgement::Passed, Some(0.0))));
    }

    fn bar(bar: f64, at_least: bool) -> bars::Bar {
        bars::Bar { scenario: "s", case: "c", of: "a", to: "b", metric: "rps", bar, at_least }
    }

    fn word(median: f64, aa: (f64, f64), required: bars::Bar) -> Judgement {
        judge(&Evidence { median, aa: Some(aa), rounds: 3 }, &required).0
    }

    #[test]
    fn a_bar_is_passed_or_missed_only_outside_the_noise() {
        assert_eq!(word(1.7, (0.97, 1.03), bar(1.5, true)), Judgement::Passed);
        assert_eq!(word(1.3, (0.97, 1.03), bar(1.5, true)), Judgement::Missed);
        assert_eq!(word(0.5, (0.97, 1.03), bar(0.6, false)), Judgement::Passed);
        assert_eq!(word(0.7, (0.97, 1.03), bar(0.6, false)), Judgement::Missed);
    }

    #[test]
    fn a_bar_inside_the_spread_of_a_subject_to_itself_is_passed_only_by_more_than_the_spread() {
        assert_eq!(word(1.12, (0.93, 1.02), bar(1.05, true)), Judgement::Inconclusive);
        assert_eq!(word(1.14, (0.93, 1.02), bar(1.05, true)), Judgement::Passed);
        assert_eq!(word(1.3, (0.98, 1.02), bar(1.05, true)), Judgement::Passed);
        assert_eq!(word(0.9, (0.93, 1.02), bar(0.95, false)), Judgement::Inconclusive);
        let evidence = Evidence { median: 1.1, aa: Some((0.93, 1.02)), rounds: 5 };
        let (_, why) = judge(&evidence, &bar(1.05, true));
        assert_eq!(why, "bar nearer to 1 than the A/A spread of 0.93 to 1.02 reaches");
    }

    #[test]
    fn a_bar_inside_the_spread_is_missed_by_more_than_the_spread() {
        assert_eq!(word(0.9, (0.93, 1.02), bar(1.05, true)), Judgement::Missed);
        assert_eq!(word(1.1, (0.93, 1.02), bar(0.95, false)), Judgement::Missed);
        for median in [0.99, 1.04, 1.06] {
            assert_eq!(word(median, (0.93, 1.02), bar(1.05, true)), Judgement::Inconclusive, "{median}");
        }
        assert_eq!(word(1.0, (0.93, 1.02), bar(0.95, false)), Judgement::Inconclusive);
        let evidence = Evidence { median: 0.84, aa: Some((0.93, 1.02)), rounds: 5 };
        assert_eq!(judge(&evidence, &bar(1.05, true)).1, "by 20 %");
    }

    #[test]
    fn a_bar_outside_the_spread_is_missed_by_however_little_and_says_so() {
        let evidence = Evidence { median: 1.48, aa: Some((0.97, 1.03)), rounds: 5 };
        let (judgement, why) = judge(&evidence, &bar(1.5, true));
        assert_eq!(judgement, Judgement::Missed);
        assert!(why.contains("less than the A/A spread"), "{why}");
    }

    #[test]
    fn a_pass_by_less_than_the_spread_says_so() {
        let evidence = Evidence { median: 1.52, aa: Some((0.97, 1.03)), rounds: 5 };
        let (judgement, why) = judge(&evidence, &bar(1.5, true));
        assert_eq!(judgement, Judgement::Passed);
        assert!(why.contains("less than the A/A spread"), "{why}");
    }

    #[test]
    fn a_difference_is_judged_by_its_distance_from_what_is_allowed() {
        let word = |median, aa| judge_difference(&Evidence { median, aa: Some(aa), rounds: 5 }, 20.0).0;
        assert_eq!(word(12.0, (-3.0, 2.0)), Judgement::Passed);
        assert_eq!(word(31.0, (-3.0, 2.0)), Judgement::Missed);
        assert_eq!(word(12.0, (-33.0, 2.0)), Judgement::Inconclusive);
        assert_eq!(word(-14.0, (-33.0, 2.0)), Judgement::Passed, "by more than it is uncertain");
        assert_eq!(word(52.0, (-33.0, 2.0)), Judgement::Inconclusive);
        assert_eq!(word(54.0, (-33.0, 2.0)), Judgement::Missed);
    }

    #[test]
    fn a_bar_of_one_is_judged_by_the_distance_from_it() {
        assert_eq!(word(1.3, (0.97, 1.03), bar(1.0, true)), Judgement::Passed);
        assert_eq!(word(1.02, (0.97, 1.03), bar(1.0, true)), Judgement::Inconclusive);
        assert_eq!(word(0.98, (0.97, 1.03), bar(1.0, true)), Judgement::Inconclusive);
        assert_eq!(word(0.9, (0.97, 1.03), bar(1.0, true)), Judgement::Missed);
        let evidence = Evidence { median: 1.02, aa: Some((0.97, 1.03)), rounds: 5 };
        let (_, why) = judge(&evidence, &bar(1.0, true));
        assert_eq!(why, "result nearer to 1 than the A/A spread of 0.97 to 1.03 reaches");
    }

    #[test]
    fn without_a_run_against_itself_or_with_few_rounds_nothing_is_passed() {
        let none = Evidence { median: 9.0, aa: None, rounds: 5 };
        assert_eq!(judge(&none, &bar(1.5, true)).0, Judgement::Inconclusive);
        let few = Evidence { median: 9.0, aa: Some((1.0, 1.0)), rounds: 1 };
        assert_eq!(judge(&few, &bar(1.5, true)).0, Judgement::Inconclusive);
    }
}
