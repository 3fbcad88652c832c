//! What the daemon has resident when idle, what a further workload and a further tenant add, and how soon after its
//! start a pod's request is answered through it.
//!
//! Differences of fresh daemons, divided by what was added; no load is run but the first request.

use std::{net::SocketAddr, thread, time::Duration};

use testkit::Pod;

use super::Plan;
use crate::{
    Run,
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{Backends, Port},
        procfs,
    },
    outcome::{Row, median},
    subject::{Canopy, Kind, Launch, Manifests, NEAR, PodEntry, Setting},
};

/// Rows `idle`, `workload`, `tenant` (bytes resident) and `start` (microseconds).
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Vec<Row>, BenchError> {
    let setting = run.setting("memory")?;
    let nodes = Nodes::one()?;
    let node = nodes.here();
    let server = lab::pod(node, "bench", "server")?;
    let client = lab::pod(node, "bench", "client")?;
    let _backends = Backends::start(&server, &setting.directory.join("backends"))?;
    let mut others = Vec::new();
    for number in 0..FURTHER {
        others.push(lab::pod(node, "bench", &format!("further{number}"))?);
    }
    let scene = Scene { nodes, server, client, others, setting: &setting, plan };
    let mut found = Found::default();
    for round in 0..plan.rounds {
        for (shape, name) in
            [(Shape::Alone, "alone"), (Shape::Workloads, "workloads"), (Shape::Tenants, "tenants")]
        {
            run.check_interrupt()?;
            run.progress(&format!("memory: round {} of {}, {name}", round + 1, plan.rounds));
            let (rss, start) = scene.measure(shape)?;
            found.add(shape, rss, start);
        }
    }
    Ok(found.rows())
}

/// What a daemon carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One tenant with a client and a server.
    Alone,
    /// The same tenant with [`FURTHER`] more workloads.
    Workloads,
    /// As many more workloads, each a tenant of its own.
    Tenants,
}

struct Scene<'a> {
    nodes: Nodes,
    server: Pod,
    client: Pod,
    others: Vec<Pod>,
    setting: &'a Setting,
    plan: Plan,
}

impl Scene<'_> {
    /// Bytes resident, and nanoseconds to the first answer.
    fn measure(&self, shape: Shape) -> Result<(u64, u64), BenchError> {
        let manifests = self.manifests(shape);
        let (kind, node) = (Kind::Canopy, self.nodes.here());
        let launch = Launch { name: kind.name(), node, called: NEAR, kind, manifests: &manifests };
        let mut canopy = Canopy::start(&launch, self.setting)?;
        let target = SocketAddr::from((crate::subject::VIP, Port::Http.number()));
        let start = canopy.first_answer(&self.client, target)?;
        canopy.wait_enrolled(if shape == Shape::Alone { 2 } else { 2 + FURTHER as u64 })?;
        thread::sleep(Duration::from_millis(self.plan.settle_ms));
        let memory =
            procfs::memory(canopy.pid()).map_err(|e| BenchError::io("read the daemon's memory", e))?;
        Ok((memory.rss, start))
    }

    fn manifests(&self, shape: Shape) -> Manifests {
        let mut manifests = Manifests::default();
        manifests.tenant("bench");
        manifests.pod(&PodEntry::of(&self.client));
        manifests.pod(&PodEntry::of(&self.server));
        manifests.service(&PodEntry::of(&self.server));
        for (number, pod) in self.others.iter().enumerate() {
            let mut entry = PodEntry::of(pod);
            match shape {
                Shape::Alone => continue,
                Shape::Workloads => {}
                Shape::Tenants => {
                    entry.namespace = format!("bench{number}");
                    manifests.tenant(&entry.namespace);
                }
            }
            manifests.pod(&entry);
        }
        manifests
    }
}

#[derive(Default)]
struct Found {
    alone: Vec<f64>,
    workloads: Vec<f64>,
    tenants: Vec<f64>,
    starts: Vec<f64>,
}

impl Found {
    fn add(&mut self, shape: Shape, rss: u64, start: u64) {
        let list = match shape {
            Shape::Alone => {
                self.starts.push(start as f64 / 1e3);
                &mut self.alone
            }
            Shape::Workloads => &mut self.workloads,
            Shape::Tenants => &mut self.tenants,
        };
        list.push(rss as f64);
    }

    fn rows(&self) -> Vec<Row> {
        let row =
            |case: &str| Row { case: case.into(), subject: Kind::Canopy.name().into(), ..Row::default() };
        let each = |with: &[f64]| {
            let more: Vec<f64> =
                with.iter().zip(&self.alone).map(|(w, a)| (w - a) / FURTHER as f64).collect();
            median(&more)
        };
        vec![
            Row { rss_bytes: median(&self.alone), ..row("idle") },
            Row { rss_bytes: each(&self.workloads), ..row("workload") },
            Row { rss_bytes: each(&self.tenants), ..row("tenant") },
            Row { p50_us: median(&self.starts), rss_bytes: 0.0, ..row("start") },
        ]
    }
}

/// Workloads or tenants that are added.
const FURTHER: usize = 20;
