//! Wiring: what the daemon's parts are asked by its admin socket and its metrics. No logic of its own.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use config::{
    name::{ClusterDomain, TenantId},
    store::Options,
};
use ebpf_redirect::{Counter, FencedPod, kernel::Trace};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    admin::{
        Subject,
        configuration::{Configuration, Reading},
    },
    control::{
        Status,
        discovery::client::{Demand, Standing},
    },
    explain::{self, Ask, World, told::Explanation},
    forest::{ForestHandle, Phase, costs::NodeCosts, describe::ForestDescription},
    mode::{hours::Hours, steering::Steering},
    sys::clock,
    telemetry::{
        events::LeftOut,
        gate::Waits,
        metrics::{self, Readings},
    },
    tenancy::{Balance, Ledger, Row, Told, showback::Hour},
};

mod unused;

/// What a running daemon is made of, as far as it is asked about.
#[derive(Debug)]
pub struct Daemon {
    /// Its cells and trees.
    pub forest: ForestHandle,
    /// What there is to say about its configuration.
    pub status: Arc<Status>,
    /// How connections come to it.
    pub steering: Steering,
    /// What was used per hour.
    pub hours: Hours,
    /// Lines of the access log that were dropped.
    pub access_log_dropped: Arc<AtomicU64>,
    /// Where its configuration comes from.
    pub origin: Arc<Origin>,
    /// How it stands with its control plane, if it has one.
    pub discovery: Option<Arc<Standing>>,
    /// By what it asks its control plane for one thing after the other, if it does.
    pub demand: Option<Demand>,
    /// What its gate counts, if it has one.
    pub gate: Option<Waits>,
    /// Events that it does not write, if it is to write any.
    pub events: Option<Arc<LeftOut>>,
    /// Whether it is there for one pod, and not ready before that is carried.
    pub is_sidecar: bool,
}

/// Where a daemon's configuration comes from, and how it is read.
#[derive(Debug)]
pub struct Origin {
    /// The daemon's instance.
    pub instance: String,
    /// The directory.
    pub directory: PathBuf,
    /// How its files are read.
    pub reading: Options,
    /// What the names of Services end in.
    pub domain: ClusterDomain,
}

impl Subject for Daemon {
    fn tree(&self) -> BoxFuture<'static, ForestDescription> {
        let forest = self.forest.clone();
        Box::pin(async move { forest.describe().await })
    }

    fn costs(&self, tenant: Option<&str>) -> NodeCosts {
        self.forest.costs(tenant)
    }

    fn events(&self, after: u64, tenant: Option<&str>) -> Told {
        self.forest.events(after, tenant)
    }

    fn showback(&self, since: u64, tenant: Option<&str>) -> Vec<Hour> {
        self.hours.since(since, tenant)
    }

    fn status(&self) -> serde_json::Value {
        let mut status = self.status.to_json();
        if let Some(discovery) = &self.discovery {
            status["discovery"] = discovery.to_json(SystemTime::now());
        }
        status
    }

    fn objects(&self, tenant: Option<&str>) -> serde_json::Value {
        self.status.objects(tenant)
    }

    fn explain(&self, ask: Ask) -> BoxFuture<'static, Result<Explanation, String>> {
        let (forest, status, origin) =
            (self.forest.clone(), Arc::clone(&self.status), Arc::clone(&self.origin));
        let demand = self.demand.clone();
        Box::pin(async move {
            let question = ask.question().map_err(|error| error.to_string())?;
            if let Some(demand) = &demand {
                unused::ask(demand, &question, &origin.domain).await?;
            }
            let waiting = forest.describe().await.waiting.into_iter();
            let waiting = waiting.map(|waiting| (waiting.pod, waiting.problem)).collect();
            let in_force = status.in_force();
            let world = World {
                mesh: &in_force.mesh,
                snapshots: &in_force.snapshots,
                basis: &in_force.basis,
                waiting: &waiting,
                node: origin.reading.node.as_ref(),
                domain: &origin.domain,
            };
            explain::explain(world, &question).map_err(|error| error.to_string())
        })
    }

    fn configuration(&self) -> Result<Vec<u8>, String> {
        let in_force = self.status.in_force();
        let told = Configuration {
            instance: self.origin.instance.clone(),
            directory: self.origin.directory.clone(),
            reading: Reading::from(&self.origin.reading),
            mesh: Arc::clone(&in_force.mesh),
            basis: in_force.basis.clone(),
            said: self.status.said(),
        };
        told.to_bytes().map_err(|error| error.to_string())
    }

    fn trace(&self, pod: Option<String>) -> Result<mpsc::Receiver<Bytes>, String> {
        let decisions = self.steering.trace(pod)?;
        let (lines, receiver) = mpsc::channel(TRACE_LINES);
        let follow = move || {
            while pass_on(&decisions, &lines) {}
            clock::ends();
        };
        let builder = thread::Builder::new().name("trace".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(follow).map_err(|error| format!("no thread for it: {error}"))?;
        Ok(receiver)
    }
}

/// Waits for one decision; `false` when nobody listens any more.
fn pass_on(decisions: &Trace, lines: &mpsc::Sender<Bytes>) -> bool {
    let Some(decision) = decisions.next(TRACE_PATIENCE) else { return !lines.is_closed() };
    let line = serde_json::json!({
        "at": decision.at.as_secs_f64(),
        "hook": decision.hook,
        "verdict": decision.event,
        "netns": decision.netns,
        "pod": decision.pod.as_deref(),
        "source": decision.source,
        "destination": decision.destination,
    });
    // A reader that is slow is waited for; the ring drops meanwhile, and counts.
    lines.blocking_send(Bytes::from(format!("{line}\n"))).is_ok()
}

impl Readings for Daemon {
    fn ledgers(&self) -> Vec<(TenantId, Arc<Ledger>)> {
        self.forest.ledgers()
    }

    fn hooks(&self) -> Vec<Counter> {
        self.steering.redirect().counters().unwrap_or_default()
    }

    fn fences(&self) -> Vec<FencedPod> {
        self.steering.redirect().fences().unwrap_or_default()
    }

    fn access_log_dropped(&self) -> u64 {
        self.access_log_dropped.load(Relaxed)
    }

    fn rows(&self) -> Vec<Arc<Row>> {
        self.forest.rows()
    }

    fn balance(&self) -> Balance {
        self.forest.balance()
    }

    fn configuration(&self) -> metrics::Configuration {
        let (version, planted, waiting) = self.forest.standing();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        metrics::Configuration {
            version,
            rejected: count(self.status.rejected()),
            rejected_objects: self.status.rejected_objects(),
            age: self.status.since().and_then(|since| since.elapsed().ok()),
            workloads: count(planted),
            workloads_failed: count(waiting),
        }
    }

    fn discovery(&self) -> Option<metrics::Discovery> {
        self.discovery.as_ref().map(|discovery| discovery.to_metrics())
    }

    fn events(&self) -> Option<Arc<LeftOut>> {
        self.events.clone()
    }

    fn gate(&self) -> Option<Waits> {
        self.gate.clone()
    }

    fn is_ready(&self) -> bool {
        let (_, planted, _) = self.forest.standing();
        self.forest.phase() == Phase::Ready && self.steering.is_settled() && (planted > 0 || !self.is_sidecar)
    }
}

/// Lines that may wait for a watcher.
const TRACE_LINES: usize = 256;
/// How often a trace looks whether anybody still listens.
const TRACE_PATIENCE: Duration = Duration::from_millis(200);
/// Enough for one line.
const STACK_BYTES: usize = 256 * 1024;
