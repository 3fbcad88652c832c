//! The subjects: the same pods and servers, with nothing, Canopy or Envoy between them.
//!
//! Each subject has a client pod and a server pod of its own, so that what captures one cannot touch another. A
//! subject says from its own counters how much it carried: one that was passed around must not be measured.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use testkit::{Netns, Pod};

use crate::{
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{self, Backends, Port, SMALL},
    },
};

pub(crate) use canopy::{Canopy, Capture, Launch, Sharing, Steering};
pub(crate) use following::{Edit, Following, MARKED};
pub(crate) use kind::{Judge, Kind, Mesh, Receiver, Routes, Tier};
pub(crate) use manifests::{Manifests, PodEntry, VIP};
pub(crate) use shared::{Backed, Shared, Side};

use compared::{Pair, Proxies, Start};

mod canopy;
pub(crate) mod chain;
pub(crate) mod compared;
pub(crate) mod control;
pub(crate) mod crowd;
pub(crate) mod envoy;
pub(crate) mod fleet;
mod following;
mod kind;
mod manifests;
pub(crate) mod routed;
mod shared;

/// What all subjects of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// For configuration and logs; absolute.
    pub directory: PathBuf,
    /// The daemon's binary.
    pub canopy: PathBuf,
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// Where the control plane of another make is built to.
    pub tools: PathBuf,
    /// Whether both proxies write an access log.
    pub access_log: bool,
}

impl Setting {
    /// The authority's directory, which all daemons of a run share.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.join("ca")
    }
}

/// A subject that is ready for load.
#[derive(Debug)]
pub(crate) struct Subject {
    pub kind: Kind,
    // Proxies end before their servers, servers before their pods.
    proxy: Option<Proxies>,
    _backends: Backends,
    pub client: Pod,
    server: Pod,
    /// The client's node.
    near: Arc<Netns>,
}

impl Subject {
    /// Makes the pods and starts what runs in and between them.
    pub(crate) fn start(kind: Kind, nodes: &Nodes, setting: &Setting) -> Result<Self, BenchError> {
        let place = kind.place();
        let directory = setting.directory.join(&place);
        std::fs::create_dir_all(&directory)
            .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
        let far = if kind.is_across() { nodes.there()? } else { nodes.here() };
        let client = lab::pod(nodes.here(), CLIENTS, &format!("{place}-client"))?;
        let server = lab::pod(far, kind.servers(), &format!("{place}-server"))?;
        let backends = Backends::start(&server, &directory.join("backends"))?;
        let pods = Pods { client: &client, server: &server };
        let proxy = match kind {
            Kind::Direct | Kind::DirectAcross => None,
            Kind::Envoy => Some(Proxies::Envoy(vec![envoy::Envoy::start(pods, setting, &directory)?])),
            Kind::EnvoyRouted(routes) => {
                let routed = envoy::Envoy::start_routed(pods, routes.count(), setting, &directory)?;
                Some(Proxies::Envoy(vec![routed]))
            }
            Kind::EnvoyPair => Some(Proxies::Envoy(envoy::Envoy::start_pair(pods, setting, &directory)?)),
            _ => Some(match kind.mesh() {
                Some(mesh) => start_compared(kind, mesh, nodes, (pods, setting))?,
                None => Proxies::Canopy(start_canopy(kind, nodes, pods, setting)?),
            }),
        };
        let near = nodes.here().shared_netns();
        Ok(Self { kind, proxy, _backends: backends, client, server, near })
    }

    /// What the client dials to reach a port of the server.
    pub(crate) fn target(&self, port: Port) -> SocketAddr {
        let direct = || self.server.at(port.number());
        self.proxy.as_ref().map_or_else(direct, |proxies| proxies.dialled(VIP, port))
    }

    /// Where calls to the server's pod arrive: at the pod, or at its node's proxy.
    pub(crate) fn server_address(&self) -> IpAddr {
        match self.kind.mesh() {
            Some(Mesh::EnvoyNode) => envoy::gateway(&self.server),
            _ => self.server.v4().into(),
        }
    }

    /// The proxies' processes, the client's first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.proxy.as_ref().map_or_else(Vec::new, Proxies::pids)
    }

    /// What the proxies have carried to that port since they started: requests of HTTP, connections of tcp. Of two Envoys the
    /// one that counts less; a receiving daemon looks into nothing, so it is the client's that counts.
    pub(crate) fn carried(&self, port: Port) -> Result<Option<u64>, BenchError> {
        match &self.proxy {
            None => Ok(None),
            Some(Proxies::Envoy(envoys)) => {
                let counts: Result<Vec<u64>, _> = envoys.iter().map(|envoy| envoy.carried(port)).collect();
                Ok(counts?.into_iter().min())
            }
            Some(daemons) => daemons.first_carried(port),
        }
    }

    /// Connections that have been begun inside the client's pod: by the client, and by the proxy on its behalf; which a shared Envoy
    /// begins on the node.
    pub(crate) fn begun(&self) -> Result<u64, BenchError> {
        let on_node = match self.kind.mesh() {
            Some(Mesh::EnvoyNode) => self.near.run(lab::procfs::active_opens)?,
            _ => 0,
        };
        Ok(self.client.run(lab::procfs::active_opens)? + on_node)
    }

    /// Empties the access logs, so that a long run does not fill the disk.
    pub(crate) fn empty_logs(&self, setting: &Setting) {
        let own = setting.directory.join(self.kind.place());
        for log in [own.clone(), own.join(envoy::SERVER), setting.directory.join(far_name(self.kind))] {
            if let Ok(file) = std::fs::OpenOptions::new().write(true).open(access_log(&log)) {
                // A log that cannot be emptied is only large.
                let _ = file.set_len(0);
            }
        }
    }
}

fn start_compared(
    kind: Kind,
    mesh: Mesh,
    nodes: &Nodes,
    (pods, setting): (Pods<'_>, &Setting),
) -> Result<Proxies, BenchError> {
    let start = Start { kind, mesh, nodes, setting, ports: &Port::ALL };
    let pair = [Pair { pods, address: VIP, number: 0 }];
    let proxies = Proxies::start(start, &pair)?;
    proxies.wait(&pair, READY)?;
    Ok(proxies)
}

/// How long the first answer may take.
const READY: Duration = Duration::from_secs(30);

/// The two ends of a subject.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pods<'a> {
    pub client: &'a Pod,
    pub server: &'a Pod,
}

/// Where a subject's access log is, if it writes one.
fn access_log(directory: &Path) -> PathBuf {
    directory.join("access.log")
}

fn far_name(kind: Kind) -> String {
    format!("{}-far", kind.name())
}

fn start_canopy(
    kind: Kind,
    nodes: &Nodes,
    pods: Pods<'_>,
    setting: &Setting,
) -> Result<Vec<Canopy>, BenchError> {
    let (client, server) = (PodEntry::of(pods.client), PodEntry::of(pods.server));
    let server = if kind.is_across() { server.on(FAR) } else { server };
    let mut manifests = Manifests::default();
    manifests.tenant(CLIENTS);
    if kind.servers() != CLIENTS {
        manifests.tenant(kind.servers());
    }
    manifests.pod(&client);
    manifests.pod(&server);
    manifests.service(&server);
    if kind.is_bounded() {
        manifests.bounded(CLIENTS);
    }
    if let Some(tier) = kind.tier() {
        manifests.tier(CLIENTS, tier);
        if kind.servers() != CLIENTS {
            manifests.tier(kind.servers(), tier);
        }
    }
    if kind.has_policies() {
        manifests.policies(&server);
    }
    let routes = kind.routes().map_or(0, Routes::count);
    (0..routes).for_each(|number| manifests.route(CLIENTS, number));
    let name = kind.place();
    let near = Launch { name: &name, node: nodes.here(), called: NEAR, kind, manifests: &manifests };
    let mut daemons = vec![Canopy::start(&near, setting)?];
    if kind.is_across() {
        let name = far_name(kind);
        let far = Launch { name: &name, node: nodes.there()?, called: FAR, kind, manifests: &manifests };
        daemons.push(Canopy::start(&far, setting)?);
    }
    // Where there are routes, only they are answered.
    let path = if routes == 0 { format!("/{SMALL}") } else { backends::route(routes - 1) };
    daemons[0].first_answer_at(pods.client, SocketAddr::from((VIP, Port::Http.number())), &path)?;
    Ok(daemons)
}

/// The clients' namespace, which is a tenant.
const CLIENTS: &str = "bench";
/// What the daemons call their nodes.
pub(crate) const NEAR: &str = "near";
/// See [`NEAR`].
pub(crate) const FAR: &str = "far";
