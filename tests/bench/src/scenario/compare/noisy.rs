//! The scenario `compare-noisy`: the noisy neighbour of `noisy-neighbour`, from node to node, with sidecars as the control: there, two
//! tenants share no proxy, only the CPU that all proxies have.
//!
//! The same victim, the same loads, the same rules of what counts.

use super::settings;
use crate::{
    Run,
    error::BenchError,
    lab::Nodes,
    outcome::Outcome,
    scenario::{
        Plan,
        noisy::{self, Case},
    },
    subject::{Kind, Mesh, Sharing},
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let kinds = Mesh::ALL.map(|mesh| Kind::Compared(mesh, Sharing::Shared));
    let mut outcome = noisy::measured(NAME, (&kinds, &Nodes::two()?), cases(), (plan, run))?;
    outcome.provenance.settings = settings();
    Ok(outcome)
}

fn cases() -> Vec<Case> {
    noisy::cases().into_iter().filter(|case| CASES.contains(&case.name)).collect()
}

const NAME: &str = "compare-noisy";
const CASES: [&str; 4] = ["solo", "aggressor-64", "aggressor-256", "storm"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::bars;

    #[test]
    fn every_neighbour_has_the_bar_of_the_victims_tail_beside_a_sidecars() {
        let names: Vec<&str> = cases().iter().map(|case| case.name).collect();
        assert_eq!(names, CASES);
        for case in &CASES[1..] {
            let is_it = |bar: &&bars::Bar| bar.scenario == NAME && bar.case == *case;
            let bar = bars::RATIOS.iter().find(is_it).unwrap();
            assert_eq!((bar.to, bar.metric), ("canopy-sidecar", "p99_us"));
        }
    }
}
