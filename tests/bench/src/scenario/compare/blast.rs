//! The scenario `compare-blast`: a proxy is killed, or replaced as for an upgrade, and whose requests fail, for how long.
//!
//! Six pairs of three tenants, each client asking at fixed times. The fault meets the proxy of the first client: the whole node's where
//! there is one for the node. It is started again at once, as a supervisor does; what fails is a figure here and no error.

use std::{net::SocketAddr, thread, time::Duration};

use testkit::{Pod, Process};

use super::{rounds, settings};
use crate::{
    Run,
    error::BenchError,
    lab::{LOAD_CPU, backends::SMALL},
    outcome::{Further, Outcome, Sample, Samples},
    role::{self, PulseSpec, Pulsed},
    scenario::Plan,
    subject::{
        Kind, Mesh, Sharing,
        fleet::{Fleet, Size},
    },
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let mut samples = Vec::new();
    let rounds = plan.rounds.min(MOST_ROUNDS);
    for round in 0..rounds {
        let mut kinds = Mesh::ALL.map(|mesh| Kind::Compared(mesh, Sharing::Shared));
        kinds.rotate_left(round % Mesh::ALL.len());
        for kind in kinds.into_iter().filter(|kind| run.asks_for(kind.name(), "")) {
            let setting = run.setting(&format!("{NAME}/{}", kind.name()))?;
            let mut fleet = Fleet::start(kind, SIZE, &setting)?;
            thread::sleep(Duration::from_millis(plan.settle_ms));
            for fault in Fault::ALL.into_iter().filter(|fault| run.asks_for("", fault.name())) {
                run.check_interrupt()?;
                let (name, fault_name) = (kind.name(), fault.name());
                run.progress(&format!("{NAME}: round {} of {}, {name}, {fault_name}", round + 1, rounds));
                let pulsed = measure(&mut fleet, fault, plan)?;
                samples.extend(Whose::ALL.map(|whose| sample(round, kind, (fault, whose), &pulsed)));
            }
        }
    }
    let mut outcome = run.empty_outcome(NAME, plan);
    outcome.rounds = rounds;
    outcome.provenance.settings = settings();
    let all = Samples(samples);
    for case in Fault::ALL.iter().flat_map(|fault| Whose::ALL.map(|whose| case(*fault, whose))) {
        for mesh in Mesh::ALL {
            if all.0.iter().any(|sample| sample.case == case && sample.subject == mesh.name()) {
                outcome.rows.push(all.row(&case, mesh.name()));
            }
        }
    }
    Ok(Outcome { samples: all.0, ..outcome })
}

/// What happens to the first client's proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// SIGKILL.
    Crash,
    /// SIGTERM, and the next one when it has ended.
    Upgrade,
}

impl Fault {
    const ALL: [Self; 2] = [Self::Crash, Self::Upgrade];

    fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Upgrade => "upgrade",
        }
    }
}

/// Whose requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Of the pod whose proxy it is, or among whose it is.
    Own,
    /// Of others of its tenant on the same node.
    SameTenant,
    /// Of other tenants on the same node.
    OtherTenants,
}

impl Whose {
    const ALL: [Self; 3] = [Self::Own, Self::SameTenant, Self::OtherTenants];

    fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::SameTenant => "same-tenant",
            Self::OtherTenants => "other-tenants",
        }
    }

    fn of(pair: usize) -> Self {
        match pair {
            0 => Self::Own,
            number if number % SIZE.tenants == 0 => Self::SameTenant,
            _ => Self::OtherTenants,
        }
    }
}

/// What came of each pair's requests.
fn measure(fleet: &mut Fleet, fault: Fault, plan: Plan) -> Result<Vec<Pulsed>, BenchError> {
    let lasts_ms = if plan.quick { QUICK_MS } else { LASTS_MS };
    let start = |(client, target): (&Pod, SocketAddr)| -> Result<Process, BenchError> {
        let path = format!("/{SMALL}");
        let (cpu, per_second, limit_ms) = (LOAD_CPU, PER_SECOND, LIMIT_MS);
        let spec = PulseSpec { cpu, target, path, per_second, lasts_ms, limit_ms };
        Ok(client.start(role::command("pulse", &spec)?)?)
    };
    let processes: Vec<Process> = fleet.callers().into_iter().map(start).collect::<Result<_, _>>()?;
    thread::sleep(Duration::from_millis(QUIET_MS));
    fleet.replace_first(fault == Fault::Crash)?;
    let limit = Duration::from_millis(lasts_ms) + rounds::GRACE;
    processes.into_iter().map(|process| rounds::finish(process, limit)).collect()
}

fn sample(round: usize, kind: Kind, (fault, whose): (Fault, Whose), pulsed: &[Pulsed]) -> Sample {
    let those: Vec<&Pulsed> =
        pulsed.iter().enumerate().filter(|(pair, _)| Whose::of(*pair) == whose).map(|(_, one)| one).collect();
    let longest = those.iter().map(|one| one.longest_gap_ns).max().unwrap_or(0);
    let further = Further {
        outage_ms: longest as f64 / 1e6,
        asked: those.iter().map(|one| one.asked).sum(),
        ..Further::default()
    };
    Sample {
        case: case(fault, whose),
        subject: kind.name().to_owned(),
        round,
        rate_per_second: PER_SECOND as f64,
        unserved: those.iter().map(|one| one.failed).sum(),
        first_error: those.iter().find_map(|one| one.first_failure.clone()),
        further,
        ..Sample::default()
    }
}

fn case(fault: Fault, whose: Whose) -> String {
    format!("{}-{}", fault.name(), whose.name())
}

const NAME: &str = "compare-blast";
const SIZE: Size = Size { pods: 6, tenants: 3 };
/// Of each client.
const PER_SECOND: u64 = 50;
/// An application that gives up sooner sees more failures, one that waits longer fewer.
const LIMIT_MS: u64 = 1_000;
/// Before the fault.
const QUIET_MS: u64 = 2_000;
/// In all: a daemon that is asked to end lets its connections end first.
const LASTS_MS: u64 = 20_000;
/// A proxy fails as it does; few rounds show it.
const MOST_ROUNDS: usize = 3;
/// See [`LASTS_MS`].
const QUICK_MS: u64 = 8_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_of_whom_they_met_and_the_longest_outage_is_kept() {
        let pulse =
            |failed, longest_gap_ns| Pulsed { asked: 100, failed, longest_gap_ns, ..Pulsed::default() };
        let mut pulsed = vec![pulse(7, 900_000_000)];
        pulsed.extend((1..6).map(|pair| pulse(pair, pair * 1_000_000)));
        let kind = Kind::Compared(Mesh::EnvoySidecar, Sharing::Shared);
        let of = |whose| sample(0, kind, (Fault::Crash, whose), &pulsed);
        let figures = |one: Sample| (one.unserved, one.further.asked, one.further.outage_ms);
        assert_eq!(figures(of(Whose::Own)), (7, 100, 900.0));
        assert_eq!(
            figures(of(Whose::SameTenant)),
            (3, 100, 3.0),
            "the fourth pair is of the first one's tenant"
        );
        assert_eq!(figures(of(Whose::OtherTenants)), (1 + 2 + 4 + 5, 400, 5.0));
        assert_eq!(of(Whose::Own).case, "crash-own");
    }
}
