//! The scenario `denials`: what it costs to refuse a client that is denied by its network, in the fence and in user space.
//!
//! The client is a pod that is not in the mesh. The same daemon, the same policy; in user space, its rule asks for an identity, too, which no
//! fence can judge. CPU time is the daemon's and the client's together, since the client's CPU does the kernel's work at both ends of
//! the link. A client that was not refused, or not where it was to be, is an error.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Plan, idle::Scene};
use crate::{
    Run,
    error::BenchError,
    lab::{LOAD_CPU, backends::Port, procfs},
    outcome::{Outcome, Sample, Samples},
    role::{self, KnockSpec, Knocked},
    subject::{Canopy, Judge, Kind},
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let setting = run.setting(NAME)?;
    let scene = Scene::new(&setting, plan, 1)?;
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        for again in [false, true] {
            for judge in JUDGES {
                run.check_interrupt()?;
                let kind = Kind::CanopyDenying(judge);
                run.progress(&format!("{NAME}: round {} of {}, {}", round + 1, plan.rounds, kind.name()));
                let canopy = scene.denying(kind, judge)?;
                samples.push(Sample { round, again, ..measure(&scene, &canopy, judge, plan)? });
            }
        }
    }
    Ok(outcome(run.empty_outcome(NAME, plan), Samples(samples)))
}

fn measure(scene: &Scene<'_>, canopy: &Canopy, judge: Judge, plan: Plan) -> Result<Sample, BenchError> {
    let knocks = if plan.quick { KNOCKS / 10 } else { KNOCKS };
    knock(scene, knocks / 10)?;
    let used = || procfs::cpu_ns(canopy.pid()).map_err(|e| BenchError::io("read the daemon's CPU time", e));
    let (counted, before) = (refused(canopy, judge)?, used()?);
    let knocked = knock(scene, knocks)?;
    let daemon = used()? - before;
    let refused = refused(canopy, judge)? - counted;
    let each = |nanoseconds: u64| nanoseconds as f64 / 1e3 / knocks as f64;
    Ok(Sample {
        case: CASE.into(),
        subject: Kind::CanopyDenying(judge).name().into(),
        rps: knocks as f64 * 1e9 / knocked.wall_ns as f64,
        rate_per_second: PER_SECOND as f64,
        cpu_us_per_request: each(daemon + knocked.cpu_ns),
        load_cpu_us_per_request: each(knocked.cpu_ns),
        proxy_busy: daemon as f64 / knocked.wall_ns as f64,
        errors: knocks.saturating_sub(refused),
        first_error: (refused < knocks)
            .then(|| format!("{refused} of {knocks} were refused where they were to be")),
        ..Sample::default()
    })
}

fn knock(scene: &Scene<'_>, knocks: u64) -> Result<Knocked, BenchError> {
    // Of opaque bytes, where a refusal waits for nothing: HTTP's is an answer to a request.
    let target = SocketAddr::new(IpAddr::V4(scene.server().v4()), Port::Echo.number());
    let spec = KnockSpec { cpu: LOAD_CPU, target, knocks, per_second: PER_SECOND };
    let mut dialler = scene.stranger().start(role::command("knock", &spec)?)?;
    dialler.wait(LIMIT);
    Ok(serde_json::from_str(dialler.output().trim())?)
}

/// How many have been refused so far where they are to be.
fn refused(canopy: &Canopy, judge: Judge) -> Result<u64, BenchError> {
    match judge {
        Judge::Fence => canopy.count("canopy_fence_packets_total", "reason=\"denied\""),
        Judge::UserSpace => canopy.count("canopy_refused_total", "reason=\"policy_denied\""),
    }
}

fn outcome(empty: Outcome, samples: Samples) -> Outcome {
    let names = JUDGES.map(|judge| Kind::CanopyDenying(judge).name());
    let rows = names.iter().map(|name| samples.row(CASE, name)).collect();
    let pairs = names.iter().flat_map(|of| names.iter().map(move |to| (of, to)));
    let ratios = pairs.flat_map(|(of, to)| samples.ratios(CASE, of, to)).collect();
    Outcome { rows, ratios, samples: samples.0, ..empty }
}

const NAME: &str = "denials";
const CASE: &str = "refused";
const JUDGES: [Judge; 2] = [Judge::Fence, Judge::UserSpace];
/// Connections that are tried, and how many of them a second: well below what either can refuse.
const KNOCKS: u64 = 20_000;
const PER_SECOND: u64 = 5_000;
/// How long they may take in all.
const LIMIT: Duration = Duration::from_secs(60);
