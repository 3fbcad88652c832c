//! What a tunnel costs that nobody uses, on either side of it; and what ten thousand idle connections of an application
//! cost through one pair of daemons.
//!
//! Two nodes of [`PODS`] pods each: every client calls every server once, which leaves a tunnel for each pair. The
//! figure is what the daemons' memory grows by from the first tunnel of each pod to all of them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use testkit::{Pod, Process};

use super::Plan;
use crate::{
    Run, clock,
    error::BenchError,
    lab::{
        self, LOAD_CPU, Nodes,
        backends::{self, Port},
        procfs,
    },
    outcome::{Row, median},
    role,
    subject::{Canopy, FAR, Kind, Launch, Manifests, NEAR, PodEntry, Setting, Sharing, Subject},
};

/// Rows `tunnel-client`, `tunnel-server` and `idle-client`, `idle-server`: bytes resident.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Vec<Row>, BenchError> {
    let mut found: [Vec<f64>; 4] = Default::default();
    let rounds = plan.rounds.min(ROUNDS);
    for round in 0..rounds {
        run.check_interrupt()?;
        run.progress(&format!("mtls: round {} of {rounds}, memory of idle tunnels", round + 1));
        let [client, server] = tunnels(plan, &run.setting("mtls/tunnels")?)?;
        run.progress(&format!("mtls: round {} of {rounds}, {HELD} idle connections", round + 1));
        let [near, far] = held(plan, &run.setting("mtls/idle")?)?;
        for (list, bytes) in found.iter_mut().zip([client, server, near, far]) {
            list.push(bytes);
        }
    }
    let cases = ["tunnel-client", "tunnel-server", "idle-client", "idle-server"];
    let subject = Kind::CanopyPair(Sharing::Shared).name();
    Ok(cases
        .iter()
        .zip(&found)
        .map(|(case, bytes)| Row {
            case: (*case).into(),
            subject: subject.into(),
            rss_bytes: median(bytes),
            ..Row::default()
        })
        .collect())
}

/// Bytes that each daemon has resident for a tunnel more.
fn tunnels(plan: Plan, setting: &Setting) -> Result<[f64; 2], BenchError> {
    let nodes = Nodes::two()?;
    let clients = pods(nodes.here(), "client")?;
    let servers = pods(nodes.there()?, "server")?;
    let mut _backends = Vec::new();
    for server in &servers {
        _backends.push(backends::start_tcp(server)?);
    }
    let mut manifests = Manifests::default();
    manifests.tenant("bench");
    clients.iter().for_each(|pod| manifests.pod(&PodEntry::of(pod)));
    servers.iter().for_each(|pod| manifests.pod(&PodEntry::of(pod).on(FAR)));
    let daemon = |name, node, called| {
        let kind = Kind::CanopyPair(Sharing::Shared);
        Canopy::start(&Launch { name, node, called, kind, manifests: &manifests }, setting)
    };
    let daemons = [daemon("near", nodes.here(), NEAR)?, daemon("far", nodes.there()?, FAR)?];
    for daemon in &daemons {
        daemon.wait_enrolled(PODS as u64)?;
    }
    // A daemon lets go of its code soon after it has started: what the first tunnels fetch again is not what a tunnel costs.
    thread::sleep(Duration::from_millis(plan.settle_ms));
    for (client, server) in clients.iter().zip(&servers) {
        call(client, &[server])?;
    }
    let before = resident(plan, &daemons)?;
    let all: Vec<&Pod> = servers.iter().collect();
    for client in &clients {
        call(client, &all)?;
        let counted = client.run(|| procfs::established_to(TUNNELS))? as u64;
        if counted != PODS as u64 {
            return Err(BenchError::Held { what: "tunnels of a pod", counted, expected: PODS as u64 });
        }
    }
    let after = resident(plan, &daemons)?;
    let more = (PODS * (PODS - 1)) as f64;
    Ok([0, 1].map(|side| (after[side] as f64 - before[side] as f64) / more))
}

/// Bytes that each daemon has resident when it carries [`HELD`] idle connections.
fn held(plan: Plan, setting: &Setting) -> Result<[f64; 2], BenchError> {
    let nodes = Nodes::two()?;
    let subject = Subject::start(Kind::CanopyPair(Sharing::Crowd), &nodes, setting)?;
    let spec = role::HoldSpec { cpu: LOAD_CPU, target: subject.target(Port::Echo), connections: HELD };
    let mut holder: Process = subject.client.start(role::command("hold", &spec)?)?;
    let stands =
        clock::wait_until(OPENING, || holder.output().starts_with(role::HOLDING) || holder.has_ended());
    if !stands || !holder.output().starts_with(role::HOLDING) {
        return Err(BenchError::Load(format!("{HELD} connections did not stand: {}", holder.output())));
    }
    thread::sleep(Duration::from_millis(plan.settle_ms));
    let pids = subject.pids();
    let bytes = |side: usize| {
        let memory = procfs::memory(pids[side]).map_err(|e| BenchError::io("read a daemon's memory", e))?;
        Ok::<f64, BenchError>(memory.rss as f64)
    };
    Ok([bytes(0)?, bytes(1)?])
}

fn pods(node: &testkit::Node, role: &str) -> Result<Vec<Pod>, BenchError> {
    (0..PODS).map(|number| lab::pod(node, "bench", &format!("{role}{number}"))).collect()
}

/// One connection to each, used and closed.
fn call(client: &Pod, servers: &[&Pod]) -> Result<(), BenchError> {
    let targets: Vec<SocketAddr> = servers.iter().map(|server| server.at(Port::Echo.number())).collect();
    let called = client.run(move || targets.into_iter().try_for_each(echo))?;
    called.map_err(|e| BenchError::io("call a pod of the other node", e))
}

fn echo(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"anybody?")?;
    stream.read_exact(&mut [0; 8])
}

fn resident(plan: Plan, daemons: &[Canopy; 2]) -> Result<[u64; 2], BenchError> {
    thread::sleep(Duration::from_millis(plan.settle_ms));
    let mut bytes = [0; 2];
    for (bytes, daemon) in bytes.iter_mut().zip(daemons) {
        let memory = procfs::memory(daemon.pid());
        *bytes = memory.map_err(|e| BenchError::io("read a daemon's memory", e))?.rss;
    }
    Ok(bytes)
}

/// Pods of each node.
const PODS: usize = 16;
/// Idle connections of an application.
const HELD: usize = 10_000;
/// Memory differs less from round to round than anything else.
const ROUNDS: usize = 3;
/// Where tunnels end.
const TUNNELS: u16 = 15_008;
/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long opening all of them may take.
const OPENING: Duration = Duration::from_secs(60);
