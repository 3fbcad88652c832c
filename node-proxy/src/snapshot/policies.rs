//! Which policies protect which workload of a tenant, and which destinations outside the mesh it may dial.
//!
//! Put together by `control::compile`, evaluated by the stage `policy`. It must never decide anything itself.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use config::{
    model::{AuthorizationPolicy, ServiceEntry},
    name::PodName,
};

pub use config::model::PeerRule;

/// The inbound policies of a tenant's workloads on this machine.
///
/// A workload that is not here is not known yet: nothing is let in. One without policies is here, too.
#[derive(Debug, Default)]
pub struct Policies(HashMap<PodName, Arc<InboundPolicy>>);

impl Policies {
    /// What protects a workload.
    pub fn of(&self, pod: &PodName) -> Option<&Arc<InboundPolicy>> {
        self.0.get(pod)
    }

    /// Whether both say the very same of the very same workloads.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |(pod, policy): (&PodName, &Arc<InboundPolicy>)| {
            other.of(pod).is_some_and(|there| Arc::ptr_eq(there, policy))
        };
        self.0.len() == other.0.len() && self.0.iter().all(same)
    }
}

impl FromIterator<(PodName, Arc<InboundPolicy>)> for Policies {
    fn from_iter<I: IntoIterator<Item = (PodName, Arc<InboundPolicy>)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// What protects a workload from callers. Shared by workloads that the same policies are about.
#[derive(Debug, Default, PartialEq)]
pub struct InboundPolicy {
    /// Whether callers have to prove who they are.
    pub peers: PeerRule,
    /// Policies that deny, in the order of their names.
    pub deny: Vec<Arc<AuthorizationPolicy>>,
    /// Policies that allow, in the order of their names.
    pub allow: Vec<Arc<AuthorizationPolicy>>,
    /// Policies that allow, and of which nobody can tell whether they are about these workloads. They open nothing.
    pub doubtful: Vec<Arc<AuthorizationPolicy>>,
}

impl InboundPolicy {
    /// Whether it may refuse anybody.
    pub fn protects(&self) -> bool {
        !self.deny.is_empty() || !self.allow.is_empty() || self.peers.refuses()
    }
}

/// Destinations outside the mesh that a tenant may dial although its egress is limited.
#[derive(Debug, Default)]
pub struct External(pub Vec<Opening>);

/// A ServiceEntry and what the node has found for its hosts.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The entry.
    pub entry: Arc<ServiceEntry>,
    /// Addresses of its hosts, in order.
    pub found: Vec<IpAddr>,
}

impl Opening {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry) && self.found == other.found
    }
}

impl External {
    /// The entry that names a destination for callers of a namespace.
    pub fn entry(
        &self,
        caller: &config::name::Namespace,
        address: IpAddr,
        port: u16,
    ) -> Option<&Arc<ServiceEntry>> {
        let names = |opening: &&Opening| {
            let audience = &opening.entry.audience.namespaces;
            audience.as_ref().is_none_or(|namespaces| namespaces.contains(caller))
                && opening.entry.names(address, port, |address| opening.found.binary_search(&address).is_ok())
        };
        self.0.iter().find(names).map(|opening| &opening.entry)
    }

    /// Whether both hold the very same entries, with the same addresses.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, two)| one.is_same(two))
    }
}
