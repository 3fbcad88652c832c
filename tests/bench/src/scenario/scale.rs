//! The scenario `scale`: a control plane with 50,000 Services of 20 endpoints, and a node whose pods use 200 of them.
//!
//! No load but the first request to each of these. An endpoint changes that nobody has asked for, then one that the node has: what the
//! thread that serves nodes runs longer for the latter is what a change costs for an interested node.

use std::{net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use testkit::Pod;

use super::Plan;
use crate::{
    Run, clock,
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{Backends, Port, SMALL},
        procfs::{self, Ran},
    },
    load,
    outcome::{Outcome, Row, median},
    subject::{
        Canopy, Kind, Launch, Manifests, NEAR, PodEntry, Setting,
        control::{self, Control, Used},
        crowd::{Crowd, ENDPOINTS, Edited, Size},
    },
};

/// Runs the scenario; all it started has ended when it returns.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let setting = run.setting(NAME)?;
    let mut found = Found::default();
    for round in 0..plan.rounds {
        run.check_interrupt()?;
        let say =
            |what: &str| run.progress(&format!("{NAME}: round {} of {}, {what}", round + 1, plan.rounds));
        measure(&setting, plan, &say, &mut found)?;
    }
    Ok(Outcome { rows: found.rows(), ..run.empty_outcome(NAME, plan) })
}

fn measure(setting: &Setting, plan: Plan, say: &dyn Fn(&str), found: &mut Found) -> Result<(), BenchError> {
    let nodes = Nodes::one()?;
    let server = lab::pod(nodes.here(), OWNER, "server")?;
    let client = lab::pod(nodes.here(), OWNER, "client")?;
    let _backends = Backends::start(&server, &setting.directory.join("backends"))?;
    let servers = further_addresses(&server)?;
    let (manifests, of_node) =
        (setting.directory.join("mesh"), setting.directory.join(Kind::CanopyOnDemand.name()));
    say("writing manifests");
    // What another round has left there is the same, or about to be.
    let crowd = Crowd::write(&manifests, Size::of(plan.quick), &servers)?;
    own_pod(&manifests, &client)?;
    say("the control plane starts");
    let mut control = Control::start(nodes.here(), &manifests, &of_node, setting)?;
    found.start.push(control.ready()? as f64 / 1e3);
    found.control.push(rss(control.pid())?);
    say("a node dials 200 Services");
    let node = start_node(&nodes, &client, setting)?;
    thread::sleep(Duration::from_millis(plan.settle_ms));
    let before = rss(node.pid())?;
    dial(&client, &crowd)?;
    thread::sleep(Duration::from_millis(plan.settle_ms));
    found.node.push(rss(node.pid())? - before);
    let edits = if plan.quick { 4 } else { EDITS };
    for (edited, list) in [(Edited::Unasked, &mut found.unasked), (Edited::Dialled, &mut found.dialled)] {
        say(if edited == Edited::Unasked {
            "endpoints change that nobody asked for"
        } else {
            "endpoints change that the node has"
        });
        list.push(edit(&crowd, edited, &control, &node, edits)?);
    }
    Ok(())
}

/// What the control plane and the node have run for each of so many changes, in nanoseconds.
fn edit(
    crowd: &Crowd,
    edited: Edited,
    control: &Control,
    node: &Canopy,
    edits: u64,
) -> Result<Each, BenchError> {
    let ran = |pid| Ran::of(pid).map_err(|e| BenchError::io("read the node's CPU time", e));
    let (before, of_node) = (control.ran()?, ran(node.pid())?);
    for number in 0..edits {
        let version = control.version()?;
        crowd.edit(edited, number % 2 == 1)?;
        let is_served = || control.version().is_ok_and(|now| now > version);
        if !clock::wait_until(SERVED, is_served) {
            return Err(BenchError::Load(format!("change {number} was not served within {SERVED:?}")));
        }
        thread::sleep(TAKEN);
    }
    let Used { serving, all } = control.used(&before)?;
    let node = ran(node.pid())?.since(&of_node);
    let each = |nanoseconds: u64| nanoseconds as f64 / edits as f64 / 1e3;
    Ok(Each { serving: each(serving), all: each(all), node: each(node) })
}

/// A daemon that asks the control plane for what its pods dial.
fn start_node(nodes: &Nodes, client: &Pod, setting: &Setting) -> Result<Canopy, BenchError> {
    let mut manifests = Manifests::default();
    manifests.tenant(OWNER);
    manifests.pod(&PodEntry::of(client));
    let kind = Kind::CanopyOnDemand;
    let launch = Launch { name: kind.name(), node: nodes.here(), called: NEAR, kind, manifests: &manifests };
    let canopy = Canopy::start(&launch, setting)?;
    canopy.wait_enrolled(1)?;
    Ok(canopy)
}

/// Says to the control plane that the client is there.
fn own_pod(directory: &Path, client: &Pod) -> Result<(), BenchError> {
    let mut manifests = Manifests::default();
    manifests.tenant(OWNER);
    manifests.pod(&PodEntry::of(client));
    let path = directory.join("client.yaml");
    std::fs::write(&path, manifests.text())
        .map_err(|e| BenchError::io(format!("write {}", path.display()), e))
}

/// Addresses of the server's pod, as many as a Service has endpoints.
fn further_addresses(server: &Pod) -> Result<Vec<std::net::Ipv4Addr>, BenchError> {
    let addresses: Vec<_> =
        (FURTHER..).take(ENDPOINTS).map(|host| std::net::Ipv4Addr::new(10, 77, 0, host)).collect();
    server.run(|| {
        for address in &addresses {
            let added =
                Command::new("ip").args(["addr", "add", &format!("{address}/24"), "dev", "eth0"]).status();
            if !added.is_ok_and(|status| status.success()) {
                return Err(BenchError::Usage(format!("{address} cannot be added to the server's pod")));
            }
        }
        Ok(())
    })??;
    Ok(addresses)
}

/// One request to each Service that is dialled.
fn dial(client: &Pod, crowd: &Crowd) -> Result<(), BenchError> {
    let targets: Vec<SocketAddr> =
        crowd.dialled().map(|address| SocketAddr::from((address, Port::Http.number()))).collect();
    client.run(|| {
        let path = format!("/{SMALL}");
        let silent = targets.iter().find(|target| !load::is_answering(**target, &path, ANSWER));
        silent.map_or(Ok(()), |target| Err(BenchError::Load(format!("no answer from {target}"))))
    })?
}

fn rss(pid: u32) -> Result<f64, BenchError> {
    Ok(procfs::memory(pid).map_err(|e| BenchError::io("read a process's memory", e))?.rss as f64)
}

/// What a change costs, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Each {
    serving: f64,
    all: f64,
    node: f64,
}

#[derive(Debug, Default)]
struct Found {
    start: Vec<f64>,
    control: Vec<f64>,
    node: Vec<f64>,
    unasked: Vec<Each>,
    dialled: Vec<Each>,
}

impl Found {
    fn rows(&self) -> Vec<Row> {
        let row =
            |case: &str, subject: &str| Row { case: case.into(), subject: subject.into(), ..Row::default() };
        let node = Kind::CanopyOnDemand.name();
        let cpu = |list: &[Each], of: fn(&Each) -> f64| median(&list.iter().map(of).collect::<Vec<_>>());
        let more: Vec<f64> = self
            .dialled
            .iter()
            .zip(&self.unasked)
            // By less than the clock can tell, a row without a figure.
            .map(|(dialled, unasked)| (dialled.serving - unasked.serving).max(0.1))
            .collect();
        vec![
            Row { p50_us: median(&self.start), ..row("control-start", control::NAME) },
            Row { rss_bytes: median(&self.control), ..row("control-memory", control::NAME) },
            Row { cpu_us_per_request: cpu(&self.unasked, |each| each.all), ..row("change", control::NAME) },
            Row { cpu_us_per_request: median(&more), ..row("change-interested", control::NAME) },
            Row { cpu_us_per_request: cpu(&self.dialled, |each| each.node), ..row("change-node", node) },
            Row { rss_bytes: median(&self.node), ..row("node-200", node) },
        ]
    }
}

const NAME: &str = "scale";
/// The client's tenant.
const OWNER: &str = "bench";
/// The first of the further addresses of the server's pod; pods begin far below.
const FURTHER: u8 = 200;
/// Changes of each kind.
const EDITS: u64 = 20;
/// How long a change may take to be served.
const SERVED: Duration = Duration::from_secs(20);
/// How long a node that a change is of is given to take it in.
const TAKEN: Duration = Duration::from_millis(200);
/// How long a first request may take.
const ANSWER: Duration = Duration::from_secs(10);
