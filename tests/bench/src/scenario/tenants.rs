//! The scenario `tenants`: the same load on one daemon, spread over 1, 10, 50 and 100 tenants; and what an idle tenant costs.
//!
//! Each tenant has one pod, whose client dials its own Service: the connection goes through the daemon and back. One load
//! generator and one server work in all pods, so that only the daemon has more to switch between. Daemons of different
//! sizes take turns, round by round, on the same pods.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use testkit::Pod;

use super::{Plan, rounds};
use crate::{
    Run,
    error::BenchError,
    lab::{
        self, LOAD_CPU, Nodes,
        backends::{self, Port, SMALL},
        procfs,
    },
    load::{Exchange, LoadReport, LoadSpec, Manner, Place},
    outcome::{Outcome, Row, Sample, Samples, median, verdict::ONE},
    role,
    subject::{Canopy, Kind, Launch, Manifests, NEAR, PodEntry, Setting},
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let setting = run.setting(NAME)?;
    let nodes = Nodes::one()?;
    let sizes: Vec<usize> = SIZES.into_iter().filter(|size| wanted(run, *size).next().is_some()).collect();
    run.progress(&format!("{NAME}: making the pods"));
    let mut pods = Vec::new();
    for number in 0..sizes.iter().copied().max().unwrap_or(0) {
        pods.push(lab::pod(nodes.here(), &namespace(number), &format!("app{number}"))?);
    }
    let _web = backends::start_web(nodes.here().netns(), &pods)?;
    let scene = Scene { nodes, pods, setting: &setting, plan, run };
    let mut found = Found::default();
    for round in 0..plan.rounds {
        let mut order = sizes.clone();
        order.rotate_left(round % sizes.len().max(1));
        for size in order {
            run.check_interrupt()?;
            run.progress(&format!("{NAME}: round {} of {}, {size}", round + 1, plan.rounds));
            scene.measure(round, size, &mut found)?;
        }
    }
    Ok(found.outcome(run.empty_outcome(NAME, plan)))
}

/// What all tenants together do.
struct Load {
    /// Behind the name of the case.
    suffix: &'static str,
    connections: usize,
    /// Until all connections are made, at both ends.
    warm_up_ms: u64,
}

struct Scene<'a> {
    nodes: Nodes,
    pods: Vec<Pod>,
    setting: &'a Setting,
    plan: Plan,
    run: &'a Run,
}

impl Scene<'_> {
    /// A fresh daemon with so many tenants: its memory before any load, then twice the load.
    fn measure(&self, round: usize, size: usize, found: &mut Found) -> Result<(), BenchError> {
        let pods = &self.pods[..size];
        let mut manifests = Manifests::default();
        for (number, pod) in pods.iter().enumerate() {
            manifests.tenant(&namespace(number));
            manifests.pod(&PodEntry::of(pod));
            manifests.service_at(&PodEntry::of(pod), address(number));
        }
        let (name, node) = (case(size, &LOADS[0]), self.nodes.here());
        let launch = Launch { name: &name, node, called: NEAR, kind: Kind::Canopy, manifests: &manifests };
        let mut canopy = Canopy::start(&launch, self.setting)?;
        canopy.wait_enrolled(size as u64)?;
        canopy.first_answer(&pods[size - 1], service(size - 1))?;
        thread::sleep(Duration::from_millis(self.plan.settle_ms));
        let idle = memory(&canopy)?;
        found.idle.push((round, size, idle));
        for load in wanted(self.run, size) {
            for again in [false, true] {
                let closed = self.load(&canopy, pods, load, None)?;
                let rate = if self.plan.quick { QUICK_RATE } else { RATE };
                let open = self.load(&canopy, pods, load, Some(rate))?;
                let measured = sample(round, case(size, load), [&closed, &open], memory(&canopy)?);
                found.samples.push(Sample { again, ..measured });
            }
        }
        Ok(())
    }

    fn load(
        &self,
        canopy: &Canopy,
        pods: &[Pod],
        load: &Load,
        rate: Option<f64>,
    ) -> Result<LoadReport, BenchError> {
        let dialled = pods.iter().enumerate().map(|(number, pod)| place(pod, service(number)));
        let spec = LoadSpec {
            cpu: LOAD_CPU,
            target: service(0),
            exchange: Exchange::Http1 { path: format!("/{SMALL}"), body: SMALL },
            connections: load.connections,
            rate,
            warm_up_ms: load.warm_up_ms,
            measure_ms: if rate.is_some() { self.plan.open_ms } else { self.plan.closed_ms },
            watch: vec![canopy.pid()],
            manner: Manner { places: dialled.collect(), ..Manner::default() },
        };
        let before = canopy.carried(Port::Http)?;
        let process = testkit::Process::start(self.nodes.here().netns(), role::command("load", &spec)?)?;
        let report = rounds::finish_load(process, &spec)?;
        rounds::check_counted(Kind::Canopy, ("requests", report.exchanges_in_all), &report, || {
            canopy.carried(Port::Http).unwrap_or(0).saturating_sub(before)
        })?;
        Ok(report)
    }
}

fn sample(round: usize, case: String, [closed, open]: [&LoadReport; 2], memory: procfs::Memory) -> Sample {
    Sample {
        case,
        subject: Kind::Canopy.name().into(),
        round,
        rps: closed.per_second(),
        p50_closed_us: closed.p50_ns as f64 / 1e3,
        p99_closed_us: closed.p99_ns as f64 / 1e3,
        p50_us: open.p50_ns as f64 / 1e3,
        p99_us: open.p99_ns as f64 / 1e3,
        rate_per_second: open.per_second().round(),
        cpu_us_per_request: closed.cpu_us(),
        load_cpu_us_per_request: closed.own_cpu_us(),
        proxy_busy: closed.watched_cpu_ns as f64 / closed.elapsed_ns.max(1) as f64,
        rss_bytes: memory.rss as f64,
        pss_bytes: memory.pss as f64,
        errors: closed.errors + open.errors,
        first_error: closed.first_error.clone().or_else(|| open.first_error.clone()),
        ..Sample::default()
    }
}

#[derive(Default)]
struct Found {
    samples: Vec<Sample>,
    /// Round, tenants, memory before any load.
    idle: Vec<(usize, usize, procfs::Memory)>,
}

impl Found {
    fn outcome(self, mut outcome: Outcome) -> Outcome {
        let subject = Kind::Canopy.name();
        let measured = Samples(self.samples.clone());
        let compared = Samples(with_references(&self.samples));
        for case in LOADS.iter().flat_map(|load| SIZES.map(|size| case(size, load))) {
            if self.samples.iter().any(|sample| sample.case == case) {
                outcome.rows.push(measured.row(&case, subject));
            }
            outcome.ratios.extend(compared.ratios(&case, subject, subject));
            outcome.ratios.extend(compared.ratios(&case, subject, &format!("{subject}{ONE}")));
        }
        outcome.rows.extend(self.idle_row());
        outcome.samples = self.samples;
        outcome
    }

    /// What each tenant adds to the memory of a daemon that has carried nothing but one request.
    fn idle_row(&self) -> Option<Row> {
        let [least, .., most] = SIZES;
        let of = |round: usize, size: usize| {
            self.idle
                .iter()
                .find(|(r, s, _)| *r == round && *s == size)
                .map(|(_, _, memory)| memory.rss as f64)
        };
        let rounds = self.idle.iter().filter(|(_, size, _)| *size == most);
        let each: Vec<f64> = rounds
            .filter_map(|(round, ..)| Some((of(*round, most)? - of(*round, least)?) / (most - least) as f64))
            .collect();
        let (case, subject) = ("idle-tenant".to_owned(), Kind::Canopy.name().to_owned());
        (!each.is_empty()).then(|| Row { case, subject, rss_bytes: median(&each), ..Row::default() })
    }
}

/// The samples, and beside those of many tenants what one tenant did in the same round.
fn with_references(samples: &[Sample]) -> Vec<Sample> {
    let mut all = samples.to_vec();
    for load in &LOADS {
        let one = case(SIZES[0], load);
        for reference in samples.iter().filter(|sample| sample.case == one && !sample.again) {
            for size in &SIZES[1..] {
                let subject = format!("{}{ONE}", reference.subject);
                all.push(Sample { case: case(*size, load), subject, ..reference.clone() });
            }
        }
    }
    all
}

fn memory(canopy: &Canopy) -> Result<procfs::Memory, BenchError> {
    procfs::memory(canopy.pid()).map_err(|e| BenchError::io("read the daemon's memory", e))
}

/// The loads that are asked for with so many tenants.
fn wanted(run: &Run, size: usize) -> impl Iterator<Item = &'static Load> {
    LOADS.iter().filter(move |load| run.asks_for("", &case(size, load)))
}

fn case(size: usize, load: &Load) -> String {
    format!("{NAME}-{size}{}", load.suffix)
}

fn namespace(number: usize) -> String {
    format!("tenant{number}")
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 1, u8::try_from(number + 1).unwrap_or(u8::MAX))
}

fn service(number: usize) -> SocketAddr {
    SocketAddr::from((address(number), Port::Http.number()))
}

fn place(pod: &Pod, target: SocketAddr) -> Place {
    Place { netns: pod.netns_path().to_owned(), target }
}

pub(crate) const NAME: &str = "tenants";
const SIZES: [usize; 4] = [1, 10, 50, 100];
/// Of 100 tenants, each has one connection, whose requests come one by one; or ten.
static LOADS: [Load; 2] = [
    Load { suffix: "", connections: 100, warm_up_ms: 300 },
    Load { suffix: "-busy", connections: 1_000, warm_up_ms: 1_500 },
];
/// Requests per second of all tenants together, for latency.
const RATE: f64 = 10_000.0;
/// The same where it is only to be seen that all works.
const QUICK_RATE: f64 = 300.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tenants_are_compared_with_one_of_the_same_round_and_idle_ones_with_one_idle() {
        let mut found = Found::default();
        for round in 0..3 {
            for (size, rps) in [(1, 50_000.0), (100, 45_000.0)] {
                let subject = Kind::Canopy.name().to_owned();
                found.samples.push(Sample {
                    case: case(size, &LOADS[0]),
                    subject,
                    round,
                    rps,
                    ..Sample::default()
                });
                let rss = 20_000_000 + size as u64 * 500_000;
                found.idle.push((round, size, procfs::Memory { rss, pss: rss, private: rss }));
            }
        }
        let outcome = found.outcome(Outcome::default());
        let ratio = outcome.ratio("tenants-100", "canopy-node", "canopy-node-one", "rps").unwrap();
        assert!((ratio.median - 0.9).abs() < 1e-9, "{ratio:?}");
        let idle = outcome.rows.iter().find(|row| row.case == "idle-tenant").unwrap();
        assert!((idle.rss_bytes - 500_000.0).abs() < 1.0, "{idle:?}");
        assert_eq!(outcome.rows.len(), 3);
    }
}
