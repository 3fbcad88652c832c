//! The scenario `noisy-neighbour`: what a victim's clients see while another tenant of the same proxy takes all it can get.
//!
//! The victim's load is steady and open; a request that is not served in time counts as one second. Rows and ratios are the
//! victim's; its neighbour's rows have subjects of their own, so that nothing of a proxy that served the one by starving
//! the other is hidden.

use super::{Plan, rounds};
use crate::{
    Run,
    error::BenchError,
    lab::{
        Nodes,
        backends::{LARGE, Port, SMALL},
    },
    load::Exchange,
    outcome::Outcome,
    subject::{Kind, Shared},
};

mod figures;
mod measure;

/// What the neighbour does.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub name: &'static str,
    /// `None`: nothing.
    aggressor: Option<Aggressor>,
}

#[derive(Debug, Clone)]
struct Aggressor {
    port: Port,
    exchange: Exchange,
    connections: usize,
}

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    measured(NAME, (&[Kind::Canopy, Kind::Envoy], &Nodes::one()?), cases(), (plan, run))
}

/// The same of any subjects, between any nodes, in some of the cases.
pub(super) fn measured(
    name: &str,
    (kinds, nodes): (&[Kind], &Nodes),
    cases: Vec<Case>,
    (plan, run): (Plan, &Run),
) -> Result<Outcome, BenchError> {
    let setting = run.setting(name)?;
    let mut subjects = Vec::new();
    for kind in kinds.iter().copied().filter(|kind| run.asks_for(kind.name(), "")) {
        run.progress(&format!("{name}: starting {}", kind.name()));
        subjects.push(Shared::start(kind, nodes, &setting)?);
        run.check_interrupt()?;
    }
    let cases: Vec<Case> = cases.into_iter().filter(|case| run.asks_for("", case.name)).collect();
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        for case in &cases {
            let at = measure::At { round, case };
            run.progress(&format!("{name}: round {} of {}, {}", round + 1, plan.rounds, case.name));
            samples.extend(measure::case(&at, &subjects, plan, run)?);
        }
    }
    let names =
        (cases.iter().map(|case| case.name).collect(), kinds.iter().map(|kind| kind.name()).collect());
    Ok(figures::outcome(run.empty_outcome(name, plan), names, samples))
}

pub(super) fn cases() -> Vec<Case> {
    let get = |body: usize| Exchange::Http1 { path: format!("/{body}"), body };
    let streams = Exchange::Http2 { path: format!("/{SMALL}"), body: SMALL, streams: 100 };
    let case = |name, port, exchange, connections| Case {
        name,
        aggressor: Some(Aggressor { port, exchange, connections }),
    };
    vec![
        Case { name: SOLO, aggressor: None },
        case("aggressor-16", Port::Http, get(SMALL), 16),
        case("aggressor-64", Port::Http, get(SMALL), 64),
        case("aggressor-256", Port::Http, get(SMALL), 256),
        case("storm", Port::Echo, Exchange::Connect { bytes: SMALL }, 64),
        case("bodies", Port::Http, get(LARGE), 64),
        case("h2", Port::Http2, streams, 4),
    ]
}

pub(crate) const NAME: &str = "noisy-neighbour";
/// The case without a neighbour.
const SOLO: &str = "solo";
/// The victim's connections.
const CONNECTIONS: usize = 5;
/// The victim's requests per second.
const RATE: f64 = 500.0;
/// What a request of the victim's counts as that was not served.
const UNSERVED_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::bars;

    #[test]
    fn every_case_but_the_one_without_a_neighbour_has_its_four_bars() {
        let names: Vec<&str> = cases().iter().map(|case| case.name).collect();
        assert_eq!(names, ["solo", "aggressor-16", "aggressor-64", "aggressor-256", "storm", "bodies", "h2"]);
        for case in &names[1..] {
            let own = bars::RATIOS.iter().filter(|bar| bar.scenario == NAME && bar.case == *case);
            let compared = own.filter(|bar| bar.to != "envoy-node").count();
            assert_eq!(compared, 4, "{case}");
        }
    }
}
