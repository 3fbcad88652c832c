//! What a keeper shows of its cell to those who account, weigh and describe. Nothing here changes anything.

use std::sync::Arc;

use super::{Keeper, Reign};
use crate::{forest::accounting::Account, snapshot::Snapshot, tenancy::cpu::CellAccount};

impl Keeper {
    /// The tenant's number, which no other has had in this process.
    pub(in crate::forest) fn number(&self) -> u32 {
        self.number
    }

    /// What it is to get of the CPU, while it has a cell that is a thread: a process has a group of its own beside the daemon's.
    pub(in crate::forest) fn cpu_account(&self) -> Option<CellAccount> {
        let lanes = self.lane_accounts();
        let budget = self.snapshot.budget;
        (!lanes.is_empty()).then(|| CellAccount { tenant: self.tenant.clone(), lanes, budget })
    }

    /// What is accounted for, while it has a cell that is a thread: a process is none of the daemon's own clock and memory, and says
    /// itself what it holds.
    pub(in crate::forest) fn account(&self) -> Option<Account> {
        let reign = self.reign.as_ref().filter(|reign| !reign.lane.is_process())?;
        let Reign { lane, arena, cpu_before, .. } = reign;
        let (arena, ledger, thread) = (Arc::clone(arena), Arc::clone(&self.ledger), Arc::clone(&lane.id));
        Some(Account { arena, ledger, thread, cpu_before: *cpu_before })
    }

    /// The configuration that it was given last.
    pub(in crate::forest) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Whether it was told to end.
    pub(in crate::forest) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether it is between two cells, and why its last one failed.
    pub(in crate::forest) fn failure(&self) -> (bool, &'static str) {
        (self.reign.is_none() && !self.draining, self.why)
    }

    /// In words, for `canopy tree`.
    pub(in crate::forest) fn state(&self) -> String {
        let state = match &self.reign {
            None => format!("restarting (it {})", self.why),
            Some(_) if self.draining => "draining".to_owned(),
            Some(reign) if reign.blocked => "blocked in a system call".to_owned(),
            Some(reign) => {
                reign.lane.place().map_or("running".to_owned(), |pid| format!("running in process {pid}"))
            }
        };
        let state = match self.hands.lanes() {
            1 => state,
            lanes => format!("{state} in {lanes} lanes"),
        };
        match self.abandoned.len() {
            0 => state,
            stuck => format!("{state} ({stuck} stuck threads given up)"),
        }
    }
}
