//! What the daemon has resident when idle, what a further workload and a further tenant add, and how soon after its
//! start a pod's request is answered through it.
//!
//! Differences of fresh daemons, divided by what was added; no load is run but the first request.

use super::{
    Plan,
    idle::{self, Further, Scene},
};
use crate::{
    Run,
    error::BenchError,
    lab::procfs,
    outcome::{Row, median},
    subject::Kind,
};

/// Rows `idle`, `workload`, `tenant` (bytes resident) and `start` (microseconds).
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Vec<Row>, BenchError> {
    let setting = run.setting("memory")?;
    let scene = Scene::new(&setting, plan, FURTHER)?;
    let mut found = Found::default();
    for round in 0..plan.rounds {
        for (shape, name) in
            [(Shape::Alone, "alone"), (Shape::Workloads, "workloads"), (Shape::Tenants, "tenants")]
        {
            run.check_interrupt()?;
            run.progress(&format!("memory: round {} of {}, {name}", round + 1, plan.rounds));
            let (canopy, start) = scene.daemon(Kind::Canopy, shape.further())?;
            let memory = procfs::memory(canopy.pid());
            found.add(shape, memory.map_err(|e| BenchError::io("read the daemon's memory", e))?.rss, start);
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

impl Shape {
    fn further(self) -> Option<&'static Further> {
        match self {
            Self::Alone => None,
            Self::Workloads => Some(&|manifests, _, entry| manifests.pod(&entry)),
            Self::Tenants => Some(&|manifests, number, entry| drop(idle::tenant(manifests, number, entry))),
        }
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
