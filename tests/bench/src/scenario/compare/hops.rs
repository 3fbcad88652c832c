//! The scenario `compare-hops`: what a request pays that passes one, two and five apps, each behind proxies, on one node and by turns on
//! two.
//!
//! Latency at a fixed rate and CPU time of all proxies together. Where nothing is encrypted, the output says so: what is seen on the
//! links of the client's node is part of it.

use testkit::Capture;

use super::{kinds, rounds, settings, summary};
use crate::{
    Run,
    error::BenchError,
    lab::{LOAD_CPU, backends::SMALL},
    load::{Exchange, LoadReport, LoadSpec, Manner},
    outcome::{Outcome, Sample},
    role,
    scenario::{
        Plan,
        pieces::Pieces,
        wire::{self, WireCheck},
    },
    subject::{
        Mesh, Sharing,
        chain::{Along, Chain},
    },
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let mut outcome = run.empty_outcome(NAME, plan);
    outcome.rounds = plan.rounds.min(MOST_ROUNDS);
    let mut samples = Vec::new();
    for round in 0..outcome.rounds {
        for (case, hops, along) in CASES.into_iter().filter(|(case, ..)| run.asks_for("", case)) {
            run.progress(&format!("{NAME}: round {} of {}, {case}", round + 1, outcome.rounds));
            let setting = run.setting(NAME)?;
            let mut chains = Vec::new();
            for kind in kinds(Sharing::Shared).into_iter().filter(|kind| run.asks_for(kind.name(), "")) {
                run.check_interrupt()?;
                chains.push(Chain::start(kind, hops, along, &setting)?);
            }
            if round == 0 {
                for chain in &chains {
                    outcome.wire.push(seen(chain, case, along)?);
                }
            }
            samples.extend(Turns { round, case, plan, run }.all(&chains)?);
        }
    }
    outcome.provenance.settings = settings();
    outcome.provenance.settings["same_node"] =
        "canopy-node hands bytes over within the daemon and envoy-node within the Envoy, both without TLS; sidecars encrypt".into();
    Ok(summary(outcome, samples, true))
}

/// A case in a round.
struct Turns<'a> {
    round: usize,
    case: &'static str,
    plan: Plan,
    run: &'a Run,
}

impl Turns<'_> {
    /// All chains by turns, there and back; those twice that ratios are of, and who all is above.
    fn all(&self, chains: &[Chain]) -> Result<Vec<Sample>, BenchError> {
        let mut turns: Vec<(&Chain, bool)> = chains.iter().map(|chain| (chain, false)).collect();
        let twice = |chain: &&Chain| chain.kind.is_canopy() || !chain.kind.has_proxy();
        turns.extend(chains.iter().filter(twice).map(|chain| (chain, true)));
        let first = self.round % turns.len().max(1);
        turns.rotate_left(first);
        let all = rounds::there_and_back(turns.len(), self.plan.slices, |index| {
            self.run.check_interrupt()?;
            let chain = turns[index].0;
            let (report, repeated) = rounds::undisturbed(|| self.load(chain), |report| report.errors)?;
            Ok(LoadReport { repeated, ..report })
        })?;
        turns.iter().zip(&all).map(|((chain, again), pieces)| self.sample(chain, *again, pieces)).collect()
    }

    fn load(&self, chain: &Chain) -> Result<LoadReport, BenchError> {
        let spec = LoadSpec {
            cpu: LOAD_CPU,
            target: chain.target(),
            exchange: Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL },
            connections: CONNECTIONS,
            rate: Some(RATE),
            warm_up_ms: self.plan.warm_up_ms,
            measure_ms: self.plan.fixed_ms / 2 / self.plan.slices,
            watch: chain.pids(),
            manner: Manner::default(),
        };
        let before = chain.carried()?;
        let report = rounds::finish_load(chain.client().start(role::command("load", &spec)?)?, &spec)?;
        if let Some(before) = before {
            rounds::check_counted(chain.kind, ("requests", report.exchanges_in_all), &report, || {
                chain.carried().ok().flatten().unwrap_or(0).saturating_sub(before)
            })?;
        }
        Ok(report)
    }

    fn sample(&self, chain: &Chain, again: bool, pieces: &Pieces) -> Result<Sample, BenchError> {
        let mut sample = Sample {
            case: self.case.to_owned(),
            subject: chain.kind.name().to_owned(),
            round: self.round,
            again,
            rps: pieces.median(LoadReport::per_second),
            rate_per_second: RATE,
            cpu_us_per_request: pieces.median(LoadReport::cpu_us),
            load_cpu_us_per_request: pieces.median(LoadReport::own_cpu_us),
            errors: pieces.errors(),
            first_error: pieces.first_error(),
            repeated: pieces.repeated(),
            ..Sample::default()
        };
        rounds::set_latencies(&mut sample, pieces);
        rounds::add_memory(&mut sample, &chain.pids())?;
        Ok(sample)
    }
}

/// One request with words of its own, and what passes meanwhile: the wire between the nodes, or all links of the one node.
fn seen(chain: &Chain, case: &str, along: Along) -> Result<WireCheck, BenchError> {
    let name = chain.kind.name();
    let here = chain.nodes().here();
    let target = chain.target();
    let call = || {
        let answered = chain.client().run(move || wire::get(target))?;
        answered.map_err(|e| BenchError::io(format!("call through {name} for the capture"), e))
    };
    let mut check = if along == Along::OtherNode {
        let capture = Capture::start(here)?;
        call()?;
        wire::summary(name, chain.first(), &capture.finish()?)
    } else {
        let capture = Capture::frames(here)?;
        call()?;
        wire::of_frames(name, &capture.finish()?)
    };
    // On one node, a node's proxy may leave out what nobody could listen to.
    let must_not = match chain.kind.mesh() {
        None => false,
        Some(Mesh::CanopyNode | Mesh::EnvoyNode) => along == Along::OtherNode,
        Some(_) => true,
    };
    let is_wrong =
        (must_not && check.payload_readable) || (!chain.kind.has_proxy() && !check.payload_readable);
    if is_wrong {
        return Err(BenchError::Wire { subject: name.into(), seen: serde_json::to_string(&check)? });
    }
    check.subject = format!("{name}, {case}");
    Ok(check)
}

const NAME: &str = "compare-hops";
const CASES: [(&str, usize, Along); 6] = [
    ("hops-1-other-node", 1, Along::OtherNode),
    ("hops-2-other-node", 2, Along::OtherNode),
    ("hops-5-other-node", 5, Along::OtherNode),
    ("hops-1-same-node", 1, Along::SameNode),
    ("hops-2-same-node", 2, Along::SameNode),
    ("hops-5-same-node", 5, Along::SameNode),
];
/// Requests a second: less than a chain of five with two Envoys at each hop can carry on one CPU.
const RATE: f64 = 200.0;
const CONNECTIONS: usize = 4;
const MOST_ROUNDS: usize = 3;
