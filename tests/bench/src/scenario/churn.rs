//! The scenario `churn`: what a victim's clients see while another tenant of the same proxy changes its configuration a hundred times a
//! second, valid and broken; how soon a change is obeyed, and what it costs.
//!
//! Each proxy follows a control plane of its own. In quiet, the same process carries the same load, and nothing changes: turns of quiet
//! and of churn alternate piece by piece. What is measured of a change never counts as the victim's, nor the other way round.

use super::{Plan, rounds};
use crate::{
    Run,
    error::BenchError,
    lab::Nodes,
    outcome::Outcome,
    subject::{Edit, Following, Kind},
};

mod figures;
mod measure;
mod span;

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let setting = run.setting(NAME)?;
    let nodes = Nodes::one()?;
    let mut subjects = Vec::new();
    for kind in SUBJECTS.into_iter().filter(|kind| run.asks_for(kind.name(), "")) {
        run.progress(&format!("{NAME}: starting {}", kind.name()));
        subjects.push(Following::start(kind, &nodes, &setting)?);
        run.check_interrupt()?;
    }
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        run.progress(&format!("{NAME}: round {} of {}", round + 1, plan.rounds));
        samples.extend(measure::round(round, &mut subjects, plan, run)?);
    }
    Ok(figures::outcome(run.empty_outcome(NAME, plan), samples))
}

/// What the change of this number is: of ten, five are of the route whose changes are timed.
fn edit(number: u64) -> Edit {
    let (cycle, place) = (number / 10, number % 10);
    let is_odd = !cycle.is_multiple_of(2);
    match place {
        1 => Edit::Endpoint { there: !is_odd },
        3 => Edit::Route { there: true },
        5 => Edit::Policy { other: is_odd },
        7 => Edit::Route { there: false },
        9 => Edit::Broken { other: is_odd },
        _ => Edit::Mark(number),
    }
}

pub(crate) const NAME: &str = "churn";
/// The case of what the victim's clients see …
const VICTIM: &str = "victim";
/// … and that of the changes.
const CHANGE: &str = "change";
const SUBJECTS: [Kind; 2] = [Kind::CanopyFollowing, Kind::EnvoyFollowing];
/// What a subject is called while nothing changes.
pub(crate) const QUIET: &str = "-quiet";
/// The victim's connections, and its requests per second.
const CONNECTIONS: usize = 16;
const RATE: f64 = 2_000.0;
/// The neighbour's changes per second, and its requests.
const CHANGES: u64 = 100;
const ASKED: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::outcome::bars;

    #[test]
    fn a_change_is_of_every_kind_and_never_what_is_there_already() {
        let (mut endpoint, mut route, mut policy) = (true, false, false);
        let (mut marks, mut broken) = (0, Vec::new());
        for number in 10..50 {
            match edit(number) {
                Edit::Mark(said) => {
                    assert_eq!(said, number);
                    marks += 1;
                }
                Edit::Endpoint { there } => assert_ne!(std::mem::replace(&mut endpoint, there), there),
                Edit::Route { there } => assert_ne!(std::mem::replace(&mut route, there), there),
                Edit::Policy { other } => assert_ne!(std::mem::replace(&mut policy, other), other),
                Edit::Broken { other } => broken.push(other),
            }
        }
        assert_eq!((marks, broken), (20, vec![true, false, true, false]));
        assert!(endpoint && !route && !policy);
    }

    #[test]
    fn the_victim_the_time_of_a_change_and_its_cost_have_their_bars() {
        let quiet = bars::QUIET.iter().filter(|bar| bar.scenario == NAME);
        assert_eq!(quiet.map(|bar| (bar.case, bar.bar)).collect::<Vec<_>>(), [(VICTIM, 1.1)]);
        let names: BTreeSet<&str> = SUBJECTS.map(Kind::name).into();
        let cost: Vec<_> = bars::RATIOS.iter().filter(|bar| bar.scenario == NAME).collect();
        assert_eq!(cost.iter().map(|bar| (bar.case, bar.bar)).collect::<Vec<_>>(), [(CHANGE, 0.1)]);
        assert!(names.contains(cost[0].of) && names.contains(cost[0].to));
        let time = bars::CEILINGS.iter().filter(|ceiling| ceiling.scenario == NAME);
        assert_eq!(
            time.map(|ceiling| (ceiling.case, ceiling.most)).collect::<Vec<_>>(),
            [(CHANGE, 10_000.0)]
        );
    }
}
