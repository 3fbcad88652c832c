//! The subjects: the same pods and servers, with nothing, Canopy or Envoy between them.
//!
//! Each subject has a client pod and a server pod of its own, so that what captures one cannot touch another. A
//! subject says from its own counters how much it carried: one that was passed around must not be measured.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
};

use testkit::{Node, Pod};

use crate::{
    error::BenchError,
    lab::{
        self,
        backends::{Backends, Port},
    },
};

pub(crate) use canopy::{Canopy, Steering};
pub(crate) use manifests::{Manifests, PodEntry, VIP};

mod canopy;
pub(crate) mod envoy;
mod manifests;

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the client dials the server pod.
    Direct,
    /// The daemon, as `canopy-node`, steering by eBPF.
    Canopy,
    /// The daemon, as `canopy-node-ebpf` or `canopy-node-iptables`.
    CanopyBy(Steering),
    /// Envoy doing the same work.
    Envoy,
}

impl Kind {
    /// As in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Canopy => "canopy-node",
            Self::CanopyBy(Steering::Ebpf) => "canopy-node-ebpf",
            Self::CanopyBy(Steering::Iptables) => "canopy-node-iptables",
            Self::Envoy => "envoy-node",
        }
    }

    /// Whether it is Canopy, however it steers.
    pub(crate) fn is_canopy(self) -> bool {
        matches!(self, Self::Canopy | Self::CanopyBy(_))
    }
}

/// What all subjects of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// For configuration and logs; absolute.
    pub directory: PathBuf,
    /// The daemon's binary.
    pub canopy: PathBuf,
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// Whether both proxies write an access log.
    pub access_log: bool,
}

/// A subject that is ready for load.
#[derive(Debug)]
pub(crate) struct Subject {
    pub kind: Kind,
    // Proxies end before their servers, servers before their pods.
    proxy: Proxy,
    _backends: Backends,
    pub client: Pod,
    server: Pod,
}

#[derive(Debug)]
enum Proxy {
    None,
    Canopy(Canopy),
    Envoy(envoy::Envoy),
}

impl Subject {
    /// Makes the pods and starts what runs in and between them.
    pub(crate) fn start(kind: Kind, node: &Rc<Node>, setting: &Setting) -> Result<Self, BenchError> {
        let directory = setting.directory.join(kind.name());
        std::fs::create_dir_all(&directory)
            .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
        let client = lab::pod(node, "bench", &format!("{}-client", kind.name()))?;
        let server = lab::pod(node, "bench", &format!("{}-server", kind.name()))?;
        let backends = Backends::start(&server, &directory.join("backends"))?;
        let proxy = match kind {
            Kind::Direct => Proxy::None,
            Kind::Canopy => start_canopy(Steering::Ebpf, kind, node, [&client, &server], setting)?,
            Kind::CanopyBy(by) => start_canopy(by, kind, node, [&client, &server], setting)?,
            Kind::Envoy => Proxy::Envoy(envoy::Envoy::start(&client, &server, setting, &directory)?),
        };
        Ok(Self { kind, proxy, _backends: backends, client, server })
    }

    /// What the client dials to reach a port of the server.
    pub(crate) fn target(&self, port: Port) -> SocketAddr {
        match &self.proxy {
            Proxy::None => self.server.at(port.number()),
            Proxy::Canopy(_) => SocketAddr::from((VIP, port.number())),
            Proxy::Envoy(_) => envoy::listener(port),
        }
    }

    /// The proxy's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.proxy {
            Proxy::None => None,
            Proxy::Canopy(canopy) => Some(canopy.pid()),
            Proxy::Envoy(envoy) => Some(envoy.pid()),
        }
    }

    /// What the proxy has carried to that port since it started: requests of HTTP, connections of tcp.
    pub(crate) fn carried(&self, port: Port) -> Result<Option<u64>, BenchError> {
        match &self.proxy {
            Proxy::None => Ok(None),
            Proxy::Canopy(canopy) => canopy.carried(port).map(Some),
            Proxy::Envoy(envoy) => envoy.carried(port).map(Some),
        }
    }

    /// Empties the access log, so that a long run does not fill the disk.
    pub(crate) fn empty_log(&self, setting: &Setting) {
        let log = access_log(&setting.directory.join(self.kind.name()));
        if let Ok(file) = std::fs::OpenOptions::new().write(true).open(log) {
            // A log that cannot be emptied is only large.
            let _ = file.set_len(0);
        }
    }
}

/// Where a subject's access log is, if it writes one.
fn access_log(directory: &Path) -> PathBuf {
    directory.join("access.log")
}

fn start_canopy(
    by: Steering,
    kind: Kind,
    node: &Rc<Node>,
    [client, server]: [&Pod; 2],
    setting: &Setting,
) -> Result<Proxy, BenchError> {
    let mut manifests = Manifests::default();
    manifests.tenant("bench");
    manifests.pod(&PodEntry::of(client));
    manifests.pod(&PodEntry::of(server));
    manifests.service(&PodEntry::of(server));
    let canopy = Canopy::start(by, kind.name(), node, &manifests, setting)?;
    Ok(Proxy::Canopy(canopy.ready(client, SocketAddr::from((VIP, Port::Http.number())))?))
}
