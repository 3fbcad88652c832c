//! `canopy sidecar`: the proxy of one pod, within it, in the foreground.
//!
//! Arguments, the log, and the hand-over to `mode::node`, of which a sidecar is one of a single pod.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use config::name::{PodName, ServiceAccount};

use super::{Daemon, Outcome, carrying::Carrying, discovery::pod};
use crate::{
    mode::{
        Manifests,
        node::{self, NodeOptions},
        sidecar::{CaptureChoice, Sidecar as Choice, given::Given},
    },
    sys::descriptors,
};

/// Run the proxy of one pod, within that pod, until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy sidecar --pod shop/cart --config /etc/canopy
                                        the mesh in manifests, this pod's among them
  canopy sidecar --pod shop/cart --pod-ip 10.0.3.7 --service-account cart \\
    --discovery https://canopy-control.canopy-system:15012 --discovery-root FILE
                                        all from a control plane; the pod is who it is told to be
  canopy sidecar --pod shop/cart --config DIR --capture nftables
                                        without eBPF, whatever could be had

It has to be in the pod's network namespace, with the right to program it (CAP_NET_ADMIN). In a cluster, the label
canopy.mesh/mode: sidecar has it put into pods: docs/operations/sidecar.md. What the container may use is what the pod's connections may:
cpu.max and memory.max of its control group, as they are and as they change.

SIGTERM drains, as that of `canopy run` does.")]
pub(super) struct Sidecar {
    /// The pod, as NAMESPACE/NAME.
    #[arg(long, value_name = "POD", value_parser = pod, env = "CANOPY_POD")]
    pod: PodName,
    /// Its addresses (status.podIPs); needed without --config.
    #[arg(long = "pod-ip", value_name = "IP", env = "CANOPY_POD_IP", value_delimiter = ',')]
    pod_ips: Vec<IpAddr>,
    /// Its UID (metadata.uid).
    #[arg(long, value_name = "UID", env = "CANOPY_POD_UID")]
    pod_uid: Option<String>,
    /// Its service account (spec.serviceAccountName), without --config.
    #[arg(long, value_name = "NAME", default_value = "default", env = "CANOPY_SERVICE_ACCOUNT")]
    service_account: String,
    /// What its manifest says besides, as JSON: metadata.labels, metadata.annotations, and of spec the containers' ports and probes;
    /// without --config.
    #[arg(long, value_name = "JSON", env = "CANOPY_POD_MANIFEST")]
    pod_manifest: Option<String>,
    /// The directory of Kubernetes manifests (.yaml, .yml, .json); not needed with --discovery.
    #[arg(long, value_name = "DIR", env = "CANOPY_CONFIG", required_unless_present = "discovery")]
    config: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
    /// How the pod's connections are captured.
    #[arg(long, value_enum, default_value_t = Capture::Auto, env = "CANOPY_CAPTURE")]
    capture: Capture,
    /// Where /metrics, /readyz and /livez are served, by default at every address of both families; what comes to that port of the pod is not
    /// captured.
    #[arg(long, value_name = "IP:PORT", default_value = "[::]:15020", env = "CANOPY_METRICS_ADDR")]
    metrics_addr: SocketAddr,
    /// The name of the node that the pod is on (spec.nodeName).
    #[arg(long, value_name = "NAME", env = "CANOPY_NODE")]
    node: Option<String>,
    /// The zone of that node (its label topology.kubernetes.io/zone): endpoints that are meant for it are preferred.
    #[arg(long, value_name = "ZONE", env = "CANOPY_ZONE")]
    zone: Option<String>,
    /// An address of that node, from which its kubelet probes the pod (status.hostIPs); may be repeated.
    #[arg(long = "node-ip", value_name = "IP", env = "CANOPY_NODE_IP", value_delimiter = ',')]
    node_ips: Vec<IpAddr>,
    #[command(flatten)]
    carrying: Carrying,
    /// Connections that the pod may have open, and as many to endpoints; by default as the process's descriptors allow.
    #[arg(long, value_name = "NUMBER", env = "CANOPY_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Capture {
    /// By eBPF where the pod may, by nftables otherwise.
    Auto,
    /// By eBPF or not at all.
    Ebpf,
    /// By nftables.
    Nftables,
}

impl Sidecar {
    pub(super) fn run(self) -> Outcome {
        let _flush = self.carrying.begin()?;
        if let Err(error) = descriptors::keep_from_children() {
            tracing::debug!(%error, "what was open when the sidecar was started stays open in what it starts");
        }
        node::run(self.options()?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// A node's daemon's, of one pod.
    fn options(self) -> Result<NodeOptions, Box<dyn std::error::Error>> {
        let manifests = match self.config {
            Some(directory) => Manifests::Directory(directory),
            None => Manifests::Given(Box::new(Given {
                pod: self.pod.clone(),
                uid: self.pod_uid,
                account: ServiceAccount::try_from(self.service_account)
                    .map_err(|error| format!("--service-account: {error}"))?,
                addresses: self.pod_ips,
                manifest: self.pod_manifest,
            })),
        };
        let capture = match self.capture {
            Capture::Auto => CaptureChoice::Auto,
            Capture::Ebpf => CaptureChoice::Ebpf,
            Capture::Nftables => CaptureChoice::Nftables,
        };
        let node = super::node(self.node)?;
        let mut options = self.carrying.options(self.daemon, node, manifests, self.metrics_addr)?;
        if let Some(client) = &mut options.discovery {
            client.introduction.pod = self.pod.clone();
        }
        Ok(NodeOptions {
            sidecar: Some(Choice { pod: self.pod, capture }),
            node_addresses: self.node_ips,
            zone: super::zone(self.zone)?,
            connections: self.connections.map(|most| most as usize),
            ..options
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        sidecar: Sidecar,
    }

    #[test]
    fn every_option_is_documented_with_its_variable_and_its_default() {
        let own = include_str!("../../../docs/operations/sidecar.md");
        let nodes = include_str!("../../../docs/operations.md");
        let command = <Line as clap::CommandFactory>::command();
        let mut documented = 0;
        for option in command.get_arguments().filter(|option| option.get_id() != "help") {
            let name = option.get_long().unwrap();
            let variable = option.get_env().expect("a variable for every option").to_str().unwrap();
            let default = option.get_default_values().first().map(|default| default.to_str().unwrap());
            let default = default.map_or("–".to_owned(), |default| format!("`{default}`"));
            let row = format!("| `--{name}` | `{variable}` | {default} |");
            // Those that `canopy run` has, too, are held to its page there.
            let is_nodes = nodes.contains(&format!("| `--{name}` |"));
            assert!(own.contains(&row) || is_nodes, "docs/operations/sidecar.md has no {row}");
            documented += usize::from(own.contains(&row));
        }
        let rows = own.lines().filter(|line| line.starts_with("| `--")).count();
        assert_eq!(rows, documented, "docs/operations/sidecar.md has an option that is none");
    }

    fn options(arguments: &[&str]) -> Result<NodeOptions, String> {
        let line =
            Line::try_parse_from([&["canopy"], arguments].concat()).map_err(|error| error.to_string())?;
        line.sidecar.options().map_err(|error| error.to_string())
    }

    #[test]
    fn the_pod_is_read_of_manifests_or_told_and_never_guessed() {
        let files = options(&["--pod=shop/cart", "--config=/etc/canopy"]).unwrap();
        assert!(matches!(files.manifests, Manifests::Directory(_)));
        assert_eq!(files.sidecar.unwrap().pod.to_string(), "shop/cart");
        let told = options(&["--pod=shop/cart", "--pod-ip=10.0.0.7,fd00::7", "--discovery=unix:/x"]).unwrap();
        let Manifests::Given(given) = told.manifests else { panic!("a directory") };
        assert_eq!((given.addresses.len(), given.account.as_str()), (2, "default"));
        assert_eq!(told.discovery.unwrap().introduction.pod.to_string(), "shop/cart");
        assert!(options(&["--config=/etc/canopy"]).unwrap_err().contains("--pod <POD>"));
        assert!(options(&["--pod=shop/cart"]).unwrap_err().contains("--config <DIR>"));
        assert!(options(&["--pod=cart", "--config=/x"]).unwrap_err().contains("NAMESPACE/NAME"));
    }
}
