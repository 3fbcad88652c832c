//! How the forest ends: steering first, then the cells, when their connections have or their time is over.
//!
//! Nothing that was accepted may be cut before the grace is over.

use std::time::Duration;

use tokio::time::Instant;

use super::{Supervisor, remains::Remains};
use crate::forest::Phase;

/// How long after the end of a drain the cells are waited for.
const LAST: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn drain(&mut self, grace: Duration) {
        let now = Instant::now();
        if self.stop_at.replace(now + grace + LAST).is_some() {
            // Told again: the later word counts, also for cells that are ending already.
            self.leaving.iter_mut().for_each(|keeper| keeper.drain(grace, now));
            self.remains.iter_mut().for_each(|remains| remains.stay_until(now + grace));
            return;
        }
        self.phase.send_replace(Phase::Draining);
        self.waiting.clear();
        // Every pod's steering first: from then on nothing new comes.
        self.remains.extend(self.trees.values_mut().filter_map(|tree| Remains::of(tree, now + grace)));
        for keeper in self.cells.values_mut() {
            keeper.drain(grace, now);
        }
        // The cells have the listeners and will take what waits in them.
        self.trees.clear();
        self.leaving.extend(std::mem::take(&mut self.cells).into_values());
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.stop_at.is_some_and(|stop_at| self.leaving.is_empty() || now >= stop_at)
    }

    pub(super) fn stop(mut self) {
        self.trees.clear();
        for keeper in self.cells.values_mut().chain(&mut self.leaving) {
            tracing::debug!(tenant = %keeper.tenant, draining = keeper.is_draining(), "a cell ends with the forest");
            keeper.give_up();
        }
        // Said last: the process may end at once, and steering must have been taken down by then.
        let phase = self.phase.clone();
        drop(self);
        phase.send_replace(Phase::Stopped);
    }
}
