//! Policies for the network of kinds that nobody here can evaluate: as long as there are any, no way around the network is known to be
//! allowed, for no pod.
//!
//! Must never touch what is said with authorization policies: it keeps connections where the network sees them, and ends none.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use super::file::FileRead;
use crate::{
    finding::Reason,
    model::{Mesh, NetworkPolicy},
    name::{Name, Namespace, PolicyName},
};

/// Whether any file has one. Those that were there before a part of the files became unreadable may still be.
pub(super) fn are_there(files: &BTreeMap<PathBuf, Arc<FileRead>>, before: bool) -> bool {
    let has = |read: &Arc<FileRead>| {
        let is_one = |reason: Reason| reason == Reason::NotEvaluated;
        read.findings.iter().any(|finding| is_one(finding.reason)) || (before && read.has_gap)
    };
    files.values().any(has)
}

/// Puts into each namespace that has a pod what is in force for a NetworkPolicy that cannot be read.
pub(super) fn stand_in(mesh: &mut Mesh) {
    let Ok(name) = Name::try_from(NAME) else { return };
    let namespaces: BTreeSet<Namespace> = mesh.workloads.keys().map(|pod| pod.namespace.clone()).collect();
    for namespace in namespaces {
        let name = PolicyName::new(namespace, name.clone());
        mesh.network_policies.insert(name.clone(), Arc::new(NetworkPolicy::unreadable(name)));
    }
}

/// Whoever has a policy of this name has a stricter one in its place.
const NAME: &str = "not-evaluated-by-canopy";
