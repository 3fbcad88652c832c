//! Reading a directory without a daemon, as verbs do that tell what one would make of it.
//!
//! The same reading and the same lowering as the daemon's. Nothing is contacted, nothing is changed.

use std::{error::Error, path::Path};

use clap::Args;
use config::{
    finding::Severity,
    identity::TrustDomain,
    name::{Namespace, RootNamespace},
    store::{Options, Outcome, Store},
};

use crate::control::directory;

/// How files are read that no daemon reads.
#[derive(Debug, Args)]
pub(super) struct Reading {
    /// Without a daemon: the trust domain of identities.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// Without a daemon: the namespace whose policies are for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// Without a daemon: the node whose daemon is meant. Without it, all pods are on its machine, as for `canopy run`.
    #[arg(long, value_name = "NAME", env = "CANOPY_NODE")]
    node: Option<String>,
    /// Without a daemon: the zone of that node.
    #[arg(long, value_name = "ZONE", env = "CANOPY_ZONE")]
    zone: Option<String>,
}

impl Reading {
    /// As the store takes it.
    pub(super) fn options(&self) -> Result<Options, Box<dyn Error>> {
        let trust_domain = TrustDomain::try_from(self.trust_domain.clone())?;
        let root_namespace = RootNamespace(Namespace::try_from(self.root_namespace.clone())?);
        let node = super::node(self.node.clone())?;
        let zone = super::zone(self.zone.clone())?;
        Ok(Options { trust_domain, root_namespace, node, zone, ..Options::default() })
    }
}

/// What a daemon that starts would make of a directory.
pub(super) fn read(directory: &Path, options: Options) -> Result<Outcome, Box<dyn Error>> {
    Ok(Store::new(options).apply(&directory::read(directory)?))
}

/// How many objects, or parts that may be some, are rejected.
pub(super) fn rejected(outcome: &Outcome) -> usize {
    outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected).count()
}
