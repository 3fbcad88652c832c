//! What a keeper shows of its cell to those who account, weigh and describe. Nothing here changes anything.

use std::{sync::Arc, time::Duration};

use super::Keeper;
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

    /// What is accounted for: the threads that work for it, the warden of a process among them, and the memory of a cell that is a
    /// thread. A process is none of the daemon's own clock and memory, and says itself what it holds.
    pub(in crate::forest) fn account(&self) -> Account {
        let (ended, clocks) = self.past.here();
        let reign = self.reign.as_ref();
        let clocks = clocks.chain(reign.map(|reign| &reign.lane.clock)).cloned().collect();
        let arena = reign.filter(|reign| !reign.lane.is_process()).map(|reign| Arc::clone(&reign.arena));
        Account { arena, ledger: Arc::clone(&self.ledger), clocks, ended }
    }

    /// What it has used of the daemon's own CPU time, so far.
    pub(in crate::forest) fn used_here(&self) -> Duration {
        self.account().cpu()
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
