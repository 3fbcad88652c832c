//! What policies of a mesh say of any of its workloads, also of those of other nodes.
//!
//! By the very functions that this node's workloads are compiled by: another node's daemon, which reads the same, decides by the
//! same. For who asks why; nothing on the data path may look here.

use std::sync::Arc;

use config::model::{Mesh, NetworkPolicy, Workload};

use super::policies::{self, Index};
use crate::snapshot::{network::PodNetwork, policies::InboundPolicy};

/// The policies of a mesh.
#[derive(Debug)]
pub struct Protections<'a> {
    mesh: &'a Mesh,
    index: Index<'a>,
}

impl<'a> Protections<'a> {
    /// Sorts all there are.
    pub fn of(mesh: &'a Mesh) -> Self {
        Self { mesh, index: Index::of(mesh) }
    }

    /// What protects a workload from callers.
    pub fn inbound(&self, workload: &Workload) -> InboundPolicy {
        self.index.inbound(workload)
    }

    /// Which NetworkPolicies are about a workload.
    pub fn network(&self, workload: &Workload) -> PodNetwork {
        let is_of = |policy: &&Arc<NetworkPolicy>| policy.name.namespace == workload.pod.namespace;
        let policies = self.mesh.network_policies.values().filter(is_of);
        policies::limiting(policies, workload).unwrap_or_default()
    }
}
