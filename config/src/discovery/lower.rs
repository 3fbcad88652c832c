//! From one resource to one object of the model: what is believed of what comes over the wire.
//!
//! A resource that says everything of the model's own (the extension) is taken by that word, others by Istio's. What is not
//! understood is refused, or counts as what opens nothing; it must never be left out in silence where that would open anything.

use std::{net::IpAddr, sync::Arc};

use super::{Kind, Resource};
use crate::{
    document::shorten,
    finding::{Reason, Severity},
    model::{
        AuthorizationPolicy, HttpRoute, NamespaceFacts, NetworkPolicy, PeerAuthentication, ServiceEntry,
        Tenant,
    },
    name::{ClusterDomain, EntryName, Namespace, PodName, PolicyName, RouteName, ServiceName, TenantId},
};

pub(super) use self::{service::HeldService, workload::HeldWorkload};

mod address;
mod authorization;
mod facts;
pub(super) mod guard;
pub(super) mod names;
mod service;
pub(super) mod stand_in;
mod unknown;
mod workload;

/// Where the node is, as far as it decides what a resource means.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// What the names of Services end in.
    pub(super) domain: ClusterDomain,
    /// The network whose addresses can be dialled; empty is ours, too.
    pub(super) network: String,
    /// Bytes of one body.
    pub(super) bytes: usize,
}

/// Why a resource is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Bad {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidValue, message)
    }
}

/// What is said of a resource that is taken all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) severity: Severity,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Note {
    pub(super) fn not_obeyed(message: impl Into<String>) -> Self {
        Self { severity: Severity::NotObeyed, reason: Reason::NotObeyed, message: message.into() }
    }
}

/// What a resource says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lowered {
    pub(super) object: Object,
    pub(super) notes: Vec<Note>,
}

/// One object, as far as it can be said without the others.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    Tenant(Arc<Tenant>),
    Namespace(Arc<NamespaceFacts>),
    Workload(Arc<HeldWorkload>),
    Service(Arc<HeldService>),
    Authorization(Arc<AuthorizationPolicy>),
    /// About those workloads that name its resource.
    Named(Arc<AuthorizationPolicy>),
    /// A policy that is reported and not enforced.
    DryRun(PolicyName),
    Peer(Arc<PeerAuthentication>),
    Network(Arc<NetworkPolicy>),
    Entry(Arc<ServiceEntry>),
    Route(Arc<HttpRoute>),
    /// In the place of a Tenant: its namespaces are kept to the mesh. `None` where nobody knows which they are: then all that no
    /// other Tenant lists.
    Kept(Option<Vec<Namespace>>),
    /// In the place of a NetworkPolicy of which not even the namespace can be read.
    NetworkEverywhere,
}

/// The place in the mesh that an object takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Tenant(TenantId),
    Kept,
    Namespace(Namespace),
    Workload(PodName),
    Service(ServiceName),
    Authorization(PolicyName),
    Peer(PolicyName),
    NetworkEverywhere,
    Network(PolicyName),
    Entry(EntryName),
    Route(RouteName),
}

impl Object {
    /// Where it belongs.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Tenant(tenant) => Key::Tenant(tenant.id.clone()),
            Self::Namespace(facts) => Key::Namespace(facts.name.clone()),
            Self::Workload(held) => Key::Workload(held.workload.pod.clone()),
            Self::Service(held) => Key::Service(held.service.name.clone()),
            Self::Authorization(policy) | Self::Named(policy) => Key::Authorization(policy.name.clone()),
            Self::DryRun(name) => Key::Authorization(name.clone()),
            Self::Peer(peers) => Key::Peer(peers.name.clone()),
            Self::Network(policy) => Key::Network(policy.name.clone()),
            Self::Entry(entry) => Key::Entry(entry.name.clone()),
            Self::Route(route) => Key::Route(route.name.clone()),
            Self::Kept(_) => Key::Kept,
            Self::NetworkEverywhere => Key::NetworkEverywhere,
        }
    }

    /// The addresses that it is reached by.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Workload(held) => &held.workload.addresses,
            Self::Service(held) => &held.service.vips,
            _ => &[],
        }
    }

    /// The namespace that it is of, which is there by that.
    pub(super) fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Namespace(facts) => Some(&facts.name),
            Self::Workload(held) => Some(&held.workload.pod.namespace),
            Self::Service(held) => Some(&held.service.name.namespace),
            Self::Authorization(policy) | Self::Named(policy) => Some(&policy.name.namespace),
            Self::DryRun(name) => Some(&name.namespace),
            Self::Peer(peers) => Some(&peers.name.namespace),
            Self::Network(policy) => Some(&policy.name.namespace),
            Self::Entry(entry) => Some(&entry.name.namespace),
            Self::Route(route) => Some(&route.name.namespace),
            Self::Tenant(_) | Self::Kept(_) | Self::NetworkEverywhere => None,
        }
    }
}

/// Reads one resource.
pub(super) fn lower(kind: Kind, resource: &Resource, site: &Site) -> Result<Lowered, Bad> {
    check_size(resource, site)?;
    let name = resource.name.as_str();
    let plain = |object| Ok(Lowered { object, notes: Vec::new() });
    match kind {
        Kind::Address => address::lower(resource, site),
        Kind::Authorization => authorization::lower(resource),
        Kind::Tenant => plain(Object::Tenant(Arc::new(facts::tenant(name, &resource.body)?))),
        Kind::Namespace => plain(Object::Namespace(Arc::new(facts::namespace(name, &resource.body)?))),
        Kind::PeerAuthentication => {
            let read: PeerAuthentication = facts::of_body(&resource.body)?;
            facts::check_name(&read.name, &names::policy(name)?)?;
            plain(Object::Peer(Arc::new(read)))
        }
        Kind::NetworkPolicy => {
            let read: NetworkPolicy = facts::of_body(&resource.body)?;
            facts::check_name(&read.name, &names::policy(name)?)?;
            plain(Object::Network(Arc::new(read)))
        }
        Kind::ServiceEntry => {
            let read: ServiceEntry = facts::of_body(&resource.body)?;
            facts::check_name(&read.name, &names::entry(name)?)?;
            plain(Object::Entry(Arc::new(read)))
        }
        Kind::Route => {
            let read: HttpRoute = facts::of_body(&resource.body)?;
            if read.name != names::route(name)? {
                return Err(Bad::invalid(format!("says that it is {} {}", read.name.kind, read.name)));
            }
            plain(Object::Route(Arc::new(read)))
        }
    }
}

/// Bytes of a name: far more than the longest of Kubernetes has.
const NAME_BYTES: usize = 1024;

fn check_size(resource: &Resource, site: &Site) -> Result<(), Bad> {
    if resource.name.len() > NAME_BYTES {
        let message = format!("its name has {} bytes, at most {NAME_BYTES} are read", resource.name.len());
        return Err(Bad::new(Reason::TooLarge, message));
    }
    if resource.body.len() > site.bytes {
        let message = format!("has {} bytes, at most {} are read of one", resource.body.len(), site.bytes);
        return Err(Bad::new(Reason::TooLarge, message));
    }
    Ok(())
}

/// Decodes a message.
fn decode<M: prost::Message + Default>(bytes: &[u8], what: &str) -> Result<M, Bad> {
    M::decode(bytes).map_err(|error| {
        Bad::new(Reason::Malformed, format!("is no {what}: {}", shorten(&error.to_string())))
    })
}
