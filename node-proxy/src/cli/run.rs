//! `canopy run`: the daemon, in the foreground.
//!
//! Arguments, the log of the daemon itself, and the hand-over to `mode::node`.

use std::{
    io::{self, IsTerminal},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use config::capacity::Amounts;
use ebpf_redirect::FenceChoice;
use tracing_subscriber::EnvFilter;

use super::{
    Daemon, Outcome,
    carrying::Carrying,
    log::{Flush, LogQueue, hear_panics},
    manifests::Manifests,
};
use crate::{
    control::{gate, sandboxes::cri},
    forest::Lanes,
    mode::node::{self, NodeOptions, RedirectChoice},
    sys::descriptors,
};

/// Run the daemon in the foreground, until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  canopy run --config examples/two-tenants
  canopy run --config /etc/canopy --access-log /var/log/canopy/access.log --log-format json
  canopy run --config DIR --discovery unix:/run/canopy/control.sock --discovery-cache /var/lib/canopy/discovery
                                        all but this machine's Pods from a control plane
  canopy run --kubernetes --node NODE --discovery https://canopy-control.canopy-system:15012 --discovery-root FILE
                                        this node's own pods from the cluster, all else from a control plane
  canopy run --config DIR --instance blue --metrics-addr 127.0.0.1:15021
                                        a second daemon beside another

The directory is watched: an edit takes effect without a restart, and a broken edit keeps the last good version of that
object and says so. `canopy validate DIR` tells beforehand. SIGHUP reopens the access log.

SIGTERM and Ctrl-C drain. Then the pods' connections are refused until the next start, so that a restart opens nothing that a
policy forbids; `canopy release` lets them go, and --on-stop open does so for pods that no policy protects.")]
pub(super) struct Run {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    daemon: Daemon,
    /// The directory of tenants' owners' sockets [default: /run/canopy-owners/INSTANCE].
    #[arg(long, value_name = "DIR", env = "CANOPY_OWNERS_DIR")]
    owners_dir: Option<PathBuf>,
    /// A file to which each tenant's use per hour is appended, and read from at the next start.
    #[arg(long, value_name = "PATH", env = "CANOPY_SHOWBACK_FILE")]
    showback_file: Option<PathBuf>,
    /// Where /metrics, /readyz and /livez are served.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15020", env = "CANOPY_METRICS_ADDR")]
    metrics_addr: SocketAddr,
    /// How pods' connections are steered to the daemon.
    #[arg(long, value_enum, default_value_t = Steering::Auto, env = "CANOPY_REDIRECT")]
    redirect: Steering,
    /// Whether pods are fenced, so that no TCP gets around steering.
    #[arg(long, value_enum, default_value_t = Fence::Auto, env = "CANOPY_FENCE")]
    fence: Fence,
    /// The name of this node: pods whose spec.nodeName is another are not on this machine.
    #[arg(long, value_name = "NAME", env = "CANOPY_NODE")]
    node: Option<String>,
    /// The zone of this node (its label topology.kubernetes.io/zone): endpoints that are meant for it are preferred. Without it, or
    /// empty, what EndpointSlices say of zones is not heeded.
    #[arg(long, value_name = "ZONE", env = "CANOPY_ZONE")]
    zone: Option<String>,
    /// The socket of the gate, at which the CNI plugin (`canopy cni`) has pods enrolled before they start; without it there is no gate.
    #[arg(long, value_name = "PATH", env = "CANOPY_GATE_SOCKET")]
    gate_socket: Option<PathBuf>,
    /// A file that says what is known of namespaces, for the CNI plugin, while neither this daemon nor the API server is there.
    #[arg(long, value_name = "FILE", requires = "gate_socket", env = "CANOPY_GATE_CACHE")]
    gate_cache: Option<PathBuf>,
    /// The container runtime's socket, by which it is known where the pods of a cluster are (containerd: unix:///run/containerd/containerd.sock,
    /// CRI-O: unix:///run/crio/crio.sock). With --kubernetes, no annotation of a pod is believed then.
    #[arg(long, value_name = "SOCKET", env = "CANOPY_CONTAINER_RUNTIME")]
    container_runtime: Option<cri::Socket>,
    /// The socket of another CNI agent that hands over pods' network namespaces (istio-cni's ztunnel.sock), in place of the plugin.
    #[arg(long, value_name = "PATH", env = "CANOPY_ZDS_SOCKET")]
    zds_socket: Option<PathBuf>,
    #[command(flatten)]
    carrying: Carrying,
    /// An address of this node, from which its kubelet probes pods; may be repeated [default: those of the daemon's own
    /// network namespace].
    #[arg(long = "node-ip", value_name = "IP", env = "CANOPY_NODE_IP", value_delimiter = ',')]
    node_ips: Vec<IpAddr>,
    /// Connections that each tenant may have open, and as many to endpoints; by default its share of the process's descriptors.
    #[arg(long, value_name = "NUMBER", env = "CANOPY_CONNECTIONS",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: Option<u32>,
    /// What of the machine is kept for the system: cpu=CORES,memory=BYTES. Where tenants are promised more than the rest, the log
    /// says so.
    #[arg(long, value_name = "AMOUNTS", env = "CANOPY_RESERVE")]
    reserve: Option<Amounts>,
    /// Threads that carry each tenant's connections, LEAST-MOST: one more where those it has are full, its budget leaves it more than
    /// one CPU and counts no connections, requests or bytes. Without this, one.
    #[arg(long, value_name = "NUMBERS", env = "CANOPY_LANES", value_parser = lanes)]
    lanes: Option<Lanes>,
    /// Whether tenants are held to their budgets, and it is measured which workload costs what. Off is for measuring what both cost: every tenant takes what the node lets it.
    #[arg(long, value_enum, default_value_t = Budgets::On, env = "CANOPY_BUDGETS")]
    budgets: Budgets,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Steering {
    /// eBPF where the kernel can, iptables otherwise.
    Auto,
    /// eBPF or not at all.
    Ebpf,
    /// iptables.
    Iptables,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Fence {
    /// Where it can be had; a pod that cannot be fenced runs without, with a warning.
    Auto,
    /// A pod that cannot be fenced is not enrolled.
    On,
    /// As auto, but what would be dropped passes and is only counted.
    Observe,
    /// Not at all.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Budgets {
    /// They are.
    On,
    /// They are not: every tenant takes what it can get.
    Off,
}

impl Fence {
    fn choice(self) -> FenceChoice {
        match self {
            Self::Auto => FenceChoice::Auto,
            Self::On => FenceChoice::Required,
            Self::Observe => FenceChoice::Observe,
            Self::Off => FenceChoice::Off,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

impl Run {
    pub(super) fn run(self) -> Outcome {
        let _flush = self.carrying.begin()?;
        if let Err(error) = descriptors::keep_from_children() {
            tracing::warn!(%error, "what was open when the daemon was started stays open in cells' processes");
        }
        let redirect = match self.redirect {
            Steering::Auto => RedirectChoice::Auto,
            Steering::Ebpf => RedirectChoice::Ebpf,
            Steering::Iptables => RedirectChoice::Iptables,
        };
        let cache = self.gate_cache;
        let options = self.carrying.options(
            self.daemon,
            super::node(self.node)?,
            self.manifests.choice()?,
            self.metrics_addr,
        )?;
        node::run(NodeOptions {
            gate: self.gate_socket.map(|socket| gate::Options { socket, cache }),
            runtime: self.container_runtime,
            zds: self.zds_socket,
            showback: self.showback_file,
            owners: self.owners_dir.unwrap_or_else(|| options.owners.clone()),
            redirect,
            fence: self.fence.choice(),
            node_addresses: self.node_ips,
            zone: super::zone(self.zone)?,
            connections: self.connections.map(|most| most as usize),
            reserve: self.reserve.unwrap_or_default(),
            budgets: self.budgets == Budgets::On,
            lanes: self.lanes,
            ..options
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn lanes(text: &str) -> Result<Lanes, String> {
    let (least, most) = text.split_once('-').unwrap_or(("1", text));
    let number = |text: &str| text.parse().ok().filter(|number| (1..=1024).contains(number));
    match (number(least), number(most)) {
        (Some(least), Some(most)) if least <= most => Ok(Lanes { least, most }),
        _ => Err("give LEAST-MOST, as 1-4, or MOST alone: numbers from 1 to 1024".to_owned()),
    }
}

pub(super) fn start_log(filter: &str, format: LogFormat) -> Result<Flush, String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log-level {filter}: {error}"))?;
    let (queue, flush) =
        LogQueue::start(io::stderr()).map_err(|error| format!("no thread for the log: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue);
    let set = match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    set.map_err(|error| error.to_string())?;
    hear_panics();
    Ok(flush)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_a_range_or_the_most_of_one() {
        assert_eq!(lanes("2-4"), Ok(Lanes { least: 2, most: 4 }));
        assert_eq!(lanes("3"), Ok(Lanes { least: 1, most: 3 }));
        for wrong in ["", "0", "4-2", "1-", "-1", "1025", "two"] {
            assert!(lanes(wrong).unwrap_err().contains("LEAST-MOST"), "{wrong}");
        }
    }

    #[test]
    fn filter_that_is_not_understood_is_named() {
        assert!(start_log("canopy=loud", LogFormat::Text).unwrap_err().contains("--log-level canopy=loud"));
    }
}
