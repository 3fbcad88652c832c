//! How manifests are read: whose domain it is, which node this is, how much is read.

use std::net::IpAddr;

use crate::{
    document::Limits,
    identity::TrustDomain,
    model::{Here, Zone},
    name::{NodeName, RootNamespace},
};

/// How manifests are read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: RootNamespace,
    /// The node that reads: pods of other nodes have no network namespace here. `None` if there is only one.
    pub node: Option<NodeName>,
    /// The zone of that node, if it is told: whose endpoints are meant for it.
    pub zone: Option<Zone>,
    /// The addresses of that node, as far as it knows them: no endpoint of a slice.
    pub node_addresses: Vec<IpAddr>,
    /// How much is read at most.
    pub limits: Limits,
    /// Whether an API server has taken what is read: of its own kinds, a field that is not known here is one of a later version and no
    /// slip, and nobody has to be told what other parts of Kubernetes act on.
    pub of_cluster: bool,
    /// Whether no tenant is held to its budget of objects: for measuring what budgets cost.
    pub unbudgeted: bool,
}

impl Options {
    /// Where who reads is.
    pub fn here(&self) -> Here {
        Here { node: self.node.clone(), zone: self.zone.clone() }
    }
}
