//! The scenario `compare-resources`: what a mesh takes of a machine as pods and tenants grow, idle and at one rate for all together.
//!
//! CPU time is the proxies' as the scheduler counts it, and the whole machine's, so that nothing hides in the kernel. Memory is PSS
//! and what sockets hold. A size for which this machine has not the memory is left out, and said.

use std::{collections::BTreeMap, thread, time::Duration};

use super::{kinds, rounds, settings, summary};
use crate::{
    Run, clock,
    error::BenchError,
    lab::{LOAD_CPU, backends::SMALL, procfs, procfs::Ran},
    load::{Exchange, LoadReport, LoadSpec, Manner},
    outcome::{Further, Outcome, Sample},
    role,
    scenario::Plan,
    subject::{
        Kind, Mesh, Setting, Sharing,
        fleet::{Fleet, Size},
    },
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let mut outcome = run.empty_outcome(NAME, plan);
    outcome.rounds = plan.rounds.min(MOST_ROUNDS);
    let mut samples = Vec::new();
    let mut left_out = Vec::new();
    for round in 0..outcome.rounds {
        for size in sizes(plan).into_iter().filter(|size| run.asks_for("", &case(*size, IDLE))) {
            let mut kinds: Vec<Kind> =
                kinds(Sharing::Shared).into_iter().filter(|k| run.asks_for(k.name(), "")).collect();
            let first = round % kinds.len().max(1);
            kinds.rotate_left(first);
            for kind in kinds {
                run.check_interrupt()?;
                let name = kind.name();
                let Size { pods, tenants } = size;
                run.progress(&format!(
                    "{NAME}: round {} of {}, {pods} pods on each node, {tenants} tenants, {name}",
                    round + 1,
                    outcome.rounds
                ));
                if let Some(why) = does_not_fit(kind, size) {
                    run.progress(&why);
                    left_out.push(why);
                    continue;
                }
                let setting = run.setting(&format!("{NAME}/{name}"))?;
                match (Measurement { round, kind, size, plan, run }).all(&setting) {
                    Ok(measured) => samples.extend(measured),
                    Err(error @ (BenchError::Interrupted | BenchError::Bypassed { .. })) => {
                        return Err(error);
                    }
                    // Two hundred proxies may be too many for this machine in other ways: what was measured is kept.
                    Err(error) => {
                        run.progress(&format!("left out: {error}"));
                        left_out.push(failed(kind, size, &error));
                    }
                }
            }
        }
    }
    left_out.sort();
    left_out.dedup();
    outcome.provenance.settings = settings();
    outcome.provenance.settings["left_out"] = left_out.into();
    outcome.provenance.settings["watching"] =
        "a sidecar that finds no inotify instance left (fs.inotify.max_user_instances) looks at its directory every second".into();
    Ok(summary(outcome, samples, false))
}

/// One fleet's.
struct Measurement<'a> {
    round: usize,
    kind: Kind,
    size: Size,
    plan: Plan,
    run: &'a Run,
}

impl Measurement<'_> {
    /// Those that ratios are of are measured twice.
    fn all(&self, setting: &Setting) -> Result<Vec<Sample>, BenchError> {
        let fleet = Fleet::start(self.kind, self.size, setting)?;
        thread::sleep(Duration::from_millis(self.plan.settle_ms));
        let mut samples = Vec::new();
        let again: &[bool] = if self.kind.is_canopy() { &[false, true] } else { &[false] };
        for &again in again {
            self.run.check_interrupt()?;
            samples.push(Sample { again, ..self.idle(&fleet)? });
            samples.push(Sample { again, ..self.loaded(&fleet)? });
        }
        Ok(samples)
    }

    fn idle(&self, fleet: &Fleet) -> Result<Sample, BenchError> {
        let before = Used::now(fleet)?;
        thread::sleep(Duration::from_millis(if self.plan.quick { 1_000 } else { IDLE_MS }));
        let used = Used::now(fleet)?.since(&before);
        Ok(Sample { further: self.further(fleet, &used)?, ..self.sample(IDLE) })
    }

    fn loaded(&self, fleet: &Fleet) -> Result<Sample, BenchError> {
        let spec = LoadSpec {
            cpu: LOAD_CPU,
            target: ([127, 0, 0, 1], 1).into(),
            exchange: Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL },
            connections: self.size.pods.max(LEAST_CONNECTIONS),
            rate: Some(RATE),
            warm_up_ms: self.plan.warm_up_ms,
            measure_ms: if self.plan.quick { 1_000 } else { LOADED_MS },
            watch: Vec::new(),
            manner: Manner { places: fleet.places(), ..Manner::default() },
        };
        let (carried, before) = (fleet.carried()?, Used::now(fleet)?);
        let process = testkit::Process::start(fleet.home(), role::command("load", &spec)?)?;
        let report: LoadReport = rounds::finish_load(process, &spec)?;
        let used = Used::now(fleet)?.since(&before);
        if let Some(carried) = carried {
            let sent = ("requests", report.exchanges_in_all);
            rounds::check_counted(self.kind, sent, &report, || {
                fleet.carried().ok().flatten().unwrap_or(0).saturating_sub(carried)
            })?;
        }
        let further = self.further(fleet, &used)?;
        let micros = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        Ok(Sample {
            rps: report.per_second(),
            p50_us: micros(report.p50_ns),
            p99_us: micros(report.p99_ns),
            rate_per_second: RATE,
            cpu_us_per_request: micros(used.proxies_ns) / report.exchanges_in_all.max(1) as f64,
            load_cpu_us_per_request: report.own_cpu_us(),
            proxy_busy: used.proxies_ns as f64 / used.wall_ns.max(1) as f64,
            pss_bytes: further.memory_bytes - further.socket_bytes,
            errors: report.errors,
            first_error: report.first_error.clone(),
            further: Further { p90_us: micros(report.p90_ns), p999_us: micros(report.p999_ns), ..further },
            ..self.sample(LOADED)
        })
    }

    fn further(&self, fleet: &Fleet, used: &Spent) -> Result<Further, BenchError> {
        let sockets = fleet.sockets()?;
        let each_second = |nanoseconds: u64| nanoseconds as f64 / used.wall_ns.max(1) as f64 * 1e6;
        Ok(Further {
            nodes: 2,
            pods: self.size.pods as u64,
            tenants: self.size.tenants as u64,
            memory_bytes: (fleet.pss()? + sockets.bytes) as f64,
            socket_bytes: sockets.bytes as f64,
            sockets: sockets.count as f64,
            cpu_us_per_second: each_second(used.proxies_ns),
            machine_us_per_second: each_second(used.machine_ns),
            ..Further::default()
        })
    }

    fn sample(&self, state: &str) -> Sample {
        let (case, subject) = (case(self.size, state), self.kind.name().to_owned());
        Sample { case, subject, round: self.round, ..Sample::default() }
    }
}

/// What had been used at a moment.
struct Used {
    at: u64,
    rested_ns: u64,
    proxies: BTreeMap<u32, Ran>,
}

/// What was used between two.
struct Spent {
    wall_ns: u64,
    machine_ns: u64,
    proxies_ns: u64,
}

impl Used {
    fn now(fleet: &Fleet) -> Result<Self, BenchError> {
        let ran = |pid: u32| Ok((pid, Ran::of(pid)?));
        let proxies = fleet.pids().into_iter().map(ran).collect::<std::io::Result<_>>();
        let proxies = proxies.map_err(|e| BenchError::io("read the proxies' CPU time", e))?;
        Ok(Self { at: clock::now(), rested_ns: procfs::rested_ns(), proxies })
    }

    fn since(&self, before: &Self) -> Spent {
        let of = |(pid, now): (&u32, &Ran)| before.proxies.get(pid).map_or(0, |before| now.since(before));
        let wall_ns = self.at - before.at;
        let rested = self.rested_ns.saturating_sub(before.rested_ns);
        Spent {
            wall_ns,
            machine_ns: (wall_ns * procfs::cpus()).saturating_sub(rested),
            proxies_ns: self.proxies.iter().map(of).sum(),
        }
    }
}

/// What a reader is told of a fleet that could not be measured; the end of a log is for whoever ran it.
fn failed(kind: Kind, size: Size, error: &BenchError) -> String {
    let said = error.to_string();
    let said = said.split([';', '\n']).next().unwrap_or("");
    format!("{} with {} pods on each node of {} tenants: {said}", kind.name(), size.pods, size.tenants)
}

/// Why a fleet would not be measured but swapped, or the machine be out of memory.
fn does_not_fit(kind: Kind, size: Size) -> Option<String> {
    let needed = 2 * size.pods as u64 * each(kind);
    let available = procfs::available_bytes();
    (needed > available).then(|| {
        format!(
            "{} with {} pods on each node was left out: it may take {} MiB, and {} MiB are available",
            kind.name(),
            size.pods,
            needed >> 20,
            available >> 20
        )
    })
}

/// More than a pod's part of any mesh takes, in bytes.
fn each(kind: Kind) -> u64 {
    let mebibytes = match kind.mesh() {
        Some(Mesh::EnvoySidecar) => 72,
        Some(Mesh::CanopySidecar) => 40,
        _ => 8,
    };
    mebibytes << 20
}

fn sizes(plan: Plan) -> Vec<Size> {
    let sizes: &[(usize, usize)] = if plan.quick {
        &[(1, 1), (6, 3)]
    } else {
        &[(1, 1), (10, 1), (10, 10), (30, 1), (30, 10), (30, 30), (110, 10), (110, 30)]
    };
    sizes.iter().map(|(pods, tenants)| Size { pods: *pods, tenants: *tenants }).collect()
}

fn case(Size { pods, tenants }: Size, state: &str) -> String {
    format!("pods-{pods}-tenants-{tenants}-{state}")
}

const NAME: &str = "compare-resources";
const IDLE: &str = "idle";
const LOADED: &str = "loaded";
/// Of all pods together, in requests a second.
const RATE: f64 = 1_000.0;
/// One for each pod, and as many where there are fewer: nobody is to wait for a connection.
const LEAST_CONNECTIONS: usize = 16;
/// How long each is looked at.
const IDLE_MS: u64 = 6_000;
/// See [`IDLE_MS`].
const LOADED_MS: u64 = 6_000;
/// Memory differs less from round to round than anything else, and two hundred sidecars take a while to start.
const MOST_ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::bars;

    #[test]
    fn bars_are_of_sizes_that_are_measured() {
        let states = [IDLE, LOADED];
        let plan = Plan::new(false, None);
        let cases: Vec<String> =
            sizes(plan).into_iter().flat_map(|size| states.map(|state| case(size, state))).collect();
        let own: Vec<_> = bars::RATIOS.iter().filter(|bar| bar.scenario == NAME).collect();
        assert_eq!(own.len(), 8);
        for bar in own {
            assert!(cases.iter().any(|case| case == bar.case), "{}", bar.case);
        }
    }

    #[test]
    fn of_what_was_left_out_the_reason_is_told_and_no_log() {
        let error = BenchError::Load("no answer from pair 7; envoy: /home/one/log".into());
        let kind = Kind::Compared(Mesh::EnvoySidecar, Sharing::Shared);
        let said = failed(kind, Size { pods: 110, tenants: 30 }, &error);
        assert!(said.starts_with("envoy-sidecar with 110 pods on each node of 30 tenants"), "{said}");
        assert!(said.ends_with("no answer from pair 7"), "{said}");
    }

    #[test]
    fn a_row_says_its_size_its_rate_and_what_all_proxies_of_both_nodes_take() {
        let sample = |subject: &str, memory_bytes: f64| Sample {
            case: "pods-30-tenants-10-loaded".into(),
            subject: subject.into(),
            rate_per_second: RATE,
            further: Further { pods: 30, tenants: 10, nodes: 2, memory_bytes, ..Further::default() },
            ..Sample::default()
        };
        let samples = vec![sample("canopy-node", 50e6), sample("envoy-sidecar", 2e9)];
        let outcome = summary(Outcome::default(), samples, false);
        let row = serde_json::to_value(&outcome.rows[0]).unwrap();
        assert_eq!((&row["pods"], &row["tenants"], &row["nodes"]), (&30.into(), &10.into(), &2.into()));
        assert_eq!((&row["rate_per_second"], &row["memory_bytes"]), (&1_000.0.into(), &50e6.into()));
        let case = "pods-30-tenants-10-loaded";
        assert_eq!(
            outcome.ratio(case, "canopy-node", "envoy-sidecar", "memory_bytes").unwrap().median,
            0.025
        );
    }
}
