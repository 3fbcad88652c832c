//! Further lanes of tenants that fill those they have: started, planted with all their tenant's trees, and ended when they are to spare.
//!
//! A lane that cannot have a tree leaves its connections to the others: it must never cost the pod its tree.

use tokio::time::Instant;

use super::Supervisor;
use crate::forest::{
    keeper::{Change, Keeper, PATIENCE},
    message::ToCell,
    planting::Planting,
};

impl Supervisor {
    /// Looks after the further lanes of all cells.
    pub(super) fn look_after_lanes(&mut self, now: Instant) {
        let is_ending = self.stop_at.is_some();
        for (tenant, keeper) in &mut self.cells {
            let revived = keeper.revive(&self.settings, now);
            let change = if is_ending { None } else { keeper.grow(&self.settings, now) };
            let newest = match change {
                Some(Change::Began(lane)) => Some(lane),
                Some(Change::Rests(lane)) => {
                    for tree in self.trees.values().filter(|tree| tree.workload.tenant == *tenant) {
                        keeper.tell_lane(lane, ToCell::Unlisten { tree: tree.id, grace: PATIENCE }, now);
                    }
                    None
                }
                None => None,
            };
            for lane in revived.iter().copied().chain(newest) {
                keeper.connect_by(self.switchboard.board(), now);
                for tree in self.trees.values_mut().filter(|tree| tree.workload.tenant == *tenant) {
                    plant_in(keeper, lane, tree, now);
                }
                if is_ending {
                    keeper.tell_lane(lane, ToCell::Finish, now);
                }
            }
            self.books.departed(keeper.ended_lanes());
        }
    }
}

/// Has the further lanes of a cell serve a tree, too.
pub(super) fn plant_further(keeper: &mut Keeper, tree: &mut Planting, now: Instant) {
    for lane in keeper.further_lanes() {
        plant_in(keeper, lane, tree, now);
    }
}

fn plant_in(keeper: &mut Keeper, lane: u32, tree: &mut Planting, now: Instant) {
    match tree.plant_in(lane) {
        Ok(plant) => keeper.tell_lane(lane, ToCell::Plant(plant), now),
        Err(error) => {
            tracing::warn!(pod = %tree.workload.pod, error = error.report(), "a further lane goes without a tree");
        }
    }
}
