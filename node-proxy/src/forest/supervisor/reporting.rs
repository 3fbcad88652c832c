//! What the supervisor tells of the forest: figures after every look, and a description for whoever asks.
//!
//! It must never wait for a cell: what trees there are is the cells' own to answer.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Instant};

use super::{Keeper, Supervisor, ToCell};
use crate::forest::{
    describe::{ForestDescription, WaitingDescription},
    handle::{Sketch, Standing, describe_cell},
};

impl Supervisor {
    pub(super) fn publish(&self) {
        let ledgers: Vec<_> =
            self.keepers().map(|keeper| (keeper.tenant.clone(), Arc::clone(keeper.ledger()))).collect();
        self.books.enter(self.keepers());
        *self.shared.standing() = Standing {
            ledgers,
            version: self.mesh.version,
            planted: self.trees.len(),
            waiting: self.waiting.len(),
        };
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
            let (answer, answered) = oneshot::channel();
            cells.push(describe_cell(&keeper.tenant, keeper.state(), keeper.restarts, keeper.ledger()));
            keeper.tell(ToCell::Describe(answer), now);
            trees.push(answered);
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
