//! `canopy diff`: what would change, for whom, if the daemon's configuration became another directory.
//!
//! The daemon says what is in force, and this process does the rest: what is read, and may be anything, costs the daemon nothing. It
//! must never change what is in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use config::{
    diff::State,
    finding::{Finding, Severity},
    model::Mesh,
    store::{Basis, FileText, Options, Store},
};

use self::report::Report;
use super::{
    Daemon, Outcome, complain, is_broken_pipe,
    offline::{self, Reading},
    runtime,
    style::{self, Palette},
    with_causes,
};
use crate::{
    admin::{client, configuration::Configuration},
    control::directory,
};

mod report;
mod text;

/// Tell what would change, for whom, if the daemon's configuration became another directory, before it is applied.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy diff DIR                       against what the running daemon has in force
  canopy diff DIR --against /etc/canopy
                                        against another directory, without a daemon
  canopy diff DIR --json | jq '.tenants[] | {tenant, permissions}'

By tenant: objects that come (+), go (-) or differ (~, with their fields), workloads that come, go or are planted anew, Services whose
endpoints or routes differ, permissions between workloads that are granted or revoked, and what would be rejected or kept as it is. A
tenant that nothing changes for is named as such. Nothing is applied; the daemon is only asked what is in force.

Exit code, as `kubectl diff` has it: 0: nothing differs; 1: something does; more than 1: it could not be told.")]
pub(super) struct Diff {
    /// The directory of manifests that the configuration would become.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Compare with the manifests of this directory instead of asking a daemon.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    reading: Reading,
    /// Print JSON instead.
    #[arg(long)]
    json: bool,
}

/// What another configuration is held against.
struct Before {
    /// What it is, for people.
    what: String,
    /// Where it is read from.
    directory: PathBuf,
    options: Options,
    mesh: Arc<Mesh>,
    basis: Basis,
    /// What is said about it.
    said: BTreeSet<String>,
}

impl Diff {
    pub(super) fn run(self) -> Outcome {
        match self.differs() {
            Ok(true) => Ok(ExitCode::from(DIFFERS)),
            Ok(false) => Ok(ExitCode::SUCCESS),
            Err(error) if is_broken_pipe(&*error) => Err(error),
            Err(error) => {
                complain(&with_causes(&*error));
                Ok(ExitCode::from(FAILED))
            }
        }
    }

    fn differs(&self) -> Result<bool, Box<dyn Error>> {
        let before = match &self.against {
            Some(directory) => self.of_directory(directory)?,
            None => self.of_daemon()?,
        };
        let report = before.against(&self.directory)?;
        let text =
            if self.json { style::json(&report)? } else { text::render(&report, Palette::of_stdout()) };
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(report.differs)
    }

    fn of_daemon(&self) -> Result<Before, Box<dyn Error>> {
        let bytes = runtime()?.block_on(client::bytes(&self.daemon.socket(), "/configuration"))?;
        let Configuration { instance, directory, reading, mesh, basis, said } =
            Configuration::from_bytes(&bytes)?;
        let what = format!(
            "the daemon {instance}, which reads {} (configuration {})",
            directory.display(),
            mesh.version
        );
        Ok(Before { what, directory, options: reading.into(), mesh, basis, said })
    }

    fn of_directory(&self, directory: &Path) -> Result<Before, Box<dyn Error>> {
        let options = self.reading.options()?;
        let outcome = offline::read(directory, options.clone())?;
        let said = outcome.findings.iter().map(Finding::gist).collect();
        let (what, directory) = (directory.display().to_string(), directory.to_owned());
        Ok(Before { what, directory, options, mesh: outcome.mesh, basis: outcome.basis, said })
    }
}

impl Before {
    /// What would change if its directory became another: read under its own name, since by its files' names it is known what was in
    /// which before.
    fn against(&self, directory: &Path) -> Result<Report, Box<dyn Error>> {
        let files = moved(directory::read(directory)?, &self.directory);
        let mut store = Store::resume(self.options.clone(), Arc::clone(&self.mesh), self.basis.clone());
        let outcome = store.apply(&files);
        let matters = |finding: &&Finding| {
            let is_grave = matches!(finding.severity, Severity::Rejected | Severity::Warning);
            is_grave && !self.said.contains(&finding.gist())
        };
        let findings = outcome.findings.iter().filter(matters).cloned().collect();
        let before = State { mesh: &self.mesh, basis: &self.basis };
        let after = State { mesh: &outcome.mesh, basis: &outcome.basis };
        let mut report = Report::between(before, after, findings);
        report.name(&self.what, directory, &self.directory);
        Ok(report)
    }
}

/// Files as if they were in another directory.
fn moved(files: BTreeMap<PathBuf, FileText>, to: &Path) -> BTreeMap<PathBuf, FileText> {
    let named = files.into_iter().filter_map(|(path, text)| Some((to.join(path.file_name()?), text)));
    named.collect()
}

const DIFFERS: u8 = 1;
const FAILED: u8 = 2;

#[cfg(test)]
mod tests;
