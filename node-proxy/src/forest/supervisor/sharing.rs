//! Who may hold how many connections: told to the cells at every change, and again as connections end that were above a share.
//!
//! What a cell may still take because it has not heard of less counts as taken: nothing is given twice.

use tokio::time::Instant;

use super::Supervisor;
use crate::forest::{keeper::Keeper, seats};

impl Supervisor {
    /// Gives every running cell its share of now, as far as there is room.
    pub(super) fn share_out(&mut self, now: Instant) {
        self.gate_early();
        if self.stop_at.is_some() {
            return;
        }
        self.count_early();
        let share = self.settings.limits.connections;
        let mut spare = seats::spare(self.free(), share);
        for keeper in self.cells.values_mut() {
            let before = keeper.committed();
            keeper.share(share, spare, now);
            spare = spare.saturating_sub(keeper.committed().saturating_sub(before));
        }
    }

    /// What a tenant's cell gets that starts now.
    pub(super) fn first_share(&self) -> usize {
        let missing = self.tenants.saturating_sub(self.cells.len()).max(1);
        seats::first(self.settings.limits.connections, self.free(), missing)
    }

    fn free(&self) -> usize {
        self.settings.free(self.cells.values().chain(&self.leaving).map(Keeper::committed))
    }
}
