//! Envoys along a chain of pods of one namespace, in which each pod calls the next.
//!
//! As between pairs, but that a pod in the middle is called and calls: its sidecar does both, and so does a node's Envoy. On one
//! node a shared Envoy delivers straight from one pod's listener to the next pod, without TLS, as nothing is between.

use std::path::Path;

use testkit::Pod;

use super::{
    Envoy, Meeting, Part, Plan, Pods, SERVER, Setting,
    tls::{self, Papers},
};
use crate::{
    error::BenchError,
    lab::{Nodes, backends::Port},
};

impl Envoy {
    /// One in each pod, the first pod's first.
    pub(crate) fn start_chain(
        pods: &[Pod],
        (setting, directory): (&Setting, &Path),
    ) -> Result<Vec<Self>, BenchError> {
        let papers = Both::of(pods, setting)?;
        let mut all = Vec::new();
        for (number, pod) in pods.iter().enumerate() {
            let mut plans = Vec::new();
            if let Some(next) = pods.get(number + 1) {
                plans.push(papers.calls(Pods { client: pod, server: next }, Meeting::within(next)));
            }
            if let Some(before) = number.checked_sub(1).map(|before| &pods[before]) {
                let called = papers.called(Pods { client: before, server: pod }, Meeting::within(pod));
                plans.push(Plan { prefix: "in-", ..called });
            }
            let own = directory.join(number.to_string());
            all.push(Self::begin(pod.shared_netns(), plans, (setting, &own))?);
        }
        Ok(all)
    }

    /// One on each node that has pods of the chain, the first pod's first.
    pub(crate) fn start_chain_of_nodes(
        pods: &[Pod],
        are_there: &[bool],
        nodes: &Nodes,
        (setting, directory): (&Setting, &Path),
    ) -> Result<Vec<Self>, BenchError> {
        let papers = Both::of(pods, setting)?;
        let names: Vec<[String; 2]> = (0..pods.len()).map(prefixes).collect();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for (number, pair) in pods.windows(2).enumerate() {
            let pods = Pods { client: &pair[0], server: &pair[1] };
            let [calls, called] = &names[number];
            let (from, to) = (are_there[number], are_there[number + 1]);
            if from == to {
                let alone = Plan { prefix: calls, ports: PORTS, ..Plan::of(pods, &Part::Alone) };
                if from {
                    there.push(alone)
                } else {
                    here.push(alone)
                }
                continue;
            }
            let node = if to { nodes.there()? } else { nodes.here() };
            let meets = Meeting::on(node, pods.server, number as u16);
            let calls = Plan { prefix: calls, ..papers.calls(pods, meets) };
            let called = Plan { prefix: called, ..papers.called(pods, meets) };
            if from {
                there.push(calls)
            } else {
                here.push(calls)
            }
            if to { there.push(called) } else { here.push(called) }
        }
        let mut all = vec![Self::begin(nodes.here().shared_netns(), here, (setting, directory))?];
        if !there.is_empty() {
            let place = (setting, directory.join(SERVER));
            all.push(Self::begin(nodes.there()?.shared_netns(), there, (place.0, &place.1))?);
        }
        Ok(all)
    }
}

/// The papers of the chain's one app, for who calls and for who is called.
struct Both {
    client: Part,
    server: Part,
    caller: String,
}

impl Both {
    fn of(pods: &[Pod], setting: &Setting) -> Result<Self, BenchError> {
        let namespace = pods.first().map_or("", Pod::namespace);
        let papers = || Papers::of(namespace, setting, &setting.directory);
        let caller = tls::identity(namespace);
        Ok(Self { client: Part::Client(papers()?), server: Part::Server(papers()?), caller })
    }

    fn calls<'a>(&'a self, pods: Pods<'a>, meets: Meeting<'a>) -> Plan<'a> {
        Plan { ports: PORTS, meets, ..Plan::of(pods, &self.client) }
    }

    fn called<'a>(&'a self, pods: Pods<'a>, meets: Meeting<'a>) -> Plan<'a> {
        Plan { ports: PORTS, meets, allows: Some(&self.caller), ..Plan::of(pods, &self.server) }
    }
}

/// Of who calls and of who is called, where one Envoy has both; the first caller's is none, whose requests are counted.
fn prefixes(number: usize) -> [String; 2] {
    let calls = if number == 0 { String::new() } else { format!("{number}-") };
    [calls, format!("in-{number}-")]
}

const PORTS: &[Port] = &[Port::Http];
