//! The proxies that are compared with each other, between any number of pairs of a client here and a server on the other node.
//!
//! All with mutual TLS, one route of HTTP for every path, and one rule that lets in the namespace's own app. A sidecar is told of its
//! own pair and of nobody else. Nothing here waits for more than it has to: who asks first waits.

use std::{net::Ipv4Addr, net::SocketAddr, time::Duration};

use super::{Canopy, FAR, Kind, Launch, Manifests, Mesh, NEAR, PodEntry, Pods, Setting, envoy, far_name};
use crate::{
    clock,
    error::BenchError,
    lab::{
        Nodes,
        backends::{Port, SMALL},
    },
    load,
};

/// Who calls whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub pods: Pods<'a>,
    /// Of the server's Service, where the mesh knows Services.
    pub address: Ipv4Addr,
    /// Among the pairs.
    pub number: usize,
}

/// Running proxies: of the first pair the client's first.
#[derive(Debug)]
pub(crate) enum Proxies {
    Canopy(Vec<Canopy>),
    Envoy(Vec<envoy::Envoy>),
}

/// What one start is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub kind: Kind,
    pub mesh: Mesh,
    pub nodes: &'a Nodes,
    pub setting: &'a Setting,
    /// Of the server's.
    pub ports: &'a [Port],
}

impl Proxies {
    pub(crate) fn start(start: Start<'_>, pairs: &[Pair<'_>]) -> Result<Self, BenchError> {
        let directory = start.setting.directory.join(start.kind.place());
        match start.mesh {
            Mesh::CanopyNode => Ok(Self::Canopy(daemons(start, pairs)?)),
            Mesh::CanopySidecar => {
                let all: Result<Vec<_>, _> = pairs.iter().map(|pair| sidecars(start, pair)).collect();
                Ok(Self::Canopy(all?.into_iter().flatten().collect()))
            }
            Mesh::EnvoyNode => {
                let pods: Vec<Pods<'_>> = pairs.iter().map(|pair| pair.pods).collect();
                let place = (start.setting, directory.as_path());
                Ok(Self::Envoy(envoy::Envoy::start_nodes(&pods, start.ports, start.nodes, place)?.into()))
            }
            Mesh::EnvoySidecar => {
                let mut all = Vec::new();
                for pair in pairs {
                    let own = if pair.number == 0 {
                        directory.clone()
                    } else {
                        directory.join(pair.number.to_string())
                    };
                    let started = envoy::Envoy::start_sidecars(pair.pods, start.ports, start.setting, &own)?;
                    all.extend(started);
                }
                Ok(Self::Envoy(all))
            }
        }
    }

    /// Waits until a request of each pair is answered.
    pub(crate) fn wait(&self, pairs: &[Pair<'_>], limit: Duration) -> Result<(), BenchError> {
        let path = format!("/{SMALL}");
        for pair in pairs {
            let target = self.target(pair, Port::Http);
            let answers = || load::is_answering(target, &path, Duration::from_secs(1));
            if !pair.pods.client.run(|| clock::wait_until(limit, answers))? {
                return Err(BenchError::Load(format!(
                    "no answer from pair {} within {limit:?}; {}",
                    pair.number,
                    self.said().into_iter().skip(pair.number * 2).take(2).collect::<String>()
                )));
            }
        }
        Ok(())
    }

    /// What a pair's client dials.
    pub(crate) fn target(&self, pair: &Pair<'_>, port: Port) -> SocketAddr {
        self.dialled(pair.address, port)
    }

    /// What is dialled to reach a port of the Service of this address.
    pub(crate) fn dialled(&self, service: Ipv4Addr, port: Port) -> SocketAddr {
        match self {
            Self::Canopy(_) => SocketAddr::from((service, port.number())),
            Self::Envoy(_) => envoy::listener(port),
        }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        match self {
            Self::Canopy(daemons) => daemons.iter().flat_map(Canopy::pids).collect(),
            Self::Envoy(envoys) => envoys.iter().map(envoy::Envoy::pid).collect(),
        }
    }

    /// Requests of HTTP/1.1 that the clients' proxies have carried: of each two, the first.
    pub(crate) fn carried(&self) -> Result<u64, BenchError> {
        match self {
            Self::Canopy(daemons) => daemons.iter().step_by(2).map(|one| one.carried(Port::Http)).sum(),
            Self::Envoy(envoys) => envoys.iter().step_by(2).map(envoy::Envoy::carried_of_all).sum(),
        }
    }

    /// Ends the first client's, and starts another in its place.
    pub(crate) fn replace_first(&mut self, at_once: bool) -> Result<(), BenchError> {
        match self {
            Self::Canopy(all) => all.first_mut().map_or(Ok(()), |one| one.replace(at_once)),
            Self::Envoy(all) => all.first_mut().map_or(Ok(()), |one| one.replace(at_once)),
        }
    }

    /// What the first of them has carried to that port.
    pub(crate) fn first_carried(&self, port: Port) -> Result<Option<u64>, BenchError> {
        match self {
            Self::Canopy(all) => all.first().map(|one| one.carried(port)).transpose(),
            Self::Envoy(all) => all.first().map(|one| one.carried(port)).transpose(),
        }
    }

    /// The ends of their logs, of each.
    pub(crate) fn said(&self) -> Vec<String> {
        match self {
            Self::Canopy(all) => all.iter().map(Canopy::said).collect(),
            Self::Envoy(all) => all.iter().map(envoy::Envoy::said).collect(),
        }
    }
}

impl Drop for Proxies {
    /// All are asked first, so that a hundred end together.
    fn drop(&mut self) {
        match self {
            Self::Canopy(daemons) => daemons.iter().for_each(Canopy::ask_to_end),
            Self::Envoy(envoys) => envoys.iter().for_each(envoy::Envoy::ask_to_end),
        }
    }
}

fn daemons(start: Start<'_>, pairs: &[Pair<'_>]) -> Result<Vec<Canopy>, BenchError> {
    let mut manifests = Manifests::default();
    let mut namespaces: Vec<&str> = pairs.iter().map(|pair| pair.pods.client.namespace()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    for namespace in &namespaces {
        manifests.tenant(namespace);
    }
    for pair in pairs {
        let [client, server] = ends(pair);
        describe(&mut manifests, pair, [&client, &server], start.ports);
    }
    for namespace in namespaces {
        manifests.authorization(namespace, namespace);
    }
    let near = start.kind.place();
    let launch = |name, node, called| Launch { name, node, called, kind: start.kind, manifests: &manifests };
    let here = Canopy::start(&launch(&near, start.nodes.here(), NEAR), start.setting)?;
    let far = far_name(start.kind);
    Ok(vec![here, Canopy::start(&launch(&far, start.nodes.there()?, FAR), start.setting)?])
}

fn sidecars(start: Start<'_>, pair: &Pair<'_>) -> Result<[Canopy; 2], BenchError> {
    let [client, server] = ends(pair).map(PodEntry::with_sidecar);
    let mut manifests = Manifests::default();
    manifests.tenant(&client.namespace);
    describe(&mut manifests, pair, [&client, &server], start.ports);
    manifests.authorization(&client.namespace, &client.namespace);
    let number = if pair.number == 0 { String::new() } else { format!("/{}", pair.number) };
    let begin = |pod, place: String, node, called| {
        let name = format!("{place}{number}");
        let launch = Launch { name: &name, node, called, kind: start.kind, manifests: &manifests };
        Canopy::start_sidecar(pod, start.kind.capture(), &launch, start.setting)
    };
    let near = begin(pair.pods.client, start.kind.place(), start.nodes.here(), NEAR)?;
    Ok([near, begin(pair.pods.server, far_name(start.kind), start.nodes.there()?, FAR)?])
}

fn ends(pair: &Pair<'_>) -> [PodEntry; 2] {
    [PodEntry::of(pair.pods.client), PodEntry::of(pair.pods.server).on(FAR)]
}

/// A pair's pods, its Service, and the route of each of its ports of HTTP.
fn describe(manifests: &mut Manifests, pair: &Pair<'_>, [client, server]: [&PodEntry; 2], ports: &[Port]) {
    manifests.pod(client);
    manifests.pod(server);
    let service = if pair.number == 0 { "web".to_owned() } else { format!("web{}", pair.number) };
    manifests.service_named(&service, server, pair.address, ports);
    for port in ports.iter().filter(|port| port.is_http()) {
        manifests.route_of_all((&server.namespace, &service), *port);
    }
}
