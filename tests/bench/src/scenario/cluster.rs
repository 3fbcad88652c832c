//! The scenario `cluster`: what a real Kubernetes notices of Canopy (`scripts/test-cluster --install` has put it there).
//!
//! No load. Pods start in a namespace that is opted in and wait for the gate; a label takes a namespace in; an endpoint becomes ready and
//! is called; a node is filled with pods of thirty tenants. Times are of the machine's clock, from before a change is sent to the API
//! server: what kubectl takes to send it is in them.

use std::{collections::BTreeMap, net::SocketAddr, thread, time::Duration};

use testkit::{Cluster, Space, Traffic, block_on, eventually, http::Connection};

use super::Plan;
use crate::{
    Run, clock,
    error::BenchError,
    lab::procfs::{self, Ran},
    outcome::{Outcome, Row, median, percentile},
};

/// Runs the scenario, on the cluster that is up.
pub(crate) fn run(plan: Plan, run: &Run) -> Result<Outcome, BenchError> {
    let mesh = Mesh::of(Cluster::running("target/tools".as_ref()))?;
    let quick = plan.quick;
    let (mut starts, mut labels, mut ready, mut full) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        run.check_interrupt()?;
        let say = |what: &str| run.progress(&format!("{NAME}: round {round} of {}, {what}", plan.rounds));
        say("pods start in a namespace that is opted in");
        add(&mut starts, &mesh.starts(if quick { 4 } else { 40 })?);
        say("a label takes namespaces in");
        labels.extend(mesh.labels(if quick { 2 } else { 10 })?);
        say("endpoints become ready");
        ready.extend(mesh.ready(if quick { 5 } else { 40 })?);
        say("a node is filled with pods of thirty tenants");
        full.push(mesh.filled(if quick { 3 } else { TENANTS }, plan)?);
    }
    let of = |figure: fn(&Full) -> f64| median(&full.iter().map(figure).collect::<Vec<_>>());
    let pods = format!("pods-{}", full.first().map_or(0, |full| full.pods));
    let rows = vec![
        Row { p50_us: bound(&starts, 0.5), p99_us: bound(&starts, 0.99), ..named("pod-start") },
        times("label", &labels),
        times("ready", &ready),
        Row { rss_bytes: of(|full| full.bytes), ..named(&pods) },
        Row { cpu_us_per_request: of(|full| full.each_second), ..named(&format!("{pods}-idle")) },
    ];
    Ok(Outcome { rows, ..run.empty_outcome(NAME, plan) })
}

/// A node that is full, and idle.
struct Full {
    pods: usize,
    bytes: f64,
    /// CPU time of the daemon, in microseconds a second.
    each_second: f64,
}

struct Mesh {
    cluster: Cluster,
    /// Where the daemon of the node that is looked at says how it is.
    metrics: SocketAddr,
}

impl Mesh {
    fn of(cluster: Cluster) -> Result<Self, BenchError> {
        let address = ["get", "node", NODE, "--output=jsonpath={.status.addresses[0].address}"];
        let address = cluster.kubectl(&address)?;
        let address =
            address.parse().map_err(|_| BenchError::Load(format!("{NODE} has the address {address}")))?;
        Ok(Self { cluster, metrics: SocketAddr::new(address, METRICS) })
    }

    /// What the gate had pods wait for, as the daemon of their node counts it: an upper bound, by the bounds of its histogram.
    fn starts(&self, pods: usize) -> Result<Vec<(f64, u64)>, BenchError> {
        let space = self.cluster.space(&[OPTED_IN])?;
        let before = waits(&self.scrape()?);
        for first in (0..pods).step_by(AT_A_TIME) {
            let names = first..pods.min(first + AT_A_TIME);
            let text: String = names.clone().map(|number| pod(number, NODE)).collect();
            space.apply(&text)?;
            for number in names {
                space.pod_ready(&format!("pod-{number}"))?;
            }
        }
        let waited = since(&waits(&self.scrape()?), &before);
        let counted = waited.last().map_or(0, |(_, count)| *count);
        if counted < pods as u64 {
            return Err(BenchError::Load(format!("{pods} pods have started, and {counted} at the gate")));
        }
        Ok(waited)
    }

    /// From before a namespace is labelled until its pod is carried.
    fn labels(&self, rounds: usize) -> Result<Vec<f64>, BenchError> {
        let mut found = Vec::new();
        for _ in 0..rounds {
            let space = self.cluster.space(&[])?;
            space.apply(&pod(0, NODE))?;
            space.pod_ready("pod-0")?;
            let before = self.carried()?;
            let begun = clock::now();
            space.kubectl(&["label", "namespace", space.name(), OPTED_IN])?;
            found.push(until(begun, "its pod is carried", || self.carried().is_ok_and(|now| now > before))?);
        }
        Ok(found)
    }

    /// From before an endpoint is made the only ready one until a request arrives there.
    fn ready(&self, rounds: usize) -> Result<Vec<f64>, BenchError> {
        let space = self.cluster.space(&[OPTED_IN])?;
        space.apply(&[pod(0, NODE), pod(1, NODE), pod(2, NODE), SERVICE.to_owned()].concat())?;
        let mut addresses = Vec::new();
        for number in 0..3 {
            space.pod_ready(&format!("pod-{number}"))?;
            let address = ["get", "pod", &format!("pod-{number}"), "--output=jsonpath={.status.podIP}"];
            addresses.push(space.kubectl(&address)?);
        }
        let of = |number: usize| slice(&addresses[1 + number % 2]);
        space.apply(&of(0))?;
        let vip = space.kubectl(&["get", "service", "it", "--output=jsonpath={.spec.clusterIP}"])?;
        let to: SocketAddr =
            format!("{vip}:80").parse().map_err(|_| BenchError::Load(format!("{vip} is no address")))?;
        let traffic = Traffic::start(&space.inside("pod-0")?, to, "it")?;
        eventually("the first endpoint answers", || traffic.tally().total() > 0)?;
        let mut found = Vec::new();
        for round in 1..=rounds {
            let name = format!("pod-{}", 1 + round % 2);
            let before = traffic.tally().of(&name);
            let begun = clock::now();
            space.apply(&of(round))?;
            found.push(until(begun, "it is called", || traffic.tally().of(&name) > before)?);
            // What was begun before has ended by then.
            thread::sleep(Duration::from_millis(100));
        }
        Ok(found)
    }

    /// The memory of the daemon, and its CPU, when its node has as many pods as a kubelet takes, and nobody calls.
    fn filled(&self, tenants: usize, plan: Plan) -> Result<Full, BenchError> {
        let spaces: Vec<Space> =
            (0..tenants).map(|_| self.cluster.space(&[OPTED_IN])).collect::<Result<_, _>>()?;
        let each = if plan.quick { 2 } else { PODS.div_ceil(tenants) };
        let pods: Vec<(usize, usize)> =
            (0..each).flat_map(|number| (0..tenants).map(move |tenant| (tenant, number))).collect();
        let pods = &pods[..pods.len().min(PODS)];
        let before = self.carried()?;
        for (tenant, number) in pods {
            spaces[*tenant].apply(&pod(*number, NODE))?;
        }
        for (tenant, number) in pods {
            spaces[*tenant].pod_ready(&format!("pod-{number}"))?;
        }
        eventually("all are carried", || self.carried().is_ok_and(|now| now >= before + pods.len()))?;
        thread::sleep(Duration::from_millis(plan.settle_ms));
        let pid = self.daemon()?;
        let read = |what: &str, error| BenchError::io(format!("read the daemon's {what}"), error);
        let memory = procfs::memory(pid).map_err(|error| read("memory", error))?;
        let ran = Ran::of(pid).map_err(|error| read("CPU time", error))?;
        let idle = if plan.quick { Duration::from_secs(5) } else { Duration::from_secs(30) };
        thread::sleep(idle);
        let ran = Ran::of(pid).map_err(|error| read("CPU time", error))?.since(&ran);
        let each_second = ran as f64 / 1e3 / idle.as_secs_f64();
        Ok(Full { pods: pods.len(), bytes: memory.rss as f64, each_second })
    }

    fn scrape(&self) -> Result<String, BenchError> {
        let said = block_on(async {
            let mut connection = Connection::http1(self.metrics).await.map_err(|error| error.to_string())?;
            connection.get("node", "/metrics").await.map_err(|error| error.to_string())
        });
        Ok(said.map_err(|error| BenchError::Load(format!("the daemon's metrics: {error}")))?.text())
    }

    /// How many pods the node's daemon carries.
    fn carried(&self) -> Result<usize, BenchError> {
        let said = self.scrape()?;
        let line = said.lines().find_map(|line| line.strip_prefix("canopy_forest_workloads "));
        let count = line.and_then(|count| count.trim().parse::<f64>().ok());
        count
            .map(|count| count as usize)
            .ok_or_else(|| BenchError::Load("the daemon counts no workloads".into()))
    }

    /// The process of the node's daemon.
    fn daemon(&self) -> Result<u32, BenchError> {
        let system = self.cluster.existing("canopy-system");
        let name = "--output=jsonpath={.items[0].metadata.name}";
        let of = "--selector=app.kubernetes.io/name=canopy-node";
        let on = format!("--field-selector=spec.nodeName={NODE}");
        let pod = system.kubectl(&["get", "pods", of, &on, name])?;
        let inside = system.inside(&pod)?;
        inside.program().ok_or_else(|| BenchError::Load(format!("{pod} has no process")))
    }
}

fn named(case: &str) -> Row {
    Row { case: case.into(), subject: SUBJECT.into(), ..Row::default() }
}

fn times(case: &str, found: &[f64]) -> Row {
    Row { p50_us: percentile(found, 0.5), p99_us: percentile(found, 0.99), ..named(case) }
}

/// Microseconds from then until it is so.
fn until(begun: u64, what: &str, done: impl FnMut() -> bool) -> Result<f64, BenchError> {
    if !clock::wait_until(PATIENCE, done) {
        return Err(BenchError::Load(format!("{what}: not within {PATIENCE:?}")));
    }
    Ok((clock::now() - begun) as f64 / 1e3)
}

/// The upper bounds of the gate's histogram, in seconds, each with how many waited no longer.
fn waits(metrics: &str) -> Vec<(f64, u64)> {
    let of_one = |line: &str| {
        let (bound, count) =
            line.strip_prefix("canopy_gate_wait_seconds_bucket{le=\"")?.split_once("\"} ")?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some((bound, count.trim().parse::<f64>().ok()? as u64))
    };
    metrics.lines().filter_map(of_one).collect()
}

/// Adds what was counted in another round.
fn add(all: &mut Vec<(f64, u64)>, more: &[(f64, u64)]) {
    if all.is_empty() {
        *all = more.to_vec();
        return;
    }
    all.iter_mut().zip(more).for_each(|((_, count), (_, more))| *count += more);
}

fn since(now: &[(f64, u64)], before: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let earlier: BTreeMap<u64, u64> = before.iter().map(|(bound, count)| (bound.to_bits(), *count)).collect();
    let of = |bound: f64| earlier.get(&bound.to_bits()).copied().unwrap_or(0);
    now.iter().map(|(bound, count)| (*bound, count - of(*bound))).collect()
}

/// The least bound, in microseconds, that so great a part does not exceed.
fn bound(waited: &[(f64, u64)], part: f64) -> f64 {
    let all = waited.last().map_or(0, |(_, count)| *count);
    let wanted = (part * all as f64).ceil() as u64;
    waited.iter().find(|(_, count)| *count >= wanted).map_or(0.0, |(bound, _)| bound * 1e6)
}

fn pod(number: usize, node: &str) -> String {
    POD.replace("@NAME@", &format!("pod-{number}")).replace("@NODE@", node)
}

/// A server that says its name in a header, as tests' traffic counts it.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: @NAME@}
spec:
  nodeName: @NODE@
  terminationGracePeriodSeconds: 1
  containers:
  - name: it
    image: canopy.mesh/busybox:1
    imagePullPolicy: Never
    command: [nc, -ll, -p, '8080', -e, /bin/sh, -c, 'while read -r line && [ \"${#line}\" -gt 1 ]; do :; done; printf \"HTTP/1.1 200 OK\\r\\nx-pod: %s\\r\\ncontent-length: 0\\r\\nconnection: close\\r\\n\\r\\n\" \"$(hostname)\"']
---
";

/// Whose endpoints are written by hand, so that one becomes ready when the benchmark says so.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: it}
spec: {ports: [{port: 80, targetPort: 8080}]}
";

fn slice(address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: it, labels: {{kubernetes.io/service-name: it}}}}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: ['{address}'], conditions: {{ready: true}}}}]\n"
    )
}

const NAME: &str = "cluster";
const SUBJECT: &str = "canopy-node";
/// The node that is filled; the other one has the cluster's own pods as well.
const NODE: &str = "node-2";
const OPTED_IN: &str = "canopy.mesh/mode=node";
/// The daemon's port for metrics (deploy/daemonset/base/node.yaml).
const METRICS: u16 = 15020;
/// Pods that are started together.
const AT_A_TIME: usize = 10;
const TENANTS: usize = 30;
/// A kubelet takes 110; the rest is Canopy's own and the cluster's.
const PODS: usize = 104;
const PATIENCE: Duration = Duration::from_secs(60);
