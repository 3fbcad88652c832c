//! Which gates the kernel has the connections of each pod pass: its tenant's and its own, which the tenant's cell moves as it
//! counts. A gate is one cell's: with its successor comes another, so that a cell which wakes up late moves none that counts.

use ebpf_redirect::Gate;

use super::Keeper;
use crate::forest::Settings;

/// One for a cell or a tree that is about to begin; none where tenants are not held to their budgets.
pub(in crate::forest) fn new_gate(settings: &Settings) -> Option<Gate> {
    settings.budgets.then(|| settings.redirect.gate()).flatten()
}

impl Keeper {
    /// Its cell's, as long as there is a cell and its tenant's budget bounds connections. While there is none, connections wait
    /// for the next one.
    pub(in crate::forest) fn gate(&self) -> Option<&Gate> {
        let budget = &self.snapshot.budget;
        let bounds = [budget.connections, budget.connections_per_workload, budget.descriptors];
        let counts = self.reign.is_some() && bounds.iter().any(Option::is_some);
        self.ledger.door.gate().filter(|_| counts)
    }

    /// Counts connects that the gates of its workloads have kept out.
    pub(in crate::forest) fn kept_out(&self, connects: u64) {
        self.ledger.kept_out(connects);
    }

    /// Passes on what a cell in a process of its own says, and counts what its gate has kept out.
    pub(in crate::forest) fn look_at_gate(&self) {
        if self.reign.as_ref().is_some_and(|reign| reign.lane.is_process()) {
            self.ledger.door.pass_on();
        }
        self.ledger.door.count();
    }
}
