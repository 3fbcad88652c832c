//! What the kernel may refuse early: the denials of each tree's policies that need no identity.
//!
//! It must never be all that refuses: policy decides about whatever the kernel lets pass.

use std::{collections::BTreeMap, sync::Arc};

use config::name::TenantId;

use super::Supervisor;
use crate::{forest::planting::Planting, snapshot::Snapshot};

impl Supervisor {
    /// Tells the kernel of each tree's denials, where they have changed.
    pub(super) fn deny_early(&mut self) {
        for tree in self.trees.values_mut() {
            of_tree(&self.snapshots, tree);
        }
    }
}

/// Tells the kernel of one tree's denials.
pub(super) fn of_tree(snapshots: &BTreeMap<TenantId, Arc<Snapshot>>, tree: &mut Planting) {
    let Some(snapshot) = snapshots.get(&tree.workload.tenant) else { return };
    let Some(policy) = snapshot.policies.of(&tree.workload.pod) else { return };
    tree.deny_early(policy, &snapshot.directory.node_addresses);
}
