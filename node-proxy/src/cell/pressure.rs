//! The cell against its memory budget, at every heartbeat: above the soft limit no new connection, and nothing more for who does not
//! take what there is; half-way to the hard one no new request; above that the largest connections end, of those of a size the newest, and
//! where that does not help, the supervisor ends the cell.
//!
//! It must never wait for the allocator: its figure is as old as it is, and the thread's own counts are read from memory.

use std::{
    cell::{Cell as Slot, RefCell},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{Cell, Live};
use crate::{
    sys::arena::own_net,
    telemetry::Reason,
    tenancy::memory::{Estimate, Pressure, at_a_time, rank},
};

/// What is remembered from one heartbeat to the next.
#[derive(Debug, Default)]
pub(super) struct Scale {
    estimate: RefCell<Estimate>,
    /// Heartbeats in a row above the hard limit.
    above: Slot<u64>,
}

impl Cell {
    /// Looks at what the cell holds, and does what its budget says about that. Called at every heartbeat.
    pub fn weigh(&self) {
        let budget = self.snapshot.borrow().budget;
        if budget.memory_soft_bytes.or(budget.memory_hard_bytes).is_none() {
            return self.press(Pressure::None);
        }
        let told = self.ledger.heap_bytes.load(Relaxed);
        let bytes = self.scale.estimate.borrow_mut().now(told, own_net());
        let counted = |counter: &AtomicU64| counter.load(Relaxed);
        // Bytes in pipes are the kernel's, and held all the same; and the budget is that of all lanes.
        let bytes = bytes + counted(&self.ledger.piped) + counted(&self.ledger.beside);
        self.press(Pressure::of(bytes, &budget));
    }

    /// Does what is to be done at this pressure.
    pub(crate) fn press(&self, pressure: Pressure) {
        let before = self.permits.press(pressure);
        if pressure != before {
            let held = self.live.len();
            match pressure {
                Pressure::None => {
                    tracing::info!(tenant = %self.tenant, "the cell holds less memory than its budget again")
                }
                Pressure::Soft | Pressure::Full | Pressure::Hard => {
                    tracing::warn!(tenant = %self.tenant, ?pressure, connections = held, "the cell holds more memory than its budget lets it");
                }
            }
        }
        if pressure == Pressure::None {
            return self.above(0);
        }
        if pressure > before {
            // What is kept for later is the first to go.
            self.pool.give_way(ALL);
        }
        if pressure == Pressure::Hard {
            self.shed();
            self.above(self.scale.above.get() + 1);
        } else {
            self.above(0);
        }
    }

    /// Says for how many heartbeats it has been above the hard limit.
    fn above(&self, beats: u64) {
        if self.scale.above.replace(beats) != beats {
            self.ledger.above_memory(beats);
        }
    }

    /// Ends the largest connections, and of those of a size the newest: the older ones were served within the budget.
    fn shed(&self) {
        let standing = |live: &Live| (rank(live.held()), live.since);
        let mut all = Vec::new();
        self.live.each(|live| {
            if live.ended().is_none() {
                all.push(standing(live));
            }
        });
        let condemned = at_a_time(all.len());
        if condemned == 0 {
            return;
        }
        let first = all.len() - condemned;
        let (_, least, _) = all.select_nth_unstable(first);
        let least = *least;
        let mut left = condemned;
        self.live.close_if(Reason::MemoryShed, |live| {
            let goes = left > 0 && live.ended().is_none() && standing(live) >= least;
            left -= usize::from(goes);
            goes
        });
    }
}

/// More than any cell keeps.
const ALL: usize = u32::MAX as usize;
