//! The options of `canopy run` about the control plane that the node follows.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use config::name::{ClusterDomain, NodeName, PodName};

use super::certificates::cluster_name;
use crate::control::discovery::client::{Introduction, Options, Server, Tls};

/// Following a control plane.
#[derive(Debug, Args)]
pub(super) struct Discovery {
    /// The control plane to follow, as unix:PATH, https://HOST:PORT, or http://127.0.0.1:PORT on this machine: all objects come from it, and of
    /// the files in --config Pods alone count. Without it, all comes from the files.
    #[arg(long = "discovery", value_name = "URL", env = "CANOPY_DISCOVERY")]
    discovery: Option<Server>,
    /// The roots that the control plane's certificate leads to (PEM), with https; read with every connection.
    #[arg(long, value_name = "FILE", env = "CANOPY_DISCOVERY_ROOT", requires = "discovery")]
    discovery_root: Option<PathBuf>,
    /// The DNS name in the control plane's certificate, if it is not HOST.
    #[arg(long, value_name = "HOST", env = "CANOPY_DISCOVERY_NAME", requires = "discovery")]
    discovery_name: Option<String>,
    /// The certificate to show the control plane (PEM, a chain), with its key; read with every connection.
    #[arg(
        long,
        value_name = "FILE",
        env = "CANOPY_DISCOVERY_CERTIFICATE",
        requires = "discovery",
        requires = "discovery_key"
    )]
    discovery_certificate: Option<PathBuf>,
    /// The key of --discovery-certificate (PEM).
    #[arg(long, value_name = "FILE", env = "CANOPY_DISCOVERY_KEY", requires = "discovery_certificate")]
    discovery_key: Option<PathBuf>,
    /// A token to show the control plane, as a service account's; read with every connection.
    #[arg(long, value_name = "FILE", env = "CANOPY_DISCOVERY_TOKEN", requires = "discovery")]
    discovery_token: Option<PathBuf>,
    /// What the control plane calls this cluster [default: as --istio-cluster, or Kubernetes].
    #[arg(long, value_name = "NAME", env = "CANOPY_DISCOVERY_CLUSTER", value_parser = cluster_name, requires = "discovery")]
    discovery_cluster: Option<String>,
    /// What the control plane calls the network of this node's pods, if it has a name there: addresses of others are not dialled.
    #[arg(long, value_name = "NAME", env = "CANOPY_DISCOVERY_NETWORK", requires = "discovery")]
    discovery_network: Option<String>,
    /// The pod that the daemon runs in, as NAMESPACE/NAME: istiod compares its namespace with the token's [default: canopy-system/NODE].
    #[arg(long, value_name = "POD", env = "CANOPY_DISCOVERY_POD", value_parser = pod, requires = "discovery")]
    discovery_pod: Option<PodName>,
    /// Ask for workloads and Services when they are used first, not for all of them.
    #[arg(long, env = "CANOPY_DISCOVERY_ON_DEMAND", requires = "discovery")]
    discovery_on_demand: bool,
    /// A directory for what the control plane said last, from which the daemon starts while it is away; each daemon needs its own.
    #[arg(long, value_name = "DIR", env = "CANOPY_DISCOVERY_CACHE", requires = "discovery")]
    discovery_cache: Option<PathBuf>,
}

/// What else is known of the node.
#[derive(Debug)]
pub(super) struct About {
    pub(super) node: Option<NodeName>,
    /// As the certificate service calls it.
    pub(super) cluster: Option<String>,
    pub(super) domain: ClusterDomain,
    pub(super) trust_domain: String,
}

impl Discovery {
    /// As the daemon takes it; `None` where there is no control plane to follow.
    pub(super) fn choice(self, about: About) -> Result<Option<Options>, String> {
        let Some(server) = self.discovery else { return Ok(None) };
        let is_tls = matches!(server, Server::Tls(_));
        if is_tls && self.discovery_root.is_none() {
            return Err(format!(
                "--discovery {server}: name the roots of its certificate, too: --discovery-root FILE"
            ));
        }
        let about_tls = [
            ("--discovery-root", self.discovery_root.is_some()),
            ("--discovery-name", self.discovery_name.is_some()),
            ("--discovery-certificate", self.discovery_certificate.is_some()),
        ];
        if let Some((option, _)) = about_tls.iter().find(|(_, is_given)| *is_given && !is_tls) {
            return Err(format!(
                "{option}: there is no TLS with {server}: leave it out, or give https://HOST:PORT"
            ));
        }
        let node = about.node.map(|node| node.to_string()).unwrap_or_default();
        let name = node.split('.').next().filter(|name| !name.is_empty()).unwrap_or("canopy");
        let pod = match self.discovery_pod {
            Some(given) => given,
            None => pod(&format!("{NAMESPACE}/{name}"))?,
        };
        let cluster = self.discovery_cluster.or(about.cluster).unwrap_or_else(|| CLUSTER.to_owned());
        Ok(Some(Options {
            server,
            tls: Arc::new(Tls {
                root: self.discovery_root.unwrap_or_default(),
                name: self.discovery_name,
                certificate: self.discovery_certificate.zip(self.discovery_key),
            }),
            token: self.discovery_token,
            introduction: Introduction {
                node,
                // Known when the daemon has looked for them.
                addresses: Vec::new(),
                pod,
                cluster,
                domain: about.domain,
                network: self.discovery_network.unwrap_or_default(),
            },
            on_demand: self.discovery_on_demand.then_some(MOST),
            cache: self.discovery_cache,
            trust_domain: about.trust_domain,
        }))
    }
}

pub(super) fn pod(text: &str) -> Result<PodName, String> {
    let (namespace, name) = text.split_once('/').ok_or("give NAMESPACE/NAME")?;
    let name = name.try_into().map_err(|error| format!("its name {error}"))?;
    Ok(PodName::new(namespace.try_into().map_err(|error| format!("its namespace {error}"))?, name))
}

/// Where the daemon runs if nobody says so.
const NAMESPACE: &str = "canopy-system";
/// What istiod calls its own cluster where nobody says otherwise.
const CLUSTER: &str = "Kubernetes";
/// Addresses that are asked for one by one at most: some hundred for each pod of a full node.
const MOST: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(arguments: &[&str]) -> Result<Option<Options>, String> {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            discovery: Discovery,
        }
        let line = [&["canopy"], arguments].concat();
        let line = <Line as clap::Parser>::try_parse_from(line).map_err(|error| error.to_string())?;
        line.discovery.choice(About {
            node: Some("node-1.example".try_into().unwrap()),
            cluster: None,
            domain: "cluster.local".try_into().unwrap(),
            trust_domain: "cluster.local".to_owned(),
        })
    }

    #[test]
    fn a_node_follows_no_control_plane_unless_it_is_told_one() {
        assert!(choice(&[]).unwrap().is_none());
        let options =
            choice(&["--discovery=unix:/run/control.sock", "--discovery-on-demand"]).unwrap().unwrap();
        assert_eq!(options.server, Server::Unix("/run/control.sock".into()));
        assert_eq!(options.on_demand, Some(MOST));
        assert_eq!(options.introduction.cluster, "Kubernetes");
        assert_eq!(options.introduction.pod.to_string(), "canopy-system/node-1");
    }

    #[test]
    fn what_tls_needs_is_asked_for_and_is_refused_without_tls() {
        let https = "--discovery=https://istiod.istio-system.svc:15012";
        assert!(choice(&[https]).unwrap_err().contains("--discovery-root FILE"));
        let options =
            choice(&[https, "--discovery-root=/r", "--discovery-certificate=/c", "--discovery-key=/k"]);
        let tls = options.unwrap().unwrap().tls;
        assert_eq!(tls.certificate, Some(("/c".into(), "/k".into())));
        let plain = ["--discovery=http://127.0.0.1:15010", "--discovery-root=/r"];
        assert!(choice(&plain).unwrap_err().contains("--discovery-root: there is no TLS"));
        assert!(
            choice(&[https, "--discovery-root=/r", "--discovery-certificate=/c"])
                .unwrap_err()
                .contains("--discovery-key")
        );
    }

    #[test]
    fn an_option_of_discovery_without_it_is_an_error() {
        for option in [
            "--discovery-cache=/x",
            "--discovery-on-demand",
            "--discovery-token=/t",
            "--discovery-cluster=east",
        ] {
            assert!(choice(&[option]).unwrap_err().contains("--discovery <URL>"), "{option}");
        }
    }

    #[test]
    fn the_pod_is_named_with_its_namespace() {
        let unix = "--discovery=unix:/x";
        let options = choice(&[unix, "--discovery-pod=mesh/canopy-7"]).unwrap().unwrap();
        assert_eq!(options.introduction.pod.to_string(), "mesh/canopy-7");
        assert!(choice(&[unix, "--discovery-pod=canopy-7"]).unwrap_err().contains("NAMESPACE/NAME"));
    }
}
