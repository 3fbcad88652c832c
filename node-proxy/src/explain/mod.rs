//! Which objects of which owner decide a request, stage by stage: what `canopy explain` tells.
//!
//! Every decision is asked of the function that makes it on the data path (`Snapshot::resolve`, `policy`, `route`, `balance`,
//! `upstream::choice`), over the snapshots that are in force; here is only told what they say, and what they were asked. It must
//! never decide by itself, and never do anything.
//!
//! What only a running cell knows is not told: which endpoints are ejected just now, and what a budget has left.

use std::{collections::BTreeMap, fmt::Display, net::SocketAddr, sync::Arc};

use config::{
    diff::tenant_of,
    finding::{ObjectRef, visible},
    model::{Mesh, Workload},
    name::{ClusterDomain, Name as ObjectName, Namespace, NodeName, PodName, ServiceName, TenantId},
    store::Basis,
};
use ebpf_redirect::{Origin, Side};

use self::{
    protocol::Speaks,
    told::{Detail, Explanation, Name, Object, Stage},
    verdict::{Fate, Refusal, Share},
};
use crate::{
    control::compile::Protections,
    policy::{self, Denied, Question as Asked},
    snapshot::{Destination, Snapshot},
};

pub use self::{
    ask::{Ask, AskError, Question},
    target::service_of,
};

pub mod permissions;
pub mod told;

mod ask;

// The stages, in the order in which a request meets them.
mod around;
mod target;

mod protocol;

mod route;

mod matchers;

mod filters;

mod endpoints;

mod waypoint;

mod delivery;

mod network;

mod receiver;

mod verdict;

#[cfg(test)]
mod tests;

/// What a question is answered by: a configuration, as one node has compiled it.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// What all objects together say.
    pub mesh: &'a Mesh,
    /// Each tenant's part of it, compiled.
    pub snapshots: &'a BTreeMap<TenantId, Arc<Snapshot>>,
    /// Where objects are written.
    pub basis: &'a Basis,
    /// Pods of this node that are not served, and why.
    pub waiting: &'a BTreeMap<PodName, String>,
    /// The name of this node, if it has one.
    pub node: Option<&'a NodeName>,
    /// What the names of Services end in.
    pub domain: &'a ClusterDomain,
}

/// Why there is nothing to tell of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// Nobody knows the caller.
    #[error("there is no workload {pod} in the configuration; --from names a pod with an address{}", known(.near))]
    NoSuchPod {
        /// The pod.
        pod: PodName,
        /// Some of its namespace.
        near: Vec<PodName>,
    },
    /// Another daemon serves it.
    #[error("{pod} is on node {node}: ask the daemon there, or give --node {node} with --config")]
    OnAnotherNode {
        /// The pod.
        pod: PodName,
        /// Its node.
        node: NodeName,
    },
    /// A name that means nothing here.
    #[error(
        "{host} is no Service of the mesh, and what a pod's DNS says of it is not known here: give --to the address that it connects to"
    )]
    UnknownHost {
        /// The name.
        host: String,
    },
    /// A name that the cluster's DNS has no address for.
    #[error(
        "Service {service} has neither a cluster address nor an endpoint that is ready: its name stands for no address now"
    )]
    NoAddress {
        /// The Service.
        service: ServiceName,
    },
    /// It has no tree.
    #[error(
        "{pod} is not served: {problem}. Nothing can be told of its connections until that is mended (`canopy tree`)"
    )]
    NotServed {
        /// The pod.
        pod: PodName,
        /// What is in the way.
        problem: String,
    },
    /// The configuration is not compiled yet.
    #[error("nothing is in force yet for tenant {tenant}: ask again in a moment")]
    NotCompiled {
        /// The tenant.
        tenant: TenantId,
    },
}

fn known(near: &[PodName]) -> String {
    if near.is_empty() {
        return String::new();
    }
    let names: Vec<String> = near.iter().map(ToString::to_string).collect();
    format!(", as {}", names.join(", "))
}

/// Tells what becomes of a request.
pub fn explain(world: World<'_>, question: &Question) -> Result<Explanation, ExplainError> {
    let caller = caller(world, &question.from)?;
    let tenant = &caller.tenant;
    let snapshot =
        world.snapshots.get(tenant).ok_or_else(|| ExplainError::NotCompiled { tenant: tenant.clone() })?;
    let protections = Protections::of(world.mesh);
    let mut telling = Telling { world, question, caller, snapshot, protections, stages: Vec::new() };
    telling.who();
    let shares = telling.follow()?;
    let is_request = question.is_http || telling.stages.iter().any(|stage| stage.stage == Name::Route);
    Ok(Explanation {
        asked: asked(question, is_request),
        configuration_version: world.mesh.version,
        stages: telling.stages,
        verdict: verdict::of(shares),
    })
}

fn asked(question: &Question, is_request: bool) -> String {
    let Question { from, to, request, .. } = question;
    let target = request.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = if is_request { format!("  {} {target}", request.method) } else { String::new() };
    short(&format!("{from} → {to}{request}"))
}

fn caller<'a>(world: World<'a>, pod: &PodName) -> Result<&'a Arc<Workload>, ExplainError> {
    let Some(workload) = world.mesh.workloads.get(pod) else {
        let same = |other: &&PodName| other.namespace == pod.namespace;
        let near = world.mesh.workloads.keys().filter(same).take(NEAR).cloned().collect();
        return Err(ExplainError::NoSuchPod { pod: pod.clone(), near });
    };
    if let Some(problem) = world.waiting.get(pod) {
        return Err(ExplainError::NotServed { pod: pod.clone(), problem: short(problem) });
    }
    match (&workload.netns, &workload.node, world.node) {
        (None, Some(node), Some(here)) if node != here => {
            Err(ExplainError::OnAnotherNode { pod: pod.clone(), node: node.clone() })
        }
        _ => Ok(workload),
    }
}

/// An explanation in the making.
struct Telling<'a> {
    world: World<'a>,
    question: &'a Question,
    caller: &'a Arc<Workload>,
    snapshot: &'a Arc<Snapshot>,
    protections: Protections<'a>,
    stages: Vec<Stage>,
}

impl<'a> Telling<'a> {
    fn who(&mut self) {
        let caller = self.caller;
        let addresses: Vec<String> = caller.addresses.iter().map(ToString::to_string).collect();
        let says = format!(
            "{}, of tenant {}, speaks as {}",
            addresses.join(" and "),
            caller.tenant,
            caller.identity
        );
        self.stage(Name::Caller, says, Some(self.world.pod(&caller.pod)));
    }

    /// From the caller's socket on, as far as the request comes.
    fn follow(&mut self) -> Result<Vec<Share>, ExplainError> {
        let Some(to) = self.target()? else {
            return Ok(vec![Share::whole(self.outside_by_name())]);
        };
        if let Some(shares) = self.around(to) {
            return Ok(shares);
        }
        let destination = self.snapshot.resolve(&self.caller.pod.namespace, to);
        self.destination(to, &destination);
        let speaks = self.protocol(&destination);
        if let Some(refusal) = self.leave(to, &destination) {
            return Ok(vec![Share::whole(Fate::Refused(refusal))]);
        }
        Ok(match (&destination, speaks) {
            (Destination::Service { entry, routes }, Speaks::Http) => self.routed(to, entry, routes),
            (Destination::Service { entry, .. }, Speaks::Opaque) => self.any_of(&entry.cluster, to),
            (Destination::Workload { entry, .. }, _) => self.one(to, Some(&entry.workload.pod), &destination),
            (Destination::Outside, _) => self.one(to, None, &destination),
        })
    }

    /// Why the caller's own policies, those of its tenant's egress, do not let it go there, if they do not.
    fn leave(&mut self, to: SocketAddr, destination: &Destination) -> Option<Refusal> {
        let caller = crate::identity::Caller {
            identity: Some(self.caller.identity.clone()),
            pod: Some(self.caller.pod.clone()),
        };
        let asked = Asked {
            side: Side::Outbound,
            workload: self.caller,
            origin: Origin { destination: to, client: self.client(to) },
            destination,
            caller: &caller,
        };
        match policy::reconsider(self.snapshot, &asked) {
            Err(Denied::Waypoint) => return Some(self.behind(destination)),
            Err(Denied::DestinationUnknown) => return Some(self.unknown(to)),
            Err(_) => return Some(self.kept_in(to)),
            Ok(()) if matches!(destination, Destination::Outside) => self.let_out(to),
            Ok(()) => {}
        }
        None
    }

    /// Where the caller is, as a receiver sees it.
    fn client(&self, to: SocketAddr) -> SocketAddr {
        let own = &self.caller.addresses;
        let alike = own.iter().find(|address| address.is_ipv4() == to.is_ipv4()).or(own.first());
        SocketAddr::new(alike.copied().unwrap_or(to.ip()), 0)
    }

    fn stage(&mut self, stage: Name, says: impl Into<String>, object: Option<Object>) {
        self.stages.push(Stage { stage, says: says.into(), object, details: Vec::new() });
    }

    /// Something besides what the last stage says.
    fn detail(&mut self, says: impl Into<String>, object: Option<Object>) {
        if let Some(stage) = self.stages.last_mut() {
            stage.details.push(Detail { says: says.into(), object });
        }
    }
}

impl World<'_> {
    /// An object of a namespace, with its owner and where it is written.
    fn object(&self, kind: &str, namespace: &Namespace, name: &ObjectName) -> Object {
        let object = ObjectRef::new(kind, Some(namespace.as_str()), name.as_str());
        let written = self.basis.written(&object);
        Object {
            kind: kind.to_owned(),
            namespace: Some(namespace.to_string()),
            name: name.to_string(),
            owner: tenant_of(self.mesh, namespace).to_string(),
            file: written.map(|written| visible(&written.file.to_string_lossy())),
            line: written.map(|written| written.at.line),
        }
    }

    fn pod(&self, pod: &PodName) -> Object {
        self.object("Pod", &pod.namespace, &pod.name)
    }

    /// The object by which a tenant is one, unless it is a namespace by itself.
    fn tenant(&self, tenant: &TenantId) -> Option<Object> {
        let TenantId::Tenant(name) = tenant else { return None };
        let written = self.basis.written(&ObjectRef::new("Tenant", None, name.as_str()));
        Some(Object {
            kind: "Tenant".to_owned(),
            namespace: None,
            name: name.to_string(),
            owner: PLATFORM.to_owned(),
            file: written.map(|written| visible(&written.file.to_string_lossy())),
            line: written.map(|written| written.at.line),
        })
    }

    fn owner(&self, namespace: &Namespace) -> String {
        tenant_of(self.mesh, namespace).to_string()
    }
}

/// A text that others wrote, as much of it as a line needs and nothing that a terminal obeys.
fn short(text: &str) -> String {
    let text = visible(text).replace('\t', " ");
    if text.chars().count() <= SHORT {
        return text;
    }
    text.chars().take(SHORT).chain(['…']).collect()
}

/// A few of many, and how many more there are.
fn few<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    let mut all = all.into_iter();
    let told: Vec<String> = all.by_ref().take(FEW).map(|one| one.to_string()).collect();
    match all.count() {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// Who writes Tenants.
const PLATFORM: &str = "the cluster's administrators";
/// Characters of a text that others wrote.
const SHORT: usize = 160;
/// Of a list, as many are told.
const FEW: usize = 8;
/// Pods that are suggested.
const NEAR: usize = 5;
