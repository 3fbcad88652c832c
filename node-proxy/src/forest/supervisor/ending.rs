//! How the forest ends: who is let go is let go first; everybody else is served until what was there has finished, and only then
//! refused; the cells last, when their connections have ended or their time is over.
//!
//! Nothing that was accepted may be cut before the grace is over, and no pod that is to be refused may be opened for a moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use config::name::{PodName, TenantId};
use ebpf_redirect::Parting;
use tokio::time::Instant;

use super::{Keeper, Supervisor, remains::Remains};
use crate::{
    forest::{OnStop, Phase, message::ToCell, planting::Planting},
    snapshot::{Snapshot, policies::InboundPolicy},
};

/// How long after the end of a drain the cells are waited for.
const LAST: Duration = Duration::from_secs(1);
/// How much of the grace is for what came while earlier connections finished; of a short one, half.
const LAST_CALL: Duration = Duration::from_secs(1);
const LEFT: &str = "pods stay refused until the next start of this instance, or until `canopy release`";

impl Supervisor {
    pub(super) fn drain(&mut self, grace: Duration) {
        let now = Instant::now();
        if self.stop_at.replace(now + grace + LAST).is_some() {
            // Told again: the later word counts, also for cells that are ending already.
            self.remains.iter_mut().for_each(|remains| remains.stay_until(now + grace));
            self.leaving.iter_mut().for_each(|keeper| keeper.drain(grace, now));
            return self.close(now);
        }
        self.phase.send_replace(Phase::Draining);
        // Before pods are let go, which are not looked at again: what leads to one that is gone may never hear of its end.
        self.look_after_trees(now);
        self.waiting.clear();
        self.close_at = Some(now + grace - LAST_CALL.min(grace / 2));
        self.cells.values_mut().for_each(|keeper| keeper.finish(now));
        self.let_go(grace, now);
    }

    /// Closes when nothing is left of what was there at the beginning of the end, or its time is over. All at once: no tenant is
    /// refused for longer because another's connections take their time.
    pub(super) fn close_when_due(&mut self, now: Instant) {
        let has_finished = self.leaving.is_empty() && self.cells.values().all(Keeper::has_finished);
        let is_due = |at: Instant| has_finished || now >= at;
        if self.close_at.is_some_and(is_due) {
            self.close(now);
        }
    }

    /// Nothing new comes from here on.
    fn close(&mut self, now: Instant) {
        if self.close_at.take().is_none() {
            return;
        }
        self.leave();
        let grace = self.stop_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now + LAST));
        self.cells.values_mut().for_each(|keeper| keeper.drain(grace, now));
        // The cells have the listeners and will take what waits in them.
        self.trees.clear();
        self.leaving.extend(std::mem::take(&mut self.cells).into_values());
    }

    /// Leaves those pods refused that are to be, once for all.
    fn leave(&mut self) {
        let (mut closed, mut inbound_closed) = (0, 0);
        for tree in self.trees.values_mut() {
            match parting(self.settings.on_stop, &self.snapshots, tree) {
                Some(Parting::Closed) => closed += usize::from(tree.leave(Parting::Closed)),
                Some(parting) => inbound_closed += usize::from(tree.leave(parting)),
                None => {}
            }
        }
        if closed + inbound_closed > 0 {
            let instance = &self.settings.instance;
            tracing::info!(instance, closed, inbound_closed, "{LEFT}");
        }
    }

    /// Lets go of every pod that is not to be left refused: from now on its connections pass by.
    fn let_go(&mut self, grace: Duration, now: Instant) {
        let (on_stop, snapshots) = (self.settings.on_stop, &self.snapshots);
        let is_let_go = |_: &PodName, tree: &mut Planting| parting(on_stop, snapshots, tree).is_none();
        let let_go: Vec<_> = self.trees.extract_if(.., is_let_go).collect();
        for (_, mut tree) in let_go {
            self.remains.extend(Remains::of(&mut tree, now + grace));
            if let Some(keeper) = self.cells.get_mut(&tree.workload.tenant) {
                keeper.tell(ToCell::Unlisten { tree: tree.id, grace }, now);
            }
        }
        // A cell all of whose pods are let go has nothing new to wait for.
        let trees = &self.trees;
        let is_idle = |tenant: &TenantId| !trees.values().any(|tree| tree.workload.tenant == *tenant);
        for (_, mut keeper) in self.cells.extract_if(.., |tenant, _| is_idle(tenant)) {
            keeper.drain(grace, now);
            self.leaving.push(keeper);
        }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        let Some(stop_at) = self.stop_at else { return false };
        let have_ended = self.close_at.is_none() && self.leaving.is_empty();
        have_ended || now >= stop_at
    }

    pub(super) fn stop(mut self) {
        self.leave();
        self.trees.clear();
        for keeper in self.cells.values_mut().chain(&mut self.leaving) {
            tracing::debug!(tenant = %keeper.tenant, draining = keeper.is_draining(), "a cell ends with the forest");
            keeper.give_up();
        }
        // Said last: the process may end at once, and steering must be as it is to be left by then.
        let phase = self.phase.clone();
        drop(self);
        phase.send_replace(Phase::Stopped);
    }
}

/// How a pod is left; `None` where it is let go. One of which nothing is known is taken for protected.
fn parting(
    on_stop: OnStop,
    snapshots: &BTreeMap<TenantId, Arc<Snapshot>>,
    tree: &Planting,
) -> Option<Parting> {
    if on_stop == OnStop::Close {
        return Some(Parting::Closed);
    }
    let snapshot = snapshots.get(&tree.workload.tenant);
    let policy = snapshot.and_then(|snapshot| snapshot.policies.of(&tree.workload.pod));
    policy.is_none_or(|policy| InboundPolicy::protects(policy)).then_some(Parting::OutboundOpen)
}
