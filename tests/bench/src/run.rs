//! One run of the bench: where its files are, what it was asked for, whether it is to stop.
//!
//! It measures nothing itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;

use crate::{
    cli::{Arguments, Verb},
    clock,
    error::BenchError,
    lab::{self, procfs},
    outcome::{Outcome, Provenance, Row},
    role,
    scenario::{Plan, Scenario, rounds::Measured},
    subject::{Setting, envoy::install},
};

/// What the whole run shares.
#[derive(Debug)]
pub(crate) struct Run {
    directory: PathBuf,
    pub docs: PathBuf,
    canopy: PathBuf,
    envoy: PathBuf,
    access_log: bool,
    subjects: Vec<String>,
    cases: Vec<String>,
    interrupted: Arc<AtomicBool>,
}

impl Run {
    /// Prepares what will be needed: directories, both proxies' binaries, a deaf ear to Ctrl-C until a good moment.
    pub(crate) fn begin(arguments: &Arguments) -> Result<Self, BenchError> {
        let path =
            |p: &Path| std::path::absolute(p).map_err(|e| BenchError::io(format!("find {}", p.display()), e));
        let directory = path(&arguments.out)?;
        fs::create_dir_all(&directory)
            .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let mut run = Self {
            docs: path(&arguments.docs)?,
            canopy: PathBuf::new(),
            envoy: PathBuf::new(),
            access_log: arguments.access_log,
            subjects: arguments.subjects.clone(),
            cases: arguments.cases.clone(),
            interrupted,
            directory,
        };
        if arguments.verbs().iter().any(|verb| *verb != Verb::Report) {
            run.prepare(arguments)?;
        }
        Ok(run)
    }

    fn prepare(&mut self, arguments: &Arguments) -> Result<(), BenchError> {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&self.interrupted))
                .map_err(|e| BenchError::io("listen for signals", e))?;
        }
        self.canopy = match &arguments.canopy {
            Some(path) => std::path::absolute(path).map_err(|e| BenchError::io("find the daemon", e))?,
            None => build_canopy(self.wants("canopy"))?,
        };
        if self.wants("envoy") {
            self.envoy = install::ensure(&self.directory.join("tools"))?;
        }
        role::pin(lab::LOAD_CPU)
    }

    fn wants(&self, subject: &str) -> bool {
        self.subjects.is_empty() || self.subjects.iter().any(|s| s.starts_with(subject))
    }

    /// Whether cases beside those of load are wanted: all are, or `memory` is named.
    pub(crate) fn is_whole(&self) -> bool {
        self.wants("canopy-node") && (self.cases.is_empty() || self.cases.iter().any(|case| case == "memory"))
    }

    /// Whether a subject and a case, of a scenario that is not one of plain load, are asked for; one without a name is.
    pub(crate) fn asks_for(&self, subject: &str, case: &str) -> bool {
        let names = |list: &[String], name: &str| {
            list.is_empty() || name.is_empty() || list.iter().any(|one| one == name)
        };
        names(&self.subjects, subject) && names(&self.cases, case)
    }

    /// Leaves only what was asked for.
    pub(crate) fn restrict(&self, scenario: &mut Scenario) {
        for group in &mut scenario.groups {
            if !self.subjects.is_empty() {
                group.subjects.retain(|kind| self.subjects.iter().any(|s| s == kind.name()));
            }
            if !self.cases.is_empty() {
                group.cases.retain(|case| self.cases.iter().any(|c| c == case.name));
            }
            if !group.subjects.contains(&group.against_itself)
                && let Some(first) = group.subjects.last()
            {
                group.against_itself = *first;
            }
        }
        scenario.groups.retain(|group| !group.cases.is_empty() && !group.subjects.is_empty());
    }

    /// Where results go.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A fresh place for one scenario's configuration and logs.
    pub(crate) fn setting(&self, scenario: &str) -> Result<Setting, BenchError> {
        let directory = self.directory.join("work").join(scenario);
        // Not there at the first time.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)
            .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
        Ok(Setting {
            directory,
            canopy: self.canopy.clone(),
            envoy: self.envoy.clone(),
            tools: std::path::absolute(TOOLS).map_err(|e| BenchError::io(format!("find {TOOLS}"), e))?,
            access_log: self.access_log,
        })
    }

    /// Tells whoever waits.
    pub(crate) fn progress(&self, line: &str) {
        crate::progress(line);
    }

    /// To be asked between measurements: guards then clean up.
    pub(crate) fn check_interrupt(&self) -> Result<(), BenchError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(BenchError::Interrupted) } else { Ok(()) }
    }

    /// The results of a scenario of load.
    pub(crate) fn outcome(&self, scenario: &Scenario, plan: Plan, measured: Measured) -> Outcome {
        let mut outcome = self.empty_outcome(scenario.name, plan);
        let samples = measured.samples;
        for (group, case) in scenario.groups.iter().flat_map(|g| g.cases.iter().map(move |case| (g, case))) {
            for subject in &group.subjects {
                outcome.rows.push(samples.row(case.name, subject.name()));
            }
            for of in group.subjects.iter().filter(|kind| group.is_measured_twice(**kind)) {
                for to in &group.subjects {
                    outcome.ratios.extend(samples.ratios(case.name, of.name(), to.name()));
                    outcome.differences.extend(samples.difference(case.name, of.name(), to.name()));
                }
            }
        }
        outcome.samples = samples.0;
        outcome.wire = measured.wire;
        outcome
    }

    /// The results of the memory scenario.
    pub(crate) fn memory_outcome(&self, plan: Plan, rows: Vec<Row>) -> Outcome {
        Outcome { rows, ..self.empty_outcome("memory", plan) }
    }

    /// Where the results of a scenario go that makes its own.
    pub(crate) fn empty_outcome(&self, scenario: &str, plan: Plan) -> Outcome {
        let words: Vec<String> = std::env::args().skip(1).map(|word| as_published(&word)).collect();
        Outcome {
            scenario: scenario.to_owned(),
            machine: procfs::machine(),
            rounds: plan.rounds,
            rows: Vec::new(),
            ratios: Vec::new(),
            verdicts: Vec::new(),
            provenance: Provenance {
                date: date(),
                commit: first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
                command: format!("bench {}", words.join(" ")).trim_end().to_owned(),
                versions: json!({
                    "canopy": first_line(&self.canopy.to_string_lossy(), &["--version"]),
                    "envoy": install::VERSION,
                    "nginx": first_line("nginx", &["-v"]),
                    "rustc": first_line("rustc", &["--version"]),
                }),
                access_log: self.access_log,
                quick: plan.quick,
                settings: serde_json::Value::Null,
            },
            differences: Vec::new(),
            wire: Vec::new(),
            samples: Vec::new(),
        }
    }
}

/// The release build of the daemon, beside this program's: brought up to date when this was started by cargo, built
/// when it is not there.
fn build_canopy(wanted: bool) -> Result<PathBuf, BenchError> {
    let own = std::env::current_exe().map_err(|e| BenchError::io("find this program's file", e))?;
    let target = own.ancestors().nth(2).unwrap_or(Path::new("target")).to_owned();
    let binary = target.join("release/canopy");
    let cargo = std::env::var_os("CARGO");
    if wanted && (cargo.is_some() || !binary.exists()) {
        crate::progress("building the daemon (cargo build --release -p node-proxy)");
        let mut cargo = Command::new(cargo.unwrap_or("cargo".into()));
        cargo.args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "node-proxy",
            "--bin",
            "canopy",
            "--target-dir",
        ]);
        let status = cargo.arg(&target).status().map_err(|e| BenchError::io("run cargo", e))?;
        if !status.success() {
            let command = "cargo build --release -p node-proxy".into();
            return Err(BenchError::Tool { command, output: status.to_string() });
        }
    }
    Ok(binary)
}

/// Where `scripts/control-plane` builds to.
const TOOLS: &str = "target/tools";

/// A word of the command, without where on this machine a file is: that is nobody else's.
fn as_published(word: &str) -> String {
    let name = Path::new(word).is_absolute().then(|| Path::new(word).file_name()).flatten();
    name.map_or_else(|| word.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The first line that a program prints, on either stream; empty if it is not there.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or("").trim().to_owned()
}

/// Today, in UTC, as `date` writes it.
fn date() -> String {
    first_line("date", &["-u", "-d", &format!("@{}", clock::wall_seconds()), "+%Y-%m-%d %H:%M UTC"])
}

#[cfg(test)]
mod tests;
