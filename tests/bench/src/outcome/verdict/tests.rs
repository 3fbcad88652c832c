//! When a bar is passed, missed, or neither.

use super::*;
use crate::outcome::{Ratio, Row, Sample};

/// Both subjects of `http`'s bars in one case of five rounds; so many errors each; with their ratios, if rounds were valid.
fn http(case: &str, errors: [u64; 2], valid: bool) -> Outcome {
    let subjects = ["canopy-node", "envoy-node"];
    let mut outcome = Outcome { scenario: "http".into(), rounds: 5, ..Outcome::default() };
    for (subject, errors) in subjects.into_iter().zip(errors) {
        let (case, subject) = (case.to_owned(), subject.to_owned());
        outcome.samples.push(Sample { case: case.clone(), subject: subject.clone(), ..Sample::default() });
        outcome.rows.push(Row { case, subject, errors, ..Row::default() });
    }
    for (to, metric) in subjects.into_iter().flat_map(|to| [(to, "rps"), (to, "p50_us")]).filter(|_| valid) {
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

#[test]
fn a_bar_of_a_single_figure_is_canopys_and_is_missed_by_errors() {
    let row = |subject: &str, p99_us, errors| Row {
        case: "change".into(),
        subject: subject.into(),
        p50_us: 1.0,
        p99_us,
        errors,
        ..Row::default()
    };
    let word = |rows: Vec<Row>| {
        let outcome = Outcome { scenario: "churn".into(), rounds: 3, rows, ..Outcome::default() };
        judgement(&all(&outcome), "p99_us")
    };
    let slow = || row("envoy-node", 90_000.0, 0);
    let passed = Some((Judgement::Passed, Some(9_000.0)));
    assert_eq!(word(vec![slow(), row("canopy-node", 9_000.0, 0)]), passed);
    assert_eq!(word(vec![slow()]), None);
    let missed = Some((Judgement::Missed, Some(9_000.0)));
    assert_eq!(word(vec![slow(), row("canopy-node", 9_000.0, 1)]), missed);
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
fn a_bar_inside_the_spread_of_a_subject_to_itself_is_passed_by_nobody() {
    assert_eq!(word(1.12, (0.93, 1.02), bar(1.05, true)), Judgement::Inconclusive);
    assert_eq!(word(1.14, (0.93, 1.02), bar(1.05, true)), Judgement::Inconclusive);
    assert_eq!(word(1.3, (0.98, 1.02), bar(1.05, true)), Judgement::Passed);
    assert_eq!(word(0.9, (0.93, 1.02), bar(0.95, false)), Judgement::Inconclusive);
    assert_eq!(word(0.5, (0.93, 1.02), bar(0.95, false)), Judgement::Inconclusive);
    let evidence = Evidence { median: 1.1, aa: Some((0.93, 1.02)), rounds: 5 };
    let (_, why) = judge(&evidence, &bar(1.05, true));
    assert_eq!(why, "bar nearer to 1 than the A/A spread of 0.93 to 1.02 reaches");
    let evidence = Evidence { median: 1.3, ..evidence };
    let (_, why) = judge(&evidence, &bar(1.05, true));
    assert!(why.ends_with(", but the result is further from the bar"), "{why}");
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
    assert_eq!(word(-4.0, (-3.0, 2.0)), Judgement::Passed);
    assert_eq!(word(31.0, (-3.0, 2.0)), Judgement::Missed);
    assert_eq!(word(12.0, (-33.0, 2.0)), Judgement::Inconclusive);
    assert_eq!(word(-12.0, (-33.0, 2.0)), Judgement::Inconclusive, "an uncertain bar is not passed");
    assert_eq!(word(-60.0, (-33.0, 2.0)), Judgement::Inconclusive, "nor by however much");
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
