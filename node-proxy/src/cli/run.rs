//! `canopy run`: the node daemon, in the foreground.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};
use config::identity::TrustDomain;

use super::{Daemon, Outcome};
use crate::{
    mode::node::{self, NodeOptions, RedirectChoice},
    telemetry::access::Target,
};

/// Run the node daemon in the foreground.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy run --config examples/two-tenants
  canopy run --config DIR --access-log - --log debug
  canopy run --config DIR --redirect iptables

Edits in DIR take effect while it runs. SIGTERM and Ctrl-C drain: no new connections, those that are there finish. SIGHUP
opens the access log again.")]
pub(super) struct Run {
    /// The directory of manifests, watched.
    #[arg(long, value_name = "DIR", env = "CANOPY_CONFIG")]
    config: PathBuf,
    #[command(flatten)]
    daemon: Daemon,
    /// Where metrics and readiness are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15020", env = "CANOPY_METRICS_ADDR")]
    metrics_addr: SocketAddr,
    /// How connections are steered.
    #[arg(long, value_enum, default_value_t = Choice::Auto, env = "CANOPY_REDIRECT")]
    redirect: Choice,
    /// The access log: a file, `-` for standard output, `off` for none.
    #[arg(long, value_name = "PATH", default_value = "off", env = "CANOPY_ACCESS_LOG")]
    access_log: String,
    /// The trust domain of all identities.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "CANOPY_TRUST_DOMAIN")]
    trust_domain: String,
    /// Seconds that connections may go on after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, env = "CANOPY_DRAIN")]
    drain: u64,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a filter such as `info,node_proxy::forest=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "CANOPY_LOG")]
    log: String,
}

/// How connections are steered.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Choice {
    /// By eBPF where the kernel can, by iptables otherwise.
    Auto,
    /// By eBPF or not at all.
    Ebpf,
    /// By iptables.
    Iptables,
}

impl Run {
    pub(super) fn run(self) -> Outcome {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
            .with_target(false)
            .init();
        let redirect = match self.redirect {
            Choice::Auto => RedirectChoice::Auto,
            Choice::Ebpf => RedirectChoice::Ebpf,
            Choice::Iptables => RedirectChoice::Iptables,
        };
        let access_log = match self.access_log.as_str() {
            "off" => Target::Off,
            "-" => Target::Stdout,
            path => Target::File(path.into()),
        };
        node::run(NodeOptions {
            admin_socket: self.daemon.socket(),
            instance: self.daemon.instance,
            config: self.config,
            metrics_addr: self.metrics_addr,
            redirect,
            access_log,
            trust_domain: TrustDomain::try_from(self.trust_domain)?,
            drain: Duration::from_secs(self.drain),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
