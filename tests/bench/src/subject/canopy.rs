//! Canopy as a subject: the real daemon, `canopy run`, in the node's network namespace.
//!
//! It is told nothing that an operator would not tell it. What it carried is read from its metrics.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use testkit::{Netns, Node, Pod, Process};

use super::{Kind, Manifests, Setting, access_log, following::control_plane};
use crate::{
    clock,
    error::BenchError,
    lab::{
        LOAD_CPU, PROXY_CPU,
        backends::{Port, SMALL},
        fetch, procfs,
    },
    role,
};

/// How pods' connections come to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steering {
    Ebpf,
    Iptables,
}

impl Steering {
    fn flag(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Iptables => "iptables",
        }
    }
}

/// How a pod's own proxy captures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capture {
    /// What a pod seldom may.
    Ebpf,
    /// As in most clusters.
    Nftables,
}

impl Capture {
    fn flag(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Nftables => "nftables",
        }
    }
}

/// Who shares a tunnel between two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// All connections of a pod to another, as by default.
    Shared,
    /// Nobody: each connection makes a tunnel of its own.
    Own,
    /// All, and a tenant may have more connections than its share of the descriptors would be.
    Crowd,
}

/// What a daemon is started with.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// Its own, for its files.
    pub name: &'a str,
    /// Where it runs.
    pub node: &'a Rc<Node>,
    /// What it calls that node.
    pub called: &'a str,
    pub kind: Kind,
    pub manifests: &'a Manifests,
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Canopy {
    process: Process,
    binary: PathBuf,
    instance: String,
    home: Arc<Netns>,
    recipe: role::Recipe,
    name: String,
    metrics: SocketAddr,
    started: u64,
}

impl Canopy {
    /// Starts it on these manifests; it may not be ready yet.
    pub(crate) fn start(launch: &Launch<'_>, setting: &Setting) -> Result<Self, BenchError> {
        let Launch { name, node, called, kind, manifests } = *launch;
        let directory = setting.directory.join(name);
        let mut command = role::pinned(PROXY_CPU, &setting.canopy)?;
        command.arg("run").arg("--node").arg(called).arg("--redirect").arg(kind.steering().flag());
        if kind == Kind::CanopyUnbudgeted {
            command.args(["--budgets", "off"]);
        }
        if matches!(kind, Kind::CanopyFollowing | Kind::CanopyOnDemand) {
            command.arg("--discovery").arg(control_plane(&directory));
        }
        if kind == Kind::CanopyOnDemand {
            command.arg("--discovery-on-demand");
        }
        Self::begin(command, (node.shared_netns(), name), (kind, manifests), setting)
    }

    /// Starts a pod's own, in that pod; it may not be ready yet.
    pub(crate) fn start_sidecar(
        pod: &Pod,
        capture: Capture,
        launch: &Launch<'_>,
        setting: &Setting,
    ) -> Result<Self, BenchError> {
        let mut command = role::pinned(PROXY_CPU, &setting.canopy)?;
        command.arg("sidecar").arg("--pod").arg(format!("{}/{}", pod.namespace(), pod.name()));
        command.arg("--node").arg(launch.called).arg("--capture").arg(capture.flag());
        let home = (pod.shared_netns(), launch.name);
        Self::begin(command, home, (launch.kind, launch.manifests), setting)
    }

    /// What both have to be told.
    fn begin(
        mut command: Command,
        (home, name): (Arc<Netns>, &str),
        (kind, manifests): (Kind, &Manifests),
        setting: &Setting,
    ) -> Result<Self, BenchError> {
        let directory = setting.directory.join(name);
        let config = directory.join("config");
        fs::create_dir_all(&config).map_err(|e| BenchError::io(format!("create {}", config.display()), e))?;
        for (name, text) in manifests.files() {
            let file = config.join(name);
            fs::write(&file, text).map_err(|e| BenchError::io(format!("write {}", file.display()), e))?;
        }
        command.arg("--config").arg(&config).arg("--ca-dir").arg(setting.authority());
        command.arg("--admin-socket").arg(directory.join("admin.sock"));
        // The namespace is the bench's own, so no port in it is anybody else's.
        let metrics = SocketAddr::from(([127, 0, 0, 1], NEXT_PORT.fetch_add(1, Ordering::Relaxed)));
        command.arg("--metrics-addr").arg(metrics.to_string());
        let instance = testkit::unique_name(u32::from(metrics.port()));
        command.arg("--instance").arg(&instance);
        match kind.sharing() {
            Sharing::Shared => {}
            Sharing::Own => drop(command.args(["--tunnels", "own"])),
            Sharing::Crowd => drop(command.args(["--connections", "12000"])),
        }
        command.arg("--access-log");
        if setting.access_log {
            command.arg(access_log(&directory));
        } else {
            command.arg("off");
        }
        let started = clock::now();
        let recipe = role::Recipe::of(&command);
        let process = Process::start(&home, command)?.stopped_by(Signal::TERM);
        let (name, binary) = (name.to_owned(), setting.canopy.clone());
        Ok(Self { process, binary, instance, home, recipe, name, metrics, started })
    }

    /// Nanoseconds from the start of the process to the first answer that a pod got.
    pub(crate) fn first_answer(&mut self, client: &Pod, target: SocketAddr) -> Result<u64, BenchError> {
        self.first_answer_at(client, target, &format!("/{SMALL}"))
    }

    /// The same, of this path.
    pub(crate) fn first_answer_at(
        &mut self,
        client: &Pod,
        target: SocketAddr,
        path: &str,
    ) -> Result<u64, BenchError> {
        let limit_ms = READY.as_millis() as u64;
        let spec = role::FirstSpec { cpu: LOAD_CPU, target, path: path.to_owned(), limit_ms };
        let mut dialler = client.start(role::command("first", &spec)?)?;
        self.process.wait_until("a request from a pod to be answered", READY, || {
            dialler.wait(Duration::from_millis(5)).is_some()
        })?;
        let output = dialler.output();
        let answered: u64 = output.trim().parse().map_err(|_| BenchError::Load(self.explain(&output)))?;
        Ok(answered - self.started)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The daemon's process, and those of its tenants' cells that have one of their own.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let daemon = self.pid();
        std::iter::once(daemon).chain(procfs::children(daemon)).collect()
    }

    /// What its metrics say it has carried so far.
    pub(crate) fn carried(&self, port: Port) -> Result<u64, BenchError> {
        let noun = if port.is_http() { "requests" } else { "connections" };
        let what = format!("no counter of {noun} in its metrics");
        // A daemon that was started a moment ago may not have a cell yet.
        clock::wait_until(ENROL, || self.metrics().is_ok_and(|text| largest_total(&text, noun).is_some()));
        largest_total(&self.metrics()?, noun).ok_or_else(|| self.counters(what))
    }

    /// Waits until it has enrolled so many.
    pub(crate) fn wait_enrolled(&self, expected: u64) -> Result<(), BenchError> {
        if clock::wait_until(ENROL, || self.workloads().is_ok_and(|count| count == expected)) {
            return Ok(());
        }
        Err(BenchError::Enrolled { counted: self.workloads()?, expected })
    }

    /// How many workloads its metrics say it has enrolled.
    pub(crate) fn workloads(&self) -> Result<u64, BenchError> {
        let text = self.metrics()?;
        let value = text.lines().find_map(|line| line.strip_prefix(WORKLOADS)?.trim().parse::<f64>().ok());
        value.map(|value| value as u64).ok_or_else(|| self.counters(format!("no {WORKLOADS}in its metrics")))
    }

    /// The sum of a counter's series that have this label; 0 where there are none yet.
    pub(crate) fn count(&self, counter: &str, label: &str) -> Result<u64, BenchError> {
        Ok(sum(&self.metrics()?, counter, label))
    }

    fn metrics(&self) -> Result<String, BenchError> {
        let address = self.metrics;
        let text = self.home.run(move || fetch::over_tcp(address, "/metrics"))?;
        text.map_err(|why| self.counters(why.to_string()))
    }

    fn counters(&self, why: String) -> BenchError {
        BenchError::Counters { subject: self.name.clone(), why }
    }

    fn explain(&self, output: &str) -> String {
        format!("{}; {}", output.trim(), self.said())
    }

    /// The end of its log.
    pub(crate) fn said(&self) -> String {
        let log = self.process.output();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("{}: the end of its log:\n{tail}\n", self.name)
    }

    /// Ends it, at once or as it ends by itself, and starts another in its place.
    pub(crate) fn replace(&mut self, at_once: bool) -> Result<(), BenchError> {
        self.process.signal(if at_once { Signal::KILL } else { Signal::TERM });
        if self.process.wait(DRAINED).is_none() {
            return Err(BenchError::Load(format!("it has not ended within {DRAINED:?}; {}", self.said())));
        }
        self.process = Process::start(&self.home, self.recipe.command())?.stopped_by(Signal::TERM);
        Ok(())
    }

    /// It is waited for when it is dropped.
    pub(crate) fn ask_to_end(&self) {
        self.process.signal(Signal::TERM);
    }
}

impl Drop for Canopy {
    /// It leaves its pods refused, which are the bench's own and go as well.
    fn drop(&mut self) {
        self.process.signal(Signal::TERM);
        if self.process.wait(STOP).is_none() {
            self.process.signal(Signal::KILL);
            self.process.wait(STOP);
        }
        let mut release = Command::new(&self.binary);
        // Where that fails, the testkit sweeps what has a dead process's name.
        let _ = release.args(["release", "--instance", &self.instance]).output();
    }
}

/// The largest sum among all counters of this noun: a request is counted once in each, if it is counted there.
fn largest_total(metrics: &str, noun: &str) -> Option<u64> {
    let mut totals: BTreeMap<&str, f64> = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or("");
        if name.ends_with("_total") && name.contains(noun) {
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            *totals.entry(name).or_default() += value.unwrap_or(0.0);
        }
    }
    totals.into_values().reduce(f64::max).map(|total| total as u64)
}

fn sum(metrics: &str, counter: &str, label: &str) -> u64 {
    metrics.lines().filter_map(|line| testkit::sample(line, counter, &[label])).sum::<f64>() as u64
}

/// A gauge of the daemon's.
const WORKLOADS: &str = "canopy_forest_workloads ";
/// How long all workloads may take to be enrolled.
const ENROL: Duration = Duration::from_secs(30);
/// How long a daemon may take to carry its first request.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to let its connections end, and more than it takes by default.
pub(crate) const DRAINED: Duration = Duration::from_secs(40);
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(3);
static NEXT_PORT: AtomicU16 = AtomicU16::new(19_000);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carried_is_the_sum_over_labels_of_the_largest_family() {
        let text = "# TYPE a counter\nmesh_relay_requests_total{tenant=\"x y\"} 3\n\
            mesh_relay_requests_total{tenant=\"b\"} 4\nmesh_policy_requests_total 5\nmesh_requests_open 99\n";
        assert_eq!(largest_total(text, "requests"), Some(7));
        assert_eq!(largest_total(text, "connections"), None);
    }

    #[test]
    fn a_count_is_of_one_counter_and_one_label() {
        let text = "a_total{tenant=\"x\",reason=\"one\"} 3\na_total{tenant=\"y\",reason=\"one\"} 4\n\
            a_total{tenant=\"x\",reason=\"one_more\"} 9\na_total_b{reason=\"one\"} 9\n";
        assert_eq!(sum(text, "a_total", "reason=\"one\""), 7);
        assert_eq!(sum(text, "c_total", "reason=\"one\""), 0);
    }
}
