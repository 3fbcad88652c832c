//! One proxy that two tenants share: a victim with a steady rate, and a neighbour that takes all it can get.
//!
//! Each has a client pod and servers of its own, so that they meet in the proxy and nowhere else. What the proxy counts is
//! asked for as of any subject.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use testkit::Pod;

use super::{
    Canopy, Kind, Launch, Manifests, Mesh, NEAR, PodEntry, Pods, READY, Setting,
    compared::{Pair, Proxies, Start},
    envoy,
};
use crate::{
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{Backends, Manner, Port},
    },
};

/// Which of the two tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Victim,
    Aggressor,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Victim, Self::Aggressor];

    /// Its namespace, which is a tenant.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::Aggressor => "aggressor",
        }
    }

    /// The address of its Service.
    pub(super) fn address(self) -> Ipv4Addr {
        match self {
            Self::Victim => Ipv4Addr::new(10, 96, 0, 20),
            Self::Aggressor => Ipv4Addr::new(10, 96, 0, 21),
        }
    }
}

/// The two tenants' pods, with servers that run in them.
#[derive(Debug)]
pub(crate) struct Backed {
    // Servers end before their pods.
    _backends: Vec<Backends>,
    victim: Pod,
    aggressor: Pod,
    /// The victim's, then the neighbour's; one for all where the proxy is Envoy.
    servers: Vec<Pod>,
}

impl Backed {
    /// Makes the pods and starts the servers: one of the victim's, so many of the neighbour's.
    pub(super) fn start(
        kind: Kind,
        nodes: &Nodes,
        directory: &Path,
        neighbours: u16,
    ) -> Result<Self, BenchError> {
        std::fs::create_dir_all(directory)
            .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
        let name = kind.name();
        let (here, far) = (nodes.here(), if kind.is_across() { nodes.there()? } else { nodes.here() });
        let pod = |node, side: Side, what: &str| {
            lab::pod(node, side.name(), &format!("{name}-{}-{what}", side.name()))
        };
        let (victim, aggressor) = (pod(here, Side::Victim, "client")?, pod(here, Side::Aggressor, "client")?);
        let mut servers = vec![pod(far, Side::Victim, "server")?];
        let files = |what: String| directory.join(format!("backends-{what}"));
        let victims = Manner { shift: 0, favoured: true };
        let mut backends =
            vec![Backends::start_in(&servers[0], &files(Side::Victim.name().into()), victims)?];
        for number in 1..=neighbours {
            // Envoy's upstream connections are made in one namespace: where all servers are, so that none crosses a link.
            let shift = if kind.is_canopy() || kind.is_across() {
                servers.push(pod(far, Side::Aggressor, &format!("server-{number}"))?);
                0
            } else {
                number * envoy::SHIFT
            };
            let place = files(format!("{}-{number}", Side::Aggressor.name()));
            let manner = Manner { shift, favoured: false };
            backends.push(Backends::start_in(&servers[servers.len() - 1], &place, manner)?);
        }
        Ok(Self { _backends: backends, victim, aggressor, servers })
    }

    /// Where a tenant's load runs.
    pub(super) fn client(&self, side: Side) -> &Pod {
        match side {
            Side::Victim => &self.victim,
            Side::Aggressor => &self.aggressor,
        }
    }

    /// Where a tenant's first server runs.
    pub(super) fn server(&self, side: Side) -> &Pod {
        match side {
            Side::Victim => &self.servers[0],
            Side::Aggressor => &self.servers[1.min(self.servers.len() - 1)],
        }
    }

    /// Where the neighbour's last server runs.
    pub(super) fn last_server(&self) -> &Pod {
        &self.servers[self.servers.len() - 1]
    }

    /// All pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Pod> {
        [&self.victim, &self.aggressor].into_iter().chain(&self.servers)
    }
}

/// A proxy with two tenants, ready for load.
#[derive(Debug)]
pub(crate) struct Shared {
    pub kind: Kind,
    // Proxies end before their servers.
    proxy: Proxies,
    backed: Backed,
}

impl Shared {
    /// Makes the pods and starts what runs in and between them. `kind` is Envoy or a daemon on one node, or one that is compared.
    pub(crate) fn start(kind: Kind, nodes: &Nodes, setting: &Setting) -> Result<Self, BenchError> {
        let directory = setting.directory.join(kind.name());
        let backed = Backed::start(kind, nodes, &directory, 1)?;
        let proxy = if let Some(mesh) = kind.mesh() {
            start_mesh(kind, mesh, nodes, (&backed, setting))?
        } else if kind.is_canopy() {
            Proxies::Canopy(vec![start_canopy(kind, nodes, &backed, setting)?])
        } else {
            let tenants = tenants_of_envoy(&backed);
            Proxies::Envoy(vec![envoy::Envoy::start_shared(&tenants, setting, &directory)?])
        };
        Ok(Self { kind, proxy, backed })
    }

    /// Where a tenant's load runs.
    pub(crate) fn client(&self, side: Side) -> &Pod {
        self.backed.client(side)
    }

    /// What a tenant's client dials.
    pub(crate) fn target(&self, side: Side, port: Port) -> SocketAddr {
        self.proxy.dialled(side.address(), port)
    }

    /// The proxies' processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.proxy.pids()
    }

    /// Requests of HTTP/1.1 that the proxy has carried for the victim; of the daemon's and of a mesh's for both tenants, which is no less.
    pub(crate) fn carried(&self) -> Result<u64, BenchError> {
        match self.kind.mesh() {
            Some(_) => self.proxy.carried(),
            None => self.proxy.first_carried(Port::Http).map(Option::unwrap_or_default),
        }
    }
}

fn start_mesh(
    kind: Kind,
    mesh: Mesh,
    nodes: &Nodes,
    (backed, setting): (&Backed, &Setting),
) -> Result<Proxies, BenchError> {
    let pair = |(number, side): (usize, Side)| {
        let pods = Pods { client: backed.client(side), server: backed.server(side) };
        Pair { pods, address: side.address(), number }
    };
    let pairs: Vec<Pair<'_>> = Side::BOTH.into_iter().enumerate().map(pair).collect();
    let start = Start { kind, mesh, nodes, setting, ports: &Port::ALL };
    let proxies = Proxies::start(start, &pairs)?;
    proxies.wait(&pairs, READY)?;
    Ok(proxies)
}

fn start_canopy(kind: Kind, nodes: &Nodes, backed: &Backed, setting: &Setting) -> Result<Canopy, BenchError> {
    let mut manifests = Manifests::default();
    for side in Side::BOTH {
        let server = PodEntry::of(backed.server(side));
        manifests.tenant(side.name());
        manifests.pod(&PodEntry::of(backed.client(side)));
        manifests.pod(&server);
        manifests.service_at(&server, side.address());
    }
    let launch = Launch { name: kind.name(), node: nodes.here(), called: NEAR, kind, manifests: &manifests };
    let mut canopy = Canopy::start(&launch, setting)?;
    for side in Side::BOTH {
        canopy.first_answer(backed.client(side), SocketAddr::from((side.address(), Port::Http.number())))?;
    }
    Ok(canopy)
}

/// Both tenants as Envoy has them, each with what its names begin with.
pub(super) fn tenants_of_envoy(backed: &Backed) -> [(&'static str, Pods<'_>); 2] {
    let of = |side| Pods { client: backed.client(side), server: backed.server(side) };
    [("", of(Side::Victim)), (AGGRESSOR, of(Side::Aggressor))]
}

/// What the names of the neighbour's listeners begin with in Envoy.
pub(super) const AGGRESSOR: &str = "aggressor-";
