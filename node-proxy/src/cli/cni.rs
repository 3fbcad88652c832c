//! `canopy cni`: the CNI plugin, and its way onto a node and off it.
//!
//! Without a further verb it is the plugin, as a container runtime calls it: by its environment and standard input, never by people.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Outcome,
    run::{LogFormat, start_log},
};
use crate::cni::{
    self,
    install::{
        Options, Told,
        account::{self, Account},
        empty, install, refuse_running, uninstall, watch,
    },
    network,
};

/// The CNI plugin: no container of a captured pod starts before the pod is enrolled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy cni install --cni-conf-dir /etc/cni/net.d --cni-bin-dir /opt/cni/bin --gate-socket /run/canopy/gate.sock
                                        chain it into this node's network
  canopy cni install --watch            the same, and repair what others overwrite, until SIGTERM
  canopy cni uninstall                  take it out of every network, and its files away

`canopy cni` alone is what the container runtime runs, as `canopy-cni`: it reads CNI_COMMAND and its like and standard input, asks the
daemon's gate (`canopy run --gate-socket`), and answers as the CNI specification has it (0.3.0 to 1.1.0).")]
pub(super) struct Cni {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(Box<Install>),
    Uninstall(Uninstall),
}

/// Put the plugin on this node, and chain it into its network.
#[derive(Debug, Args)]
struct Install {
    #[command(flatten)]
    places: Places,
    /// The directory of networks as the container runtime sees it, where this process sees it elsewhere [default: as --cni-conf-dir].
    #[arg(long, value_name = "DIR", env = "CANOPY_CNI_HOST_CONF_DIR")]
    cni_host_conf_dir: Option<PathBuf>,
    /// The network's file, by its name in that directory [default: the first, as the runtime takes it, but for Multus's].
    #[arg(long, value_name = "NAME", env = "CANOPY_CNI_CONF_NAME")]
    cni_conf_name: Option<String>,
    /// The daemon's gate, as the host sees it.
    #[arg(long, value_name = "PATH", default_value = "/run/canopy/gate.sock", env = "CANOPY_GATE_SOCKET")]
    gate_socket: PathBuf,
    /// What the daemon leaves of namespaces on disk (its --gate-cache), as the host sees it.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/canopy/namespaces.json",
        env = "CANOPY_GATE_CACHE"
    )]
    gate_cache: PathBuf,
    /// Namespaces whose pods pass unasked, besides kube-system: the daemon's own; separated by commas.
    #[arg(
        long,
        value_name = "NAMES",
        default_value = "canopy-system",
        env = "CANOPY_CNI_EXEMPT",
        value_delimiter = ','
    )]
    exempt: Vec<String>,
    /// How long a pod may wait, in seconds; then its sandbox fails, and the kubelet tries again.
    #[arg(long, value_name = "SECONDS", default_value_t = network::DEFAULT_SECONDS, env = "CANOPY_CNI_TIMEOUT",
          value_parser = clap::value_parser!(u64).range(1..=network::MOST_SECONDS))]
    timeout: u64,
    /// The API server, as the host reaches it; `off` for a plugin that does not ask it [default: as a pod's environment names it].
    #[arg(long, value_name = "URL|off", env = "CANOPY_CNI_API_SERVER")]
    api_server: Option<String>,
    /// The directory with the token and ca.crt of the account with which the plugin asks it.
    #[arg(long, value_name = "DIR", default_value = account::SERVICE_ACCOUNT, env = "CANOPY_CNI_ACCOUNT")]
    account: PathBuf,
    /// Stay, and repair what others overwrite, until SIGTERM; that leaves the plugin where it is.
    #[arg(long, env = "CANOPY_CNI_WATCH")]
    watch: bool,
    /// What it says of itself, on standard error: error, warn, info, debug.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "CANOPY_LOG")]
    log_level: String,
    /// As what it says it.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "CANOPY_LOG_FORMAT")]
    log_format: LogFormat,
}

/// Take the plugin out of every network of this node, and its files away.
#[derive(Debug, Args)]
struct Uninstall {
    #[command(flatten)]
    places: Places,
    /// Leave the plugin's file: CRI-O ends a pod with the plugins that it began with.
    #[arg(long, env = "CANOPY_CNI_KEEP_BINARY")]
    keep_binary: bool,
    /// A directory of the daemon's that is emptied, too: what it keeps for its next start, and what tenants used. No daemon may run.
    #[arg(long, value_name = "DIR")]
    remove_state: Vec<PathBuf>,
    /// Stay when all is done, until SIGTERM: for a DaemonSet, whose containers may not end.
    #[arg(long)]
    stay: bool,
}

#[derive(Debug, Args)]
struct Places {
    /// The directory of networks, as this process sees it.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d", env = "CANOPY_CNI_CONF_DIR")]
    cni_conf_dir: PathBuf,
    /// The directory of plugins, as this process sees it.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin", env = "CANOPY_CNI_BIN_DIR")]
    cni_bin_dir: PathBuf,
}

impl Cni {
    pub(super) fn run(self) -> Outcome {
        match self.verb {
            None => plugin(),
            Some(Verb::Install(verb)) => verb.run(),
            Some(Verb::Uninstall(verb)) => verb.run(),
        }
    }
}

fn plugin() -> Outcome {
    let variable = |name: &str| std::env::var(name).ok();
    let mut input = Vec::new();
    let read = match variable("CNI_COMMAND") {
        Some(_) => io::stdin().lock().take(LONGEST).read_to_end(&mut input).map(drop),
        // A person's terminal would be waited for.
        None => Ok(()),
    };
    // What is written to standard output is one answer, and nothing else.
    let mut answer = Vec::new();
    let code = match read {
        Ok(()) => super::runtime()?.block_on(cni::plugin(variable, &input, (&mut answer, &mut io::stderr()))),
        Err(error) => cni::unread(&error, &mut answer),
    };
    io::stdout().lock().write_all(&answer)?;
    Ok(code)
}

impl Install {
    fn run(self) -> Outcome {
        let (watches, filter, format) = (self.watch, self.log_level.clone(), self.log_format);
        let options = self.options()?;
        if !watches {
            return tell(&install(&options)?, "all is as it should be");
        }
        let _flush = start_log(&filter, format)?;
        super::runtime()?.block_on(async {
            tokio::select! {
                () = watch::keep(&options) => {}
                told = told_to_end() => told?,
            }
            tracing::info!("ended; the plugin stays: `canopy cni uninstall` takes it away");
            Ok(ExitCode::SUCCESS)
        })
    }

    fn options(self) -> Result<Options, Box<dyn std::error::Error>> {
        let found = || account::server(|name| std::env::var(name).ok());
        let server = match self.api_server.as_deref() {
            Some("off") => None,
            Some(url) => Some(url.to_owned()),
            None => Some(found().ok_or(
                "--api-server: this is no pod's environment (KUBERNETES_SERVICE_HOST is not set): give its URL, or `off` for a plugin that \
                 asks nobody but the daemon",
            )?),
        };
        let account = server.map(|server| Account {
            server,
            token: self.account.join("token"),
            roots: self.account.join("ca.crt"),
        });
        let Places { cni_conf_dir, cni_bin_dir } = self.places;
        Ok(Options {
            conf_dir_of_host: self.cni_host_conf_dir.unwrap_or_else(|| cni_conf_dir.clone()),
            conf_dir: cni_conf_dir,
            bin_dir: cni_bin_dir,
            conf_name: self.cni_conf_name,
            // Not by its name: that may be another's by now.
            program: PathBuf::from("/proc/self/exe"),
            account,
            told: Told {
                gate: self.gate_socket,
                cache: Some(self.gate_cache),
                exempt: self.exempt,
                seconds: self.timeout,
            },
        })
    }
}

impl Uninstall {
    fn run(self) -> Outcome {
        let Places { cni_conf_dir, cni_bin_dir } = self.places;
        if !self.remove_state.is_empty() {
            // Where each daemon holds its name, whichever directories it has besides.
            let names = ebpf_redirect::remains::Places::default().run;
            refuse_running(self.remove_state.iter().chain([&names]).map(PathBuf::as_path))?;
        }
        let mut changes = uninstall(&cni_conf_dir, &cni_bin_dir, self.keep_binary)?;
        for directory in &self.remove_state {
            changes.extend(empty(directory)?);
        }
        let done = tell(&changes, "nothing is installed")?;
        if self.stay {
            super::runtime()?.block_on(told_to_end())?;
        }
        Ok(done)
    }
}

/// Until this process is told to end.
async fn told_to_end() -> io::Result<()> {
    let (mut stop, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Says what was done, a line for each thing.
fn tell(changes: &[cni::install::Change], nothing: &str) -> Outcome {
    let mut out = io::stdout().lock();
    if changes.is_empty() {
        writeln!(out, "{nothing}")?;
    }
    for change in changes {
        writeln!(out, "{change}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes of standard input at most; one more than the plugin takes.
const LONGEST: u64 = cni::LONGEST_NETWORK + 1;
