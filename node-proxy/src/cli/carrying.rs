//! The options of whatever carries pods, a node's daemon (`canopy run`) or one pod's sidecar: whose mesh, by what certificates, how it ends,
//! and what it says.
//!
//! It must never say where pods are or how they are captured: that is what the two differ in.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};
use config::{
    capacity::Amounts,
    identity::TrustDomain,
    name::{Namespace, NodeName, RootNamespace},
};
use ebpf_redirect::FenceChoice;

use super::{
    Daemon,
    certificates::Certificates,
    discovery::{About, Discovery},
    log::Flush,
    names::Names,
    run::{LogFormat, start_log},
    tunnels::Tunnels,
};
use crate::{
    admin::owners,
    forest::OnStop,
    hbone::Site,
    mode::{
        Manifests,
        node::{NodeOptions, RedirectChoice},
    },
    sys::dumps,
    telemetry::access::Target,
};

/// What carries pods.
#[derive(Debug, Args)]
pub(super) struct Carrying {
    /// Where the access log goes: a file, `-` for standard output, or `off`.
    #[arg(long, value_name = "PATH|-|off", default_value = "-", env = "CANOPY_ACCESS_LOG")]
    access_log: String,
    /// The trust domain of identities.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "CANOPY_TRUST_DOMAIN")]
    trust_domain: String,
    /// What the names of the cluster's Services end in, for the other ends of tunnels.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "CANOPY_CLUSTER_DOMAIN")]
    cluster_domain: String,
    /// The namespace whose policies are for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system", env = "CANOPY_ROOT_NAMESPACE")]
    root_namespace: String,
    #[command(flatten)]
    discovery: Discovery,
    #[command(flatten)]
    certificates: Certificates,
    #[command(flatten)]
    tunnels: Tunnels,
    #[command(flatten)]
    names: Names,
    /// How long connections may go on after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, env = "CANOPY_DRAIN")]
    drain: u64,
    /// How pods are left when it ends.
    #[arg(long, value_enum, default_value_t = Stop::Close, env = "CANOPY_ON_STOP")]
    on_stop: Stop,
    /// What it says of itself, on standard error: error, warn, info, debug, or `module=level,…`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "CANOPY_LOG")]
    log_level: String,
    /// As what it says it.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "CANOPY_LOG_FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stop {
    /// Their connections are refused until the next start of this instance, or `canopy release`.
    Close,
    /// As if there had been no proxy; but what comes in to a pod that a policy protects is refused all the same.
    Open,
}

impl Stop {
    fn choice(self) -> OnStop {
        match self {
            Self::Close => OnStop::Close,
            Self::Open => OnStop::Open,
        }
    }
}

impl Carrying {
    /// Begins the log, which is written out when what comes back is dropped. Before there is a key.
    pub(super) fn begin(&self) -> Result<Flush, String> {
        let flush = start_log(&self.log_level, self.log_format)?;
        if let Err(error) = dumps::forbid() {
            tracing::warn!(%error, "a crash may write keys to a core file (`ulimit -c 0` prevents it)");
        }
        Ok(flush)
    }

    /// Of one that knows neither gate nor runtime, and holds nothing back: who has more says so.
    pub(super) fn options(
        self,
        daemon: Daemon,
        node: Option<NodeName>,
        manifests: Manifests,
        metrics_addr: SocketAddr,
    ) -> Result<NodeOptions, Box<dyn std::error::Error>> {
        let domain = self.cluster_domain.try_into().map_err(|error| format!("--cluster-domain: {error}"))?;
        let site = Site { cluster: self.certificates.cluster(), domain };
        let discovery = self.discovery.choice(About {
            node: node.clone(),
            cluster: site.cluster.clone(),
            domain: site.domain.clone(),
            trust_domain: self.trust_domain.clone(),
        })?;
        Ok(NodeOptions {
            discovery,
            manifests,
            admin_socket: daemon.socket(),
            owners: owners::default_directory(&daemon.instance),
            metrics_addr,
            instance: daemon.instance,
            access_log: target(&self.access_log),
            trust_domain: TrustDomain::try_from(self.trust_domain)?,
            root_namespace: RootNamespace(Namespace::try_from(self.root_namespace)?),
            node,
            revocations: self.certificates.crl.clone(),
            site,
            certificates: self.certificates.choice(),
            tunnels: self.tunnels.choice(),
            names: self.names.pace()?,
            drain: Duration::from_secs(self.drain),
            on_stop: self.on_stop.choice(),
            node_addresses: Vec::new(),
            zone: None,
            connections: None,
            gate: None,
            runtime: None,
            zds: None,
            showback: None,
            redirect: RedirectChoice::Auto,
            fence: FenceChoice::Off,
            reserve: Amounts::default(),
            budgets: true,
            lanes: None,
            sidecar: None,
        })
    }
}

fn target(text: &str) -> Target {
    match text {
        "-" => Target::Stdout,
        "off" => Target::Off,
        path => Target::File(path.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_log_goes_where_the_argument_says() {
        assert_eq!(target("-"), Target::Stdout);
        assert_eq!(target("off"), Target::Off);
        assert_eq!(target("/x/y"), Target::File("/x/y".into()));
    }
}
