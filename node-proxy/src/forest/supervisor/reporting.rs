//! What the supervisor tells of the forest: figures after every look, and a description for whoever asks.
//!
//! It must never wait for a cell: what trees there are is the cells' own to answer.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Keeper, Outcome, Supervisor};
use crate::forest::{
    describe::{ForestDescription, WaitingDescription},
    handle::{Sketch, Standing, Terms, describe_cell},
    watch::{CellNow, WaitingNow},
};

impl Supervisor {
    pub(super) fn publish(&self) {
        let ledgers: Vec<_> =
            self.keepers().map(|keeper| (keeper.tenant.clone(), Arc::clone(keeper.ledger()))).collect();
        self.books.enter(self.cells.values().chain(&self.leaving), self.keepers());
        let terms = self.keepers().map(|keeper| {
            let snapshot = keeper.snapshot();
            let tenant = self.mesh.tenants.get(&keeper.tenant);
            keeper.ledger().left_out.store(tenant.map_or(0, |tenant| tenant.left_out), Relaxed);
            Terms {
                isolation: keeper.class(),
                budget: snapshot.budget,
                owner: tenant.and_then(|tenant| tenant.owner),
                restarts: keeper.restarts,
                state: keeper.state(),
            }
        });
        let terms = terms.collect();
        self.tell_owners();
        *self.shared.standing() = Standing {
            ledgers,
            terms,
            rows: self.trees.values().map(|tree| Arc::clone(tree.row())).collect(),
            version: self.mesh.version,
            planted: self.trees.len(),
            waiting: self.waiting.len(),
        };
        let planted = self.trees.values().map(|tree| &tree.workload);
        let waiting = self.waiting.values().map(|waiting| (&waiting.workload, &waiting.problem));
        let version = self.mesh.version;
        self.shared.enrolments.send_if_modified(|known| known.take_up(version, planted, waiting));
    }

    /// Tells tenants' owners what is news to them.
    fn tell_owners(&self) {
        let cells = self.keepers().map(|keeper| {
            let (failed, why) = keeper.failure();
            let (tenant, ledger, restarts) = (&keeper.tenant, keeper.ledger(), keeper.restarts);
            let (budget, share) = keeper.bounds();
            CellNow { tenant, ledger, failed, why, restarts, budget, share }
        });
        let waiting = self.waiting.values().map(|waiting| WaitingNow {
            pod: &waiting.workload.pod,
            tenant: &waiting.workload.tenant,
            problem: &waiting.problem,
        });
        let now = (Instant::now(), SystemTime::now());
        self.shared.watch().look(cells, waiting, &self.shared.events, now);
    }

    /// Lets go of cells that have ended. What they have used of the daemon's CPU time stays their tenants'.
    pub(super) fn part_with_cells(&mut self, now: Instant) {
        let ended = self.leaving.extract_if(.., |keeper| keeper.look(now) == Outcome::Ended);
        ended.for_each(|mut keeper| self.books.departed(keeper.used_here() + keeper.ended_lanes()));
    }

    /// Every cell once: a tenant that left and came back shows the cell that serves it now.
    fn keepers(&self) -> impl Iterator<Item = &Keeper> {
        let leaving = self.leaving.iter().filter(|keeper| !self.cells.contains_key(&keeper.tenant));
        self.cells.values().chain(leaving)
    }

    pub(super) fn describe(&mut self, reply: oneshot::Sender<Sketch>) {
        let now = Instant::now();
        let (mut cells, mut trees) = (Vec::new(), Vec::new());
        for keeper in self.cells.values_mut().chain(&mut self.leaving) {
            cells.push(describe_cell(&keeper.tenant, keeper.state(), keeper.restarts, keeper.ledger()));
            trees.push(keeper.ask(now));
        }
        let waiting = self.waiting.values().map(|waiting| WaitingDescription {
            pod: waiting.workload.pod.clone(),
            tenant: waiting.workload.tenant.clone(),
            problem: waiting.problem.clone(),
        });
        let forest = ForestDescription {
            instance: self.settings.instance.clone(),
            canopy_version: env!("CARGO_PKG_VERSION").to_owned(),
            redirect: self.settings.redirect.mechanism().to_string(),
            configuration_version: self.mesh.version,
            cells,
            waiting: waiting.collect(),
        };
        // Who asked may have stopped waiting.
        let _ = reply.send(Sketch { forest, trees });
    }
}
