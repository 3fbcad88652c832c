//! `canopy control`: the control plane, in the foreground.
//!
//! Arguments, its log, and the hand-over to `mode::control`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use config::{
    discovery::Site,
    identity::TrustDomain,
    name::{Namespace, RootNamespace},
};
use rustls::time_provider::DefaultTimeProvider;

use super::{
    Outcome,
    manifests::Manifests,
    run::{LogFormat, start_log},
};
use crate::{
    control::{
        discovery::server::{Listen, TlsFiles},
        inject::{self, Terms},
        kubernetes::{Account, AuthorityOptions, Believed},
    },
    hbone::fields,
    mode::{
        self,
        control::{self, ControlOptions},
    },
    sys::dumps,
};

/// Serve the mesh to its nodes, in the foreground, until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy control --config examples/two-tenants --listen unix:/run/canopy/control.sock
  canopy control --config /etc/canopy --listen 0.0.0.0:15012 --certificate tls.crt --key tls.key --client-roots nodes.crt
  canopy control --kubernetes --listen 0.0.0.0:15012 --certificate tls.crt --key tls.key --client-roots nodes.crt
                                        the objects of the cluster, within a pod or by a kubeconfig
  canopy control --kubernetes --listen 0.0.0.0:15012 --authority
                                        and the cluster's certificate authority, its own certificate included
  canopy control --kubernetes --listen 0.0.0.0:15012 --authority --webhook 0.0.0.0:15017 --webhook-image canopy:0.1.0
                                        and what gives pods their sidecars

The directory is watched: an edit is sent to the nodes that it concerns. A broken edit keeps the last good version of that object and
says so. Nodes go on with what they have while no control plane runs.

Whoever may read reads the whole mesh: who calls whom, who is let in where, and every address. docs/control-plane.md tells how to
secure it.")]
pub(super) struct Control {
    #[command(flatten)]
    manifests: Manifests,
    /// Where nodes find it: unix:PATH, or IP:PORT; may be repeated. Without --certificate, only loopback addresses.
    #[arg(
        long,
        value_name = "unix:PATH|IP:PORT",
        default_value = "unix:/run/canopy/control.sock",
        env = "CANOPY_CONTROL_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<Listen>,
    /// The server's certificate, and those that it rests on (PEM); read again when it changes.
    #[arg(long, value_name = "FILE", requires = "key", env = "CANOPY_CONTROL_CERTIFICATE")]
    certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate", env = "CANOPY_CONTROL_KEY")]
    key: Option<PathBuf>,
    /// Roots of the nodes' certificates (PEM): who has none of theirs is not served.
    #[arg(long, value_name = "FILE", requires = "certificate", env = "CANOPY_CONTROL_CLIENT_ROOTS")]
    client_roots: Option<PathBuf>,
    /// Be the certificate authority of the cluster, too, with a root in the Secret canopy-ca: for nodes, as IstioCertificateService.
    /// Without the files of --certificate, its own certificate is of that root.
    #[arg(long, requires = "kubernetes", env = "CANOPY_AUTHORITY")]
    authority: bool,
    /// Whether who reads the mesh over TCP has to show the token of a node's daemon: required with --kubernetes, otherwise off.
    #[arg(long, value_enum, env = "CANOPY_CONTROL_NODE_TOKENS")]
    node_tokens: Option<NodeTokens>,
    /// For whom tokens have to be of those that ask for certificates or read the mesh.
    #[arg(long, value_name = "NAME", default_value = "istio-ca", env = "CANOPY_AUTHORITY_AUDIENCE")]
    authority_audience: String,
    /// Service accounts of nodes' daemons, which read the mesh and ask for the identities of their nodes' pods; several, separated by
    /// commas.
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "canopy-system/canopy-node",
        env = "CANOPY_AUTHORITY_ACCOUNTS",
        value_delimiter = ','
    )]
    authority_accounts: Vec<Account>,
    /// How long certificates live at most, in seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 86_400,
        value_parser = clap::value_parser!(u64).range(600..=2_592_000),
        env = "CANOPY_AUTHORITY_TTL"
    )]
    authority_ttl: u64,
    /// Answer the API server at this port, too, with what gives pods their sidecars (docs/operations/sidecar.md).
    #[arg(
        long,
        value_name = "IP:PORT",
        requires = "authority",
        requires = "webhook_image",
        env = "CANOPY_WEBHOOK"
    )]
    webhook: Option<SocketAddr>,
    /// The image of sidecars: this binary's.
    #[arg(long, value_name = "IMAGE", env = "CANOPY_WEBHOOK_IMAGE")]
    webhook_image: Option<String>,
    /// Where pods find this control plane.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "canopy-control.canopy-system.svc:15012",
        env = "CANOPY_WEBHOOK_CONTROL"
    )]
    webhook_control: String,
    /// Where /metrics, /readyz and /livez are served.
    #[arg(
        long,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:15022",
        env = "CANOPY_CONTROL_METRICS_ADDR"
    )]
    metrics_addr: SocketAddr,
    /// The trust domain of identities.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "CANOPY_TRUST_DOMAIN")]
    trust_domain: String,
    /// What the names of the cluster's Services end in.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "CANOPY_CLUSTER_DOMAIN")]
    cluster_domain: String,
    /// What the names of workloads begin with.
    #[arg(long, value_name = "NAME", default_value = "Kubernetes", value_parser = cluster, env = "CANOPY_CLUSTER")]
    cluster: String,
    /// The namespace whose policies are for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system", env = "CANOPY_ROOT_NAMESPACE")]
    root_namespace: String,
    /// What it says of itself, on standard error: error, warn, info, debug, or `module=level,…`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "CANOPY_LOG")]
    log_level: String,
    /// As what it says it.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "CANOPY_LOG_FORMAT")]
    log_format: LogFormat,
}

/// Whether a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NodeTokens {
    /// Who shows none is told nothing.
    Required,
    /// Whoever reaches the port, or has a certificate of --client-roots, reads the mesh.
    Off,
}

impl Control {
    pub(super) fn run(self) -> Outcome {
        let _flush = start_log(&self.log_level, self.log_format)?;
        // Before there is a key.
        if let Err(error) = dumps::forbid() {
            tracing::warn!(%error, "a crash may write the key to a core file (`ulimit -c 0` prevents it)");
        }
        control::run(self.options()?)?;
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> Result<ControlOptions, Box<dyn std::error::Error>> {
        let client_roots = self.client_roots;
        // What is not there need not be, for who has an authority of his own.
        let is_given = |(certificate, _): &(PathBuf, PathBuf)| !self.authority || certificate.exists();
        let tls = self.certificate.zip(self.key).filter(is_given);
        let trust_domain = TrustDomain::try_from(self.trust_domain)?;
        let manifests = self.manifests.choice()?;
        let is_cluster = matches!(manifests, mode::Manifests::Kubernetes(_));
        let demands_tokens = match self.node_tokens {
            Some(NodeTokens::Required) if !is_cluster => {
                return Err("--node-tokens required: only a cluster says whose a token is; with --config, let --client-roots say who reads".into());
            }
            said => said.map_or(is_cluster, |said| said == NodeTokens::Required),
        };
        if self.webhook.is_some() && tls.is_some() {
            return Err("--webhook: pods are told the roots of the own authority, which --certificate does not lead to: leave one out".into());
        }
        let webhook = self.webhook.zip(self.webhook_image).map(|(listen, image)| inject::Options {
            listen,
            terms: Terms {
                image,
                control: self.webhook_control,
                audience: self.authority_audience.clone(),
                trust_domain: trust_domain.to_string(),
                cluster_domain: self.cluster_domain.clone(),
                root_namespace: self.root_namespace.clone(),
            },
        });
        let believed = Believed { audience: self.authority_audience, accounts: self.authority_accounts };
        let authority = self.authority.then(|| AuthorityOptions {
            trust_domain: trust_domain.clone(),
            believed: believed.clone(),
            lifetime: Duration::from_secs(self.authority_ttl),
            cluster_domain: self.cluster_domain.clone(),
            // Where nodes trust another certificate, what leads to it is not ours to say.
            publishes: tls.is_none(),
            webhook: webhook.is_some(),
            clock: Arc::new(DefaultTimeProvider),
        });
        let domain = self.cluster_domain.try_into().map_err(|error| format!("--cluster-domain: {error}"))?;
        Ok(ControlOptions {
            manifests,
            listen: self.listen,
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key, client_roots }),
            authority,
            believed: demands_tokens.then_some(believed),
            webhook,
            metrics_addr: self.metrics_addr,
            trust_domain,
            root_namespace: RootNamespace(Namespace::try_from(self.root_namespace)?),
            site: Site { domain, cluster: self.cluster },
        })
    }
}

/// A name that has a slash in it would make the names of workloads mean something else.
fn cluster(name: &str) -> Result<String, String> {
    if fields::is_claim(name) && !name.contains('/') {
        return Ok(name.to_owned());
    }
    Err("a cluster's name is letters, digits and any of -._:@, at most 253 of them".to_owned())
}
