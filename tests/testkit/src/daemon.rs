//! The daemon under test: the real `canopy` binary in the node's namespace, with an admin socket, metrics port,
//! access log and pin directory of its own.
//!
//! It is watched the way an operator watches it, and has to end cleanly on SIGTERM: where it does not, the
//! drop of the guard fails the test. It lets its pods go then, also those that a policy protects.

use std::{
    env,
    io::BufRead as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{KitError, Netns, Node, Pod, Process, http, scratch};

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    netns: Arc<Netns>,
    binary: PathBuf,
    instance: String,
    process: Process,
    directory: TempDir,
}

/// How a daemon is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--redirect`.
    pub redirect: String,
    /// Its binary; `None` for the one built beside the running program.
    pub binary: Option<PathBuf>,
    /// `--instance`; `None` for one of its own.
    pub instance: Option<String>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { redirect: "auto".into(), binary: None, instance: None, arguments: Vec::new() }
    }
}

impl Daemon {
    /// Starts `canopy run --config` on a node and waits until it is ready.
    ///
    /// # Errors
    /// There is no binary, or it ended or was not ready in a minute; with the end of its output.
    pub fn start(node: &Node, config: &Path) -> Result<Self, KitError> {
        Self::start_with(node, config, &Options::default())
    }

    /// As [`Daemon::start`], with options.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_with(node: &Node, config: &Path, options: &Options) -> Result<Self, KitError> {
        let mut daemon = Self::launch(node, config, options)?;
        daemon.wait_ready()?;
        Ok(daemon)
    }

    /// As [`Daemon::start_with`], of one that is not waited for.
    ///
    /// # Errors
    /// There is no binary.
    pub fn launch(node: &Node, config: &Path, options: &Options) -> Result<Self, KitError> {
        let config = config.display().to_string();
        let about = ["run", "--config", &config, "--redirect", &options.redirect, "--metrics-addr", METRICS];
        Self::launch_in(node.shared_netns(), &about, options)
    }

    /// Starts `canopy sidecar` in a pod and waits until it is ready; `--redirect` is what it captures by.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn sidecar(pod: &Pod, about: &[&str], options: &Options) -> Result<Self, KitError> {
        let mut sidecar = Self::launch_sidecar(pod, about, options)?;
        sidecar.wait_ready()?;
        Ok(sidecar)
    }

    /// As [`Daemon::sidecar`], of one that is not waited for.
    ///
    /// # Errors
    /// There is no binary.
    pub fn launch_sidecar(pod: &Pod, about: &[&str], options: &Options) -> Result<Self, KitError> {
        let name = format!("{}/{}", pod.namespace(), pod.name());
        let about = [&["sidecar", "--pod", &name, "--capture", &options.redirect], about].concat();
        Self::launch_in(pod.shared_netns(), &about, options)
    }

    fn launch_in(netns: Arc<Netns>, about: &[&str], options: &Options) -> Result<Self, KitError> {
        let binary = options.binary.clone().map_or_else(find_binary, Ok)?;
        let directory = scratch::directory("daemon")?;
        let instance = options.instance.clone();
        let instance =
            instance.unwrap_or_else(|| scratch::name(NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed)));
        let mut command = Command::new(&binary);
        command.args(about);
        command.arg("--admin-socket").arg(directory.path().join("admin.sock"));
        command.args(["--instance", &instance]);
        // What a real daemon leaves closed would be in the way of who comes next.
        if !options.arguments.iter().any(|argument| argument == "--on-stop") {
            command.args(["--on-stop", "open"]);
        }
        // Else every test on the machine would share the authority of a real daemon.
        if !options.arguments.iter().any(|argument| argument.starts_with("--ca")) {
            command.arg("--ca-dir").arg(directory.path().join("ca"));
        }
        command.arg("--access-log").arg(directory.path().join("access.log")).args(&options.arguments);
        let process = Process::start(&netns, command)?.stopped_by(Signal::TERM);
        Ok(Self { netns, binary, instance, process, directory })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its process, to send it signals or wait for its end.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its authority's directory, unless its options name another.
    #[must_use]
    pub fn ca_dir(&self) -> PathBuf {
        self.directory.path().join("ca")
    }

    /// Its admin socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// What it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Runs another verb of the same binary against it: `canopy ARGUMENTS --admin-socket PATH`.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn canopy(&self, arguments: &[&str]) -> Result<Output, KitError> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--admin-socket").arg(self.admin_socket());
        let what = format!("{command:?}");
        self.netns.run(|| command.output())?.map_err(|source| KitError::Start { what, source })
    }

    /// `canopy release` of its instance, once it has ended.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn release(&self) -> Result<Output, KitError> {
        let mut command = Command::new(&self.binary);
        command.args(["release", "--instance", &self.instance]);
        let what = format!("{command:?}");
        self.netns.run(|| command.output())?.map_err(|source| KitError::Start { what, source })
    }

    /// The body of one of the paths of its metrics port.
    ///
    /// # Errors
    /// The port does not answer.
    pub fn scrape(&self, path: &str) -> Result<http::Answer, http::RequestError> {
        http::get_inside(&self.netns, metrics_address(), "localhost", path)
    }

    /// The sum of a metric's samples whose label sets have all of `labels` (written `name="value"`).
    ///
    /// # Errors
    /// The metrics port does not answer.
    ///
    /// # Panics
    /// There is no such metric: none of its samples would be as good as that they are all zero.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, http::RequestError> {
        let text = self.scrape("/metrics")?.text();
        let described = format!("# TYPE {} ", name.strip_suffix("_total").unwrap_or(name));
        assert!(text.contains(&described), "no metric is called {name} in\n{text}");
        Ok(text.lines().filter_map(|line| sample(line, name, labels)).sum())
    }

    /// The lines of its access log so far, whole ones only.
    #[must_use]
    pub fn access_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Whether the access log has a line with all of these in it: for one that is too long to be taken apart.
    #[must_use]
    pub fn has_logged(&self, wanted: &[&str]) -> bool {
        let Ok(file) = std::fs::File::open(self.directory.path().join("access.log")) else { return false };
        let mut lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
        lines.any(|line| wanted.iter().all(|wanted| line.contains(wanted)))
    }

    /// Waits for an access-log line that `wanted` accepts; it is written at the end of a request or
    /// connection, so a little after its client has seen that.
    ///
    /// # Errors
    /// None came in half a minute; with the daemon's output.
    pub fn wait_logged(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, KitError> {
        for _ in 0..LOG_LIMIT.as_millis() / POLL.as_millis() {
            if let Some(line) = self.access_log().into_iter().find(&wanted) {
                return Ok(line);
            }
            thread::sleep(POLL);
        }
        Err(KitError::TimedOut {
            what: "the access-log line".into(),
            limit: LOG_LIMIT,
            output: self.output(),
        })
    }

    /// Waits until a metric, summed as by [`Daemon::metric`], is exactly so much: what a client has seen may be counted a
    /// little later.
    ///
    /// # Errors
    /// It was not within half a minute; with what it was in the end.
    pub fn wait_metric(&self, name: &str, labels: &[&str], wanted: f64) -> Result<(), KitError> {
        let mut last = f64::NAN;
        for _ in 0..LOG_LIMIT.as_millis() / POLL.as_millis() {
            last = self.metric(name, labels).unwrap_or(f64::NAN);
            let seen = last == wanted;
            thread::sleep(if seen { SETTLED } else { POLL });
            // One that counts too much passes through the right value.
            if seen && self.metric(name, labels).is_ok_and(|now| now == wanted) {
                return Ok(());
            }
        }
        let what = format!("{name} {labels:?} to be {wanted}: it is {last}");
        Err(KitError::TimedOut { what, limit: LOG_LIMIT, output: self.output() })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ended or was not ready in a minute; with the end of its output.
    pub fn wait_ready(&mut self) -> Result<(), KitError> {
        let netns = Arc::clone(&self.netns);
        self.process.wait_until("readiness", READY_LIMIT, || {
            http::get_inside(&netns, metrics_address(), "localhost", "/readyz")
                .is_ok_and(|answer| answer.status.is_success())
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that killed it, or waited for its end, has judged that end itself.
        if self.process.has_ended() {
            return;
        }
        self.process.signal(Signal::TERM);
        let ended = self.process.wait(STOP_LIMIT);
        let released = self.release();
        if thread::panicking() || ended.is_some_and(|status| status.success()) {
            let done = released.as_ref().is_ok_and(|output| output.status.success());
            assert!(done || thread::panicking(), "its pods cannot be let go: {released:?}");
            return;
        }
        let how = ended.map_or_else(|| format!("not within {STOP_LIMIT:?}"), |status| status.to_string());
        let output = self.output();
        panic!("the daemon did not end cleanly on SIGTERM ({how}); its output:\n{output}");
    }
}

/// The value of a metrics page's line, if it is a sample of this metric and has these labels (written `name="value"`).
#[must_use]
pub fn sample(line: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    if !rest.starts_with(['{', ' ']) || !labels.iter().all(|label| rest.contains(label)) {
        return None;
    }
    rest.rsplit(' ').next()?.parse().ok()
}

/// `canopy` beside the running program (`target/PROFILE/deps/x` or `target/PROFILE/x`), or `$CANOPY_BIN`.
fn find_binary() -> Result<PathBuf, KitError> {
    if let Some(given) = env::var_os("CANOPY_BIN") {
        return Ok(given.into());
    }
    let own = env::current_exe().map_err(|source| KitError::file("/proc/self/exe", source))?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("canopy"))
        .find(|path| path.is_file())
        .ok_or_else(|| KitError::MissingProgram {
            program: "canopy".into(),
            remedy: "build it with `cargo build -p node-proxy`, or name it in CANOPY_BIN".into(),
        })
}

/// The node's namespace is its own, so the port is too.
fn metrics_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 15020))
}

const METRICS: &str = "127.0.0.1:15020";
const READY_LIMIT: Duration = Duration::from_secs(60);
/// For what follows what a client has seen.
const LOG_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
/// A figure that is right for so long has come to rest.
const SETTLED: Duration = Duration::from_millis(200);
/// Well below what a drain may take by default: where nothing is under way, nobody is waited for so long.
const STOP_LIMIT: Duration = Duration::from_secs(20);
static NEXT_INSTANCE: AtomicU32 = AtomicU32::new(0);
