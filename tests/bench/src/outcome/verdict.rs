//! Whether a bar is met, judged beside the spread of the same subject against itself.
//!
//! What the machine's noise could have done is inconclusive: neither passed nor missed.

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
    pub median: f64,
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
    verdicts
}

fn of_two(outcome: &Outcome, bar: &bars::Bar, difference: bool) -> Option<Verdict> {
    let measured = |to: &str| {
        if difference {
            outcome.difference(bar.case, bar.of, to, bar.metric)
        } else {
            outcome.ratio(bar.case, bar.of, to, bar.metric)
        }
    };
    let ratio = measured(bar.to)?;
    let aa = measured(bar.of).map(|r| (r.min, r.max));
    let errors: u64 = outcome.rows.iter().filter(|r| r.case == bar.case).map(|r| r.errors).sum();
    let (verdict, why) = if errors > 0 {
        (Judgement::Missed, format!("{errors} errors; there must be none in any subject"))
    } else {
        let evidence = Evidence { median: ratio.median, aa, rounds: outcome.rounds };
        if difference { judge_difference(&evidence, bar.bar) } else { judge(&evidence, bar) }
    };
    Some(Verdict {
        case: bar.case.into(),
        of: bar.of.into(),
        to: bar.to.into(),
        metric: bar.metric.into(),
        bar: bar.bar,
        at_least: bar.at_least,
        median: ratio.median,
        difference,
        aa,
        verdict,
        why,
    })
}

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
    let distance = if (bar.bar - 1.0).abs() < f64::EPSILON { evidence.median } else { bar.bar };
    if distance.max(1.0 / distance) < noise {
        return (Judgement::Inconclusive, format!("inside the A/A spread of {low:.2} to {high:.2}"));
    }
    let margin = if bar.at_least { evidence.median / bar.bar } else { bar.bar / evidence.median };
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
    if most < noise {
        return (Judgement::Inconclusive, format!("inside the A/A spread of {low:.1} to {high:.1}"));
    }
    let margin = most - evidence.median;
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
        median: figure,
        difference: false,
        aa: None,
        verdict,
        why,
    })
}

fn few_rounds() -> String {
    format!("fewer than {LEAST_ROUNDS} rounds")
}

/// With fewer, a spread says nothing.
const LEAST_ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_bar_inside_the_spread_of_a_subject_to_itself_is_inconclusive() {
        assert_eq!(word(1.3, (0.93, 1.02), bar(1.05, true)), Judgement::Inconclusive);
        assert_eq!(word(1.3, (0.98, 1.02), bar(1.05, true)), Judgement::Passed);
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
    }

    #[test]
    fn a_bar_of_one_is_judged_by_the_distance_from_it() {
        assert_eq!(word(1.3, (0.97, 1.03), bar(1.0, true)), Judgement::Passed);
        assert_eq!(word(1.02, (0.97, 1.03), bar(1.0, true)), Judgement::Inconclusive);
    }

    #[test]
    fn without_a_run_against_itself_or_with_few_rounds_nothing_is_passed() {
        let none = Evidence { median: 9.0, aa: None, rounds: 5 };
        assert_eq!(judge(&none, &bar(1.5, true)).0, Judgement::Inconclusive);
        let few = Evidence { median: 9.0, aa: Some((1.0, 1.0)), rounds: 1 };
        assert_eq!(judge(&few, &bar(1.5, true)).0, Judgement::Inconclusive);
    }
}
