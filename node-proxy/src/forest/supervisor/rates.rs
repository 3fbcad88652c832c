//! How often the kernel lets each tenant's pods connect, and while there are as many connections as may be, that it does not.
//!
//! It must never be all that counts: the cell counts whatever the kernel lets by, and what comes to the pods.

use std::collections::BTreeMap;

use super::Supervisor;
use crate::forest::keeper::Keeper;

impl Supervisor {
    /// Has each tenant's ledger count what the kernel has refused of its pods' connections: once for each tenant, of whose pods any
    /// knows it.
    pub(super) fn count_early(&mut self) {
        let by_tenant: BTreeMap<_, _> =
            self.trees.values().map(|tree| (&tree.workload.tenant, tree)).collect();
        for (tenant, tree) in by_tenant {
            if let (Some(refused), Some(keeper)) = (tree.refused_early(), self.cells.get_mut(tenant)) {
                keeper.refused_early(refused);
            }
        }
    }

    /// Tells the kernel which gates each pod's connections pass, where they have changed, and has the ledgers count what those
    /// have kept out.
    pub(super) fn gate_early(&mut self) {
        self.cells.values().for_each(Keeper::look_at_gate);
        for tree in self.trees.values_mut() {
            let keeper = self.cells.get(&tree.workload.tenant);
            let kept_out = tree.door().count();
            if let Some(keeper) = keeper.filter(|_| kept_out > 0) {
                keeper.kept_out(kept_out);
            }
            tree.gate_early(keeper.and_then(Keeper::gate));
        }
    }

    /// Tells the kernel of each tenant's rate, where it has changed, and of each pod whose it is.
    pub(super) fn limit_early(&mut self) {
        self.gate_early();
        for tree in self.trees.values_mut() {
            let tenant = &tree.workload.tenant;
            let (Some(keeper), Some(snapshot)) = (self.cells.get(tenant), self.snapshots.get(tenant)) else {
                continue;
            };
            tree.limit_early(keeper.number(), snapshot.budget.connections_per_second);
        }
    }
}
