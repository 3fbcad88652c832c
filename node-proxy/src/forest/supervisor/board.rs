//! Who is reached through which cell: the board, told to every cell when it changes.
//!
//! It must never lead to a pod that is not there.

use std::sync::Arc;

use tokio::time::Instant;

use super::Supervisor;
use crate::{forest::planting::Planting, handoff::Line};

impl Supervisor {
    /// Tells every cell how the pods of the others are reached, where that has changed. A drain changes nothing: what is
    /// left to do may still need everybody.
    pub(super) fn connect(&mut self, now: Instant) {
        if self.stop_at.is_some() {
            return;
        }
        let line = |tree: &Planting| {
            let inbox = Arc::clone(self.cells.get(&tree.workload.tenant)?.handoffs()?);
            Some(Line { workload: Arc::clone(&tree.workload), tree: tree.id, inbox })
        };
        let absent = self.waiting.iter().filter(|(_, waiting)| waiting.absent).map(|(pod, _)| pod.clone());
        self.switchboard.set(self.trees.values().filter_map(line).collect(), absent.collect());
        for keeper in self.cells.values_mut().chain(&mut self.leaving) {
            keeper.connect_by(self.switchboard.board(), now);
        }
    }
}
