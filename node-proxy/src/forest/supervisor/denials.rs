//! What the kernel may refuse early: the denials of each tree's policies that need no identity.
//!
//! It must never be all that refuses: policy decides about whatever the kernel lets pass.

use std::{collections::BTreeMap, sync::Arc};

use config::name::TenantId;

use super::Supervisor;
use crate::{forest::planting::Planting, snapshot::Snapshot};

/// What the trees of one tenant may take at a time, in values compared (some milliseconds, and 15 more where all of them are
/// written): the tree that goes beyond it is the last.
const AT_A_TIME: usize = 4096;

impl Supervisor {
    /// Tells the kernel of each tree's denials, where they have changed. What is too much for now of a tenant's is left to the
    /// next round: nobody else's pods wait for it.
    pub(super) fn deny_early(&mut self) {
        self.denials_pending = false;
        self.limit_early();
        let mut spent: BTreeMap<TenantId, usize> = BTreeMap::new();
        for tree in self.trees.values_mut() {
            let tenant = &tree.workload.tenant;
            if spent.get(tenant).is_some_and(|spent| *spent >= AT_A_TIME) {
                self.denials_pending = true;
                continue;
            }
            let tenant = tenant.clone();
            let effort = of_tree(&self.snapshots, tree);
            *spent.entry(tenant).or_default() += effort;
        }
    }
}

/// Tells the kernel of one tree's denials; says what that took.
fn of_tree(snapshots: &BTreeMap<TenantId, Arc<Snapshot>>, tree: &mut Planting) -> usize {
    let Some(snapshot) = snapshots.get(&tree.workload.tenant) else { return 0 };
    let Some(policy) = snapshot.policies.of(&tree.workload.pod) else { return 0 };
    tree.deny_early(policy, &snapshot.directory.node_addresses)
}
