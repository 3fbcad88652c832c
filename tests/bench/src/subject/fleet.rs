//! Two nodes with so many pods each, of so many tenants: client and server of a number are a pair, and each pair's proxies are those of
//! one mesh.
//!
//! One load generator and one server work in all pods, so that what grows with the pods is the mesh. A fleet is made anew for each
//! subject: none meets what another left.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use testkit::{Netns, Pod, Process};

use super::{
    Kind, Pods, Setting,
    compared::{Pair, Proxies, Start},
};
use crate::{
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{self, Port},
        procfs, sockets,
    },
    load::Place,
};

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Of each node.
    pub pods: usize,
    pub tenants: usize,
}

/// A mesh that is ready for load.
#[derive(Debug)]
pub(crate) struct Fleet {
    // Proxies end before the server, the server before the pods, and these before their nodes.
    proxies: Option<Proxies>,
    _web: Process,
    clients: Vec<Pod>,
    servers: Vec<Pod>,
    nodes: Nodes,
}

impl Fleet {
    /// Makes the pods and starts what runs in and between them.
    pub(crate) fn start(kind: Kind, size: Size, setting: &Setting) -> Result<Self, BenchError> {
        let nodes = Nodes::two()?;
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for number in 0..size.pods {
            let namespace = format!("team{}", number % size.tenants);
            clients.push(lab::pod(nodes.here(), &namespace, &format!("client{number}"))?);
            servers.push(lab::pod(nodes.there()?, &namespace, &format!("server{number}"))?);
        }
        let web = backends::start_web(nodes.there()?.netns(), &servers)?;
        let mut fleet = Self { proxies: None, _web: web, clients, servers, nodes };
        if let Some(mesh) = kind.mesh() {
            let nodes = &fleet.nodes;
            let start = Start { kind, mesh, nodes, setting, ports: &[Port::Http] };
            let pairs = fleet.pairs();
            let proxies = Proxies::start(start, &pairs)?;
            proxies.wait(&pairs, READY)?;
            fleet.proxies = Some(proxies);
        }
        Ok(fleet)
    }

    /// Where the clients' connections are made, and whom they dial.
    pub(crate) fn places(&self) -> Vec<Place> {
        let place = |pair: &Pair<'_>| {
            let direct = pair.pods.server.at(Port::Http.number());
            let target = self.proxies.as_ref().map_or(direct, |mesh| mesh.target(pair, Port::Http));
            Place { netns: pair.pods.client.netns_path().to_owned(), target }
        };
        self.pairs().iter().map(place).collect()
    }

    /// The clients, each with whom it dials.
    pub(crate) fn callers(&self) -> Vec<(&Pod, SocketAddr)> {
        self.clients.iter().zip(self.places()).map(|(client, place)| (client, place.target)).collect()
    }

    /// Ends the proxy of the first client, and starts another in its place.
    pub(crate) fn replace_first(&mut self, at_once: bool) -> Result<(), BenchError> {
        self.proxies.as_mut().map_or(Ok(()), |mesh| mesh.replace_first(at_once))
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.proxies.as_ref().map_or_else(Vec::new, Proxies::pids)
    }

    /// Requests that the clients' proxies have carried so far, if there are any.
    pub(crate) fn carried(&self) -> Result<Option<u64>, BenchError> {
        self.proxies.as_ref().map(Proxies::carried).transpose()
    }

    /// PSS of all proxies.
    pub(crate) fn pss(&self) -> Result<u64, BenchError> {
        Ok(procfs::memory_of(&self.pids())?.pss)
    }

    /// What the kernel holds for the proxies' sockets.
    pub(crate) fn sockets(&self) -> Result<sockets::Sockets, BenchError> {
        let nodes = [self.nodes.here().netns(), self.nodes.there()?.netns()];
        let pods = self.clients.iter().chain(&self.servers).map(Pod::netns);
        sockets::of(&self.pids(), nodes.into_iter().chain(pods))
    }

    /// Where a process that works in all pods is at home.
    pub(crate) fn home(&self) -> &Netns {
        self.nodes.here().netns()
    }

    fn pairs(&self) -> Vec<Pair<'_>> {
        let pods = self.clients.iter().zip(&self.servers).map(|(client, server)| Pods { client, server });
        let pair = |(number, pods)| Pair { pods, address: address(number), number };
        pods.enumerate().map(pair).collect()
    }
}

/// Of the Service of a pair.
fn address(number: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(number + FIRST).unwrap_or(u16::MAX).to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

/// Below are others' addresses.
const FIRST: usize = 256;
/// How long the first answer of a pair may take: hundreds of proxies start on one CPU.
const READY: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_an_address_of_its_own() {
        let all: std::collections::BTreeSet<_> = (0..300).map(address).collect();
        assert_eq!((all.len(), address(0)), (300, Ipv4Addr::new(10, 96, 1, 0)));
    }
}
