//! One proxy that two tenants share: a victim with a steady rate, and a neighbour that takes all it can get.
//!
//! Each has a client pod and servers of its own, so that they meet in the proxy and nowhere else. What the proxy counts is
//! asked for as of any subject.

use std::net::{Ipv4Addr, SocketAddr};

use testkit::Pod;

use super::{Canopy, Kind, Launch, Manifests, NEAR, PodEntry, Pods, Setting, envoy};
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
    /// Its namespace, which is a tenant.
    fn name(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::Aggressor => "aggressor",
        }
    }

    /// The address of its Service.
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Victim => Ipv4Addr::new(10, 96, 0, 20),
            Self::Aggressor => Ipv4Addr::new(10, 96, 0, 21),
        }
    }
}

/// A proxy with two tenants, ready for load.
#[derive(Debug)]
pub(crate) struct Shared {
    pub kind: Kind,
    // Proxies end before their servers, servers before their pods.
    proxy: Proxy,
    _backends: [Backends; 2],
    victim: Pod,
    aggressor: Pod,
    _servers: Vec<Pod>,
}

#[derive(Debug)]
enum Proxy {
    Canopy(Canopy),
    Envoy(envoy::Envoy),
}

impl Shared {
    /// Makes the pods and starts what runs in and between them. `kind` is Envoy or a daemon on one node.
    pub(crate) fn start(kind: Kind, nodes: &Nodes, setting: &Setting) -> Result<Self, BenchError> {
        let name = kind.name();
        let directory = setting.directory.join(name);
        std::fs::create_dir_all(&directory)
            .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
        let pod = |side: Side, what: &str| {
            lab::pod(nodes.here(), side.name(), &format!("{name}-{}-{what}", side.name()))
        };
        let (victim, aggressor) = (pod(Side::Victim, "client")?, pod(Side::Aggressor, "client")?);
        let mut servers = vec![pod(Side::Victim, "server")?];
        // Envoy's upstream connections are made in one namespace: where both servers are, so that none crosses a link.
        let shift = if kind.is_canopy() {
            servers.push(pod(Side::Aggressor, "server")?);
            0
        } else {
            envoy::SHIFT
        };
        let (first, last) = (&servers[0], &servers[servers.len() - 1]);
        let files = |side: Side| directory.join(format!("backends-{}", side.name()));
        let backends = [
            Backends::start_in(first, &files(Side::Victim), Manner { shift: 0, favoured: true })?,
            Backends::start_in(last, &files(Side::Aggressor), Manner { shift, favoured: false })?,
        ];
        let of = |client, server| Pods { client, server };
        let proxy = if kind.is_canopy() {
            let pods = [(Side::Victim, &victim, first), (Side::Aggressor, &aggressor, last)];
            Proxy::Canopy(start_canopy(kind, nodes, pods, setting)?)
        } else {
            let tenants = [("", of(&victim, first)), (AGGRESSOR, of(&aggressor, first))];
            Proxy::Envoy(envoy::Envoy::start_shared(&tenants, setting, &directory)?)
        };
        Ok(Self { kind, proxy, _backends: backends, victim, aggressor, _servers: servers })
    }

    /// Where a tenant's load runs.
    pub(crate) fn client(&self, side: Side) -> &Pod {
        match side {
            Side::Victim => &self.victim,
            Side::Aggressor => &self.aggressor,
        }
    }

    /// What a tenant's client dials.
    pub(crate) fn target(&self, side: Side, port: Port) -> SocketAddr {
        match &self.proxy {
            Proxy::Canopy(_) => SocketAddr::from((side.address(), port.number())),
            Proxy::Envoy(_) => envoy::listener(port),
        }
    }

    /// The proxy's process.
    pub(crate) fn pid(&self) -> u32 {
        match &self.proxy {
            Proxy::Canopy(canopy) => canopy.pid(),
            Proxy::Envoy(envoy) => envoy.pid(),
        }
    }

    /// Requests of HTTP/1.1 that the proxy has carried for the victim; of the daemon's for both tenants, which is no less.
    pub(crate) fn carried(&self) -> Result<u64, BenchError> {
        match &self.proxy {
            Proxy::Canopy(canopy) => canopy.carried(Port::Http),
            Proxy::Envoy(envoy) => envoy.carried(Port::Http),
        }
    }
}

fn start_canopy(
    kind: Kind,
    nodes: &Nodes,
    pods: [(Side, &Pod, &Pod); 2],
    setting: &Setting,
) -> Result<Canopy, BenchError> {
    let mut manifests = Manifests::default();
    for (side, client, server) in pods {
        let server = PodEntry::of(server);
        manifests.tenant(side.name());
        manifests.pod(&PodEntry::of(client));
        manifests.pod(&server);
        manifests.service_at(&server, side.address());
    }
    let launch = Launch { name: kind.name(), node: nodes.here(), called: NEAR, kind, manifests: &manifests };
    let mut canopy = Canopy::start(&launch, setting)?;
    for (side, client, _) in pods {
        canopy.first_answer(client, SocketAddr::from((side.address(), Port::Http.number())))?;
    }
    Ok(canopy)
}

/// What the names of the neighbour's listeners begin with in Envoy.
const AGGRESSOR: &str = "aggressor-";
