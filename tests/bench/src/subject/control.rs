//! The control plane as a subject: the real one, `canopy control`, in the node's network namespace.
//!
//! It is told nothing that an operator would not tell it.

use std::{
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use rustix::process::Signal;
use testkit::{Node, Process};

use super::{Setting, following::control_plane};
use crate::{
    clock,
    error::BenchError,
    lab::{PROXY_CPU, fetch, procfs::Ran},
    role,
};

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Control {
    process: Process,
    node: Rc<Node>,
    metrics: SocketAddr,
    started: u64,
}

/// How long the threads of a process have run, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// The thread that serves nodes.
    pub serving: u64,
    /// All of them.
    pub all: u64,
}

impl Control {
    /// Starts it on a directory, for nodes whose files are in another; it may not be ready yet.
    pub(crate) fn start(
        node: &Rc<Node>,
        config: &Path,
        of_nodes: &Path,
        setting: &Setting,
    ) -> Result<Self, BenchError> {
        let metrics = SocketAddr::from(([127, 0, 0, 1], NEXT_PORT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(of_nodes)
            .map_err(|e| BenchError::io(format!("create {}", of_nodes.display()), e))?;
        let mut command = role::pinned(PROXY_CPU, &setting.canopy)?;
        command.arg("control").arg("--config").arg(config);
        command.arg("--listen").arg(control_plane(of_nodes));
        command.arg("--metrics-addr").arg(metrics.to_string());
        let started = clock::now();
        let process = Process::start(node.netns(), command)?.stopped_by(Signal::TERM);
        Ok(Self { process, node: Rc::clone(node), metrics, started })
    }

    /// Waits until it has read its directory; nanoseconds since the start of the process.
    pub(crate) fn ready(&mut self) -> Result<u64, BenchError> {
        let (node, metrics) = (Rc::clone(&self.node), self.metrics);
        let is_ready = || {
            let fetched = node.netns().run(move || fetch::over_tcp(metrics, "/readyz"));
            fetched.is_ok_and(|answer| answer.is_ok())
        };
        self.process.wait_until("the control plane to have read its directory", READY, is_ready)?;
        Ok(clock::now() - self.started)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Of the configuration that it serves.
    pub(crate) fn version(&self) -> Result<u64, BenchError> {
        let metrics = self.metrics;
        let why = |why: String| BenchError::Counters { subject: NAME.to_owned(), why };
        let text = self.node.netns().run(move || fetch::over_tcp(metrics, "/metrics"))?;
        let text = text.map_err(|error| why(error.to_string()))?;
        let version = text.lines().find_map(|line| testkit::sample(line, VERSION, &[]));
        version.map(|version| version as u64).ok_or_else(|| why(format!("no {VERSION} in its metrics")))
    }

    /// What it has used between two moments.
    pub(crate) fn used(&self, before: &Ran) -> Result<Used, BenchError> {
        let now = self.ran()?;
        // The loop that serves is its first thread.
        Ok(Used { serving: now.of_since(self.pid(), before), all: now.since(before) })
    }

    /// How long its threads have run.
    pub(crate) fn ran(&self) -> Result<Ran, BenchError> {
        Ran::of(self.pid()).map_err(|e| BenchError::io("read the control plane's CPU time", e))
    }
}

/// As in the results.
pub(crate) const NAME: &str = "canopy-control";
const VERSION: &str = "canopy_configuration_version";
/// How long it may take to read its directory.
const READY: Duration = Duration::from_secs(180);
static NEXT_PORT: AtomicU16 = AtomicU16::new(18_000);
