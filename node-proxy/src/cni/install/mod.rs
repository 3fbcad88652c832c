//! The plugin on a node: its file beside the others', its way to the API server, its place in the chain. Put there, kept there, taken away.
//!
//! Every step writes beside and renames, and does nothing where it is done: who dies half-way is mended by the next. The chain comes last and
//! goes first, so that it never names a plugin that is not there. Nothing of anybody else's may be lost.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use self::{account::Account, chain::Problem, networks::Networks, program::Compared, running::Held};
use super::NAME;

pub mod account;
pub mod chain;
mod networks;
mod program;
mod running;
pub mod watch;

#[cfg(test)]
mod tests;

/// What is to be installed, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where networks are configured, as this process sees it.
    pub conf_dir: PathBuf,
    /// The same as the container runtime sees it, which runs the plugin.
    pub conf_dir_of_host: PathBuf,
    /// Where plugins are, as this process sees it.
    pub bin_dir: PathBuf,
    /// The file to chain into; by default the first, as the runtime takes it.
    pub conf_name: Option<String>,
    /// This program.
    pub program: PathBuf,
    /// How the plugin asks the API server; `None` where it is not to.
    pub account: Option<Account>,
    /// What else the plugin is told.
    pub told: Told,
}

/// What the plugin is told by its part of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The daemon's gate, as the host sees it.
    pub gate: PathBuf,
    /// What the daemon leaves of namespaces on disk.
    pub cache: Option<PathBuf>,
    /// Namespaces whose pods pass unasked.
    pub exempt: Vec<String>,
    /// How long a pod may wait, in seconds.
    pub seconds: u64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A file was written.
    Wrote(PathBuf),
    /// The plugin was chained into a network.
    Chained(PathBuf),
    /// It was taken out of one.
    Unchained(PathBuf),
    /// A file was taken away.
    Removed(PathBuf),
}

/// It could not be done.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no network.
    #[error(
        "there is no network in {}: install your network plugin first, or name its directory with --cni-conf-dir",
        directory.display()
    )]
    NoNetwork {
        /// The directory.
        directory: PathBuf,
    },
    /// There is none of that name.
    #[error("there is no {} (--cni-conf-name)", path.display())]
    NoSuchNetwork {
        /// The file.
        path: PathBuf,
    },
    /// The network that the runtime takes cannot be chained into.
    #[error("{}: {problem}", path.display())]
    Network {
        /// Its file.
        path: PathBuf,
        /// Why.
        problem: Problem,
    },
    /// Another file is where the list of a single plugin would be.
    #[error("{} is to become the list {}, which is there and somebody else's; remove one of them", single.display(), list.display())]
    Both {
        /// The single plugin's configuration.
        single: PathBuf,
        /// The list.
        list: PathBuf,
    },
    /// Somebody writes it all the time.
    #[error("{} is written by somebody else all the time; is another installer fighting for it?", path.display())]
    Contended {
        /// The file.
        path: PathBuf,
    },
    /// A daemon runs, and would go on with what is gone.
    #[error(
        "a daemon still runs on this node, as {} {}: nothing was changed. End it first, which may take it some seconds (in a cluster: \
         kubectl -n canopy-system delete daemonset canopy-node; else stop its service), and then do this again",
        path.display(),
        if *is_answered { "is answered" } else { "is locked" }
    )]
    Running {
        /// What it has.
        path: PathBuf,
        /// A socket; otherwise a lock.
        is_answered: bool,
    },
    /// What the system said.
    #[error("{}: cannot be {what}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Says which file a system's error is about.
fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::System { path, what, source }
}

impl Options {
    fn binary(&self) -> PathBuf {
        self.bin_dir.join(NAME)
    }

    /// The plugin's part of a chain, which it reads on the host.
    fn entry(&self) -> Value {
        let Told { gate, cache, exempt, seconds } = &self.told;
        let mut entry =
            json!({"type": NAME, "gate": gate, "exemptNamespaces": exempt, "timeoutSeconds": seconds});
        if let Some(cache) = cache {
            entry["cache"] = json!(cache);
        }
        if self.account.is_some() {
            entry["kubeconfig"] = json!(self.conf_dir_of_host.join(account::KUBECONFIG));
        }
        entry
    }
}

/// Makes everything as it should be; what that took, in the order in which it was done.
///
/// # Errors
/// The first step that could not be done; what it would have changed is as it was.
pub fn install(options: &Options) -> Result<Vec<Change>, InstallError> {
    install_again(options, &mut Compared::default())
}

/// The same for whoever looks again and again: files of which nothing has changed since they were compared are not read.
fn install_again(options: &Options, compared: &mut Compared) -> Result<Vec<Change>, InstallError> {
    let mut changes = Vec::new();
    let binary = options.binary();
    if !compared.are_same(&options.program, &binary).map_err(failed(&binary, "compared"))? {
        program::copy(&options.program, &binary).map_err(failed(&binary, "written"))?;
        changes.push(Change::Wrote(binary));
    }
    if let Some(account) = &options.account {
        changes.extend(account.write(&options.conf_dir)?.into_iter().map(Change::Wrote));
    }
    let networks = Networks::new(&options.conf_dir, options.conf_name.as_deref());
    changes.extend(networks.chain(&options.entry())?);
    Ok(changes)
}

/// Takes everything away. `keep_binary`: pods that began with it are ended with it by runtimes that remember the chain of each
/// (CRI-O), and cannot be without.
///
/// # Errors
/// As of [`install`]; what comes before it is done, and the next try goes on.
pub fn uninstall(conf_dir: &Path, bin_dir: &Path, keep_binary: bool) -> Result<Vec<Change>, InstallError> {
    let mut changes = Networks::new(conf_dir, None).unchain()?;
    let mut files = vec![conf_dir.join(account::KUBECONFIG), conf_dir.join(account::ROOTS)];
    if !keep_binary {
        files.push(bin_dir.join(NAME));
    }
    for path in files {
        match fs::remove_file(&path) {
            Ok(()) => changes.push(Change::Removed(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, "removed")(error)),
        }
    }
    Ok(changes)
}

/// Makes sure that nobody has what is in these directories of a daemon's.
///
/// # Errors
/// A daemon runs, or it cannot be known.
pub fn refuse_running<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Result<(), InstallError> {
    for directory in directories {
        match running::held(directory).map_err(failed(directory, "looked through"))? {
            None => {}
            Some(Held::Locked(path)) => return Err(InstallError::Running { path, is_answered: false }),
            Some(Held::Answered(path)) => return Err(InstallError::Running { path, is_answered: true }),
        }
    }
    Ok(())
}

/// Takes away all that is in a directory of the daemon's, which itself may be somebody's mount; a link, and not what it leads to.
///
/// # Errors
/// A file cannot be removed. That there is no such directory is none.
pub fn empty(directory: &Path) -> Result<Vec<Change>, InstallError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(directory, "read")(error)),
    };
    let mut changes = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(directory, "read"))?;
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed(&path, "removed"))?;
        changes.push(Change::Removed(path));
    }
    Ok(changes)
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wrote(path) => write!(f, "wrote {}", path.display()),
            Self::Chained(path) => write!(f, "chained {NAME} into {}", path.display()),
            Self::Unchained(path) => write!(f, "took {NAME} out of {}", path.display()),
            Self::Removed(path) => write!(f, "removed {}", path.display()),
        }
    }
}
