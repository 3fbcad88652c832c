//! A chain of pods of one tenant, each of which passes a request on to the next: a client, so many apps, and proxies between them.
//!
//! On one node, or turn by turn on two. The apps are nginx, which keeps its connections; a subject that is called around its
//! proxies must not be measured.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use testkit::{Pod, Process};

use super::{
    CLIENTS, Canopy, FAR, Kind, Launch, Manifests, Mesh, NEAR, PodEntry, Setting, compared::Proxies, envoy,
    far_name,
};
use crate::{
    clock,
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{self, Port, SMALL},
    },
    load,
};

/// Where its pods are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Along {
    SameNode,
    /// The client's node and the other one, by turns.
    OtherNode,
}

/// A chain that is ready for load.
#[derive(Debug)]
pub(crate) struct Chain {
    pub kind: Kind,
    // Proxies end before the apps, these before their pods, and pods before their nodes.
    proxies: Option<Proxies>,
    _apps: Vec<Process>,
    pods: Vec<Pod>,
    nodes: Nodes,
}

impl Chain {
    /// Makes the pods and starts what runs in and between them.
    pub(crate) fn start(
        kind: Kind,
        hops: usize,
        along: Along,
        setting: &Setting,
    ) -> Result<Self, BenchError> {
        let nodes = Nodes::two()?;
        let are_there: Vec<bool> =
            (0..=hops).map(|number| along == Along::OtherNode && number % 2 == 1).collect();
        let mut pods = Vec::new();
        for (number, is_there) in are_there.iter().enumerate() {
            let node = if *is_there { nodes.there()? } else { nodes.here() };
            pods.push(lab::pod(node, CLIENTS, &format!("hop{number}"))?);
        }
        let directory = setting.directory.join(kind.place());
        let (row, place) = ((pods.as_slice(), are_there.as_slice()), (setting, directory.as_path()));
        let start = |mesh| -> Result<Proxies, BenchError> {
            Ok(match mesh {
                Mesh::CanopyNode => Proxies::Canopy(daemons(kind, row, &nodes, setting)?),
                Mesh::CanopySidecar => Proxies::Canopy(sidecars(kind, row, &nodes, setting)?),
                Mesh::EnvoyNode => {
                    Proxies::Envoy(envoy::Envoy::start_chain_of_nodes(&pods, &are_there, &nodes, place)?)
                }
                Mesh::EnvoySidecar => Proxies::Envoy(envoy::Envoy::start_chain(&pods, place)?),
            })
        };
        let proxies = kind.mesh().map(start).transpose()?;
        let mut chain = Self { kind, proxies, _apps: Vec::new(), pods, nodes };
        chain._apps = chain.apps(&directory)?;
        chain.wait()?;
        Ok(chain)
    }

    /// Where the client's load runs.
    pub(crate) fn client(&self) -> &Pod {
        &self.pods[0]
    }

    /// What the client dials.
    pub(crate) fn target(&self) -> SocketAddr {
        self.next(0)
    }

    /// The first app.
    pub(crate) fn first(&self) -> IpAddr {
        self.pods[1].v4().into()
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.proxies.as_ref().map_or_else(Vec::new, Proxies::pids)
    }

    /// What the client's proxy has carried so far: of its own requests no less.
    pub(crate) fn carried(&self) -> Result<Option<u64>, BenchError> {
        self.proxies.as_ref().map_or(Ok(None), |proxies| proxies.first_carried(Port::Http))
    }

    /// What the pod of this number dials to reach the next.
    fn next(&self, number: usize) -> SocketAddr {
        let direct = || self.pods[number + 1].at(Port::Http.number());
        self.proxies.as_ref().map_or_else(direct, |proxies| proxies.dialled(address(number + 1), Port::Http))
    }

    fn apps(&self, directory: &Path) -> Result<Vec<Process>, BenchError> {
        let app = |number: usize| {
            let next = (number + 1 < self.pods.len()).then(|| self.next(number));
            backends::start_app(&self.pods[number], &directory.join(format!("app{number}")), next)
        };
        (1..self.pods.len()).rev().map(app).collect()
    }

    fn wait(&self) -> Result<(), BenchError> {
        let (target, path) = (self.target(), format!("/{SMALL}"));
        let answers = || load::is_answering(target, &path, Duration::from_secs(1));
        if self.client().run(|| clock::wait_until(READY, answers))? {
            return Ok(());
        }
        let said: String = self.proxies.iter().flat_map(Proxies::said).collect();
        Err(BenchError::Load(format!("{}: the chain does not answer; {said}", self.kind.name())))
    }
}

/// What a manifest says of all pods of the chain.
fn entries(kind: Kind, (pods, are_there): (&[Pod], &[bool])) -> Vec<PodEntry> {
    let entry = |(pod, is_there): (&Pod, &bool)| {
        let entry = PodEntry::of(pod).on(if *is_there { FAR } else { NEAR });
        if kind.mesh() == Some(Mesh::CanopySidecar) { entry.with_sidecar() } else { entry }
    };
    pods.iter().zip(are_there).map(entry).collect()
}

/// These pods, and the Services and routes of those of them that are called.
fn manifests(entries: &[PodEntry], numbers: std::ops::Range<usize>) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.tenant(CLIENTS);
    manifests.authorization(CLIENTS, CLIENTS);
    for number in numbers {
        let entry = &entries[number];
        manifests.pod(entry);
        if number > 0 {
            let service = format!("web{number}");
            manifests.service_named(&service, entry, address(number), &[Port::Http]);
            manifests.route_of_all((CLIENTS, &service), Port::Http);
        }
    }
    manifests
}

fn daemons(
    kind: Kind,
    chain: (&[Pod], &[bool]),
    nodes: &Nodes,
    setting: &Setting,
) -> Result<Vec<Canopy>, BenchError> {
    let entries = entries(kind, chain);
    let manifests = manifests(&entries, 0..entries.len());
    let (near, far) = (kind.place(), far_name(kind));
    let start = |name: &str, node, called| {
        Canopy::start(&Launch { name, node, called, kind, manifests: &manifests }, setting)
    };
    let mut all = vec![start(&near, nodes.here(), NEAR)?];
    if chain.1.contains(&true) {
        all.push(start(&far, nodes.there()?, FAR)?);
    }
    Ok(all)
}

/// Each is told of its pod, of who calls it and of whom it calls.
fn sidecars(
    kind: Kind,
    chain: (&[Pod], &[bool]),
    nodes: &Nodes,
    setting: &Setting,
) -> Result<Vec<Canopy>, BenchError> {
    let entries = entries(kind, chain);
    let one = |(number, pod): (usize, &Pod)| {
        let told = number.saturating_sub(1)..(number + 2).min(entries.len());
        let manifests = manifests(&entries, told);
        let name = format!("{}/{number}", kind.place());
        let called = entries[number].node;
        let launch = Launch { name: &name, node: nodes.here(), called, kind, manifests: &manifests };
        Canopy::start_sidecar(pod, kind.capture(), &launch, setting)
    };
    chain.0.iter().enumerate().map(one).collect()
}

/// Of the Service of the app of this number.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 0, u8::try_from(100 + number).unwrap_or(u8::MAX))
}

/// How long the first answer may take.
const READY: Duration = Duration::from_secs(30);
