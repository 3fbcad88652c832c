//! A daemon that idles: one tenant with a client and a server, and as many more pods as are asked for.
//!
//! Each is fresh, and has carried nothing but one request when it is looked at.

use std::{net::SocketAddr, thread, time::Duration};

use testkit::Pod;

use super::Plan;
use crate::{
    error::BenchError,
    lab::{
        self, Nodes,
        backends::{Backends, Port},
    },
    subject::{Canopy, Judge, Kind, Launch, Manifests, NEAR, PodEntry, Setting, VIP},
};

/// Says in the manifests whose another pod is; with its number.
pub(super) type Further = dyn Fn(&mut Manifests, usize, PodEntry);

/// Where daemons idle, one after the other.
pub(super) struct Scene<'a> {
    nodes: Nodes,
    server: Pod,
    client: Pod,
    others: Vec<Pod>,
    _backends: Backends,
    setting: &'a Setting,
    plan: Plan,
}

impl<'a> Scene<'a> {
    /// With so many pods beside the client's and the server's.
    pub(super) fn new(setting: &'a Setting, plan: Plan, others: usize) -> Result<Self, BenchError> {
        let nodes = Nodes::one()?;
        let pod = |name: &str| lab::pod(nodes.here(), OWNER, name);
        let (server, client) = (pod("server")?, pod("client")?);
        let others = (0..others).map(|number| pod(&format!("further{number}"))).collect::<Result<_, _>>()?;
        let backends = Backends::start(&server, &setting.directory.join("backends"))?;
        Ok(Self { nodes, server, client, others, _backends: backends, setting, plan })
    }

    /// A daemon with `further` for each of the other pods, which says in the manifests whose it is, and how long it took from its
    /// start to the first answer, in nanoseconds. It has been left alone since.
    pub(super) fn daemon(&self, kind: Kind, further: Option<&Further>) -> Result<(Canopy, u64), BenchError> {
        let mut manifests = self.manifests();
        let mut workloads = OWN;
        for (number, pod) in self.others.iter().enumerate() {
            let Some(further) = further else { break };
            further(&mut manifests, number, PodEntry::of(pod));
            workloads += 1;
        }
        self.start(kind, &manifests, workloads)
    }

    /// A daemon that knows the client and the server alone, and that the server takes nothing from the first of the other pods.
    pub(super) fn denying(&self, kind: Kind, judge: Judge) -> Result<Canopy, BenchError> {
        let mut manifests = self.manifests();
        manifests.denial(&PodEntry::of(&self.server), self.stranger().v4(), judge);
        Ok(self.start(kind, &manifests, OWN)?.0)
    }

    pub(super) fn server(&self) -> &Pod {
        &self.server
    }

    /// The first of the other pods.
    pub(super) fn stranger(&self) -> &Pod {
        &self.others[0]
    }

    fn manifests(&self) -> Manifests {
        let mut manifests = Manifests::default();
        manifests.tenant(OWNER);
        manifests.pod(&PodEntry::of(&self.client));
        manifests.pod(&PodEntry::of(&self.server));
        manifests.service(&PodEntry::of(&self.server));
        manifests
    }

    fn start(&self, kind: Kind, manifests: &Manifests, workloads: u64) -> Result<(Canopy, u64), BenchError> {
        let node = self.nodes.here();
        let launch = Launch { name: kind.name(), node, called: NEAR, kind, manifests };
        let mut canopy = Canopy::start(&launch, self.setting)?;
        let start = canopy.first_answer(&self.client, SocketAddr::from((VIP, Port::Http.number())))?;
        canopy.wait_enrolled(workloads)?;
        thread::sleep(Duration::from_millis(self.plan.settle_ms));
        Ok((canopy, start))
    }
}

/// Makes a pod a tenant by itself, and says which.
pub(super) fn tenant(manifests: &mut Manifests, number: usize, entry: PodEntry) -> String {
    let namespace = format!("{OWNER}{number}");
    manifests.tenant(&namespace);
    manifests.pod(&PodEntry { namespace: namespace.clone(), ..entry });
    namespace
}

/// The client and the server.
const OWN: u64 = 2;
/// The tenant of the client, the server and, where nothing else is said, of all others.
const OWNER: &str = "bench";
