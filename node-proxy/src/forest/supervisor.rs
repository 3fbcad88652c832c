//! The supervisor: makes the forest what the configuration says, and keeps it so.
//!
//! One thread; the only one that starts cells, binds listeners and enrols pods. Whatever goes wrong with one pod or one
//! cell, it must never stop looking after the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use config::{
    model::{Mesh, Workload},
    name::{PodName, TenantId},
};
use tokio::{sync::watch, time::Instant};

use self::remains::Remains;
use super::{
    Configuration, Phase, Settings,
    books::Books,
    handle::{Command, Shared},
    handover::{self, Claims},
    keeper::{Keeper, Outcome},
    message::ToCell,
    planting::{PlantError, Planting},
    switchboard::Switchboard,
};
use crate::{snapshot::Snapshot, sys::netns::Netns};

mod board;
mod closed;
mod denials;
mod ending;
mod lanes;
mod rates;
mod remains;
mod reporting;
mod sharing;

/// Time between two looks at everything. Looking at a pod is one `stat` of its namespace's file: a microsecond or two.
/// Watching the directory instead would not do, since mounting a namespace on its file is no event there.
pub(super) const ROUND: Duration = Duration::from_millis(100);
/// How long a pod that could not be planted waits for the next try.
const RETRY: Duration = Duration::from_secs(1);
/// How long connections of a pod may go on whose namespace is gone: their last bytes may still reach the other end.
const GONE_GRACE: Duration = Duration::from_secs(1);

/// The supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    settings: Settings,
    shared: Arc<Shared>,
    phase: watch::Sender<Phase>,
    home: Netns,
    books: Books,
    mesh: Arc<Mesh>,
    snapshots: BTreeMap<TenantId, Arc<Snapshot>>,
    cells: BTreeMap<TenantId, Keeper>,
    /// Cells without trees, on their way out.
    leaving: Vec<Keeper>,
    trees: BTreeMap<PodName, Planting>,
    /// Of trees that are gone, whose connections may live.
    remains: Vec<Remains>,
    waiting: BTreeMap<PodName, Waiting>,
    trees_so_far: u64,
    /// How many the descriptors are divided among.
    tenants: usize,
    /// The kernel has not been told of all denials yet.
    denials_pending: bool,
    /// Who is reached through which cell.
    switchboard: Switchboard,
    /// Snapshots that a cell may be the last but one to hold: dropped here, where nobody waits.
    old_snapshots: Vec<Arc<Snapshot>>,
    stop_at: Option<Instant>,
    /// While what is new is still served though all is to end: until when, at the latest.
    close_at: Option<Instant>,
}

/// A workload that has no tree, and why.
#[derive(Debug)]
struct Waiting {
    workload: Arc<Workload>,
    problem: String,
    /// Its namespace is not there: whoever has its address is somebody else.
    absent: bool,
    retry_at: Instant,
}

impl Supervisor {
    /// A supervisor of nothing. The calling thread's namespace is where it will live.
    pub(super) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        phase: watch::Sender<Phase>,
    ) -> io::Result<Self> {
        Ok(Self {
            books: Books::open(&settings, &shared.auditor)?,
            settings,
            shared,
            phase,
            home: Netns::current()?,
            mesh: Arc::default(),
            snapshots: BTreeMap::new(),
            cells: BTreeMap::new(),
            leaving: Vec::new(),
            trees: BTreeMap::new(),
            remains: Vec::new(),
            waiting: BTreeMap::new(),
            trees_so_far: 0,
            tenants: 0,
            denials_pending: false,
            switchboard: Switchboard::default(),
            old_snapshots: Vec::new(),
            stop_at: None,
            close_at: None,
        })
    }

    /// Works until told to stop, or until nobody is left to tell.
    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut next = Instant::now();
        loop {
            let now = Instant::now();
            match inbox.recv_timeout(next.saturating_duration_since(now)) {
                Ok(Command::Apply) => {}
                Ok(Command::Describe(reply)) => self.describe(reply),
                Ok(Command::Drain(grace)) => self.drain(grace),
                Err(RecvTimeoutError::Timeout) => next = Instant::now() + ROUND,
                Err(RecvTimeoutError::Disconnected) => return self.stop(),
            }
            self.apply_next();
            self.round(Instant::now());
            self.publish();
            if self.is_over(Instant::now()) {
                return self.stop();
            }
        }
    }

    /// Takes up the configuration that lies ready, if one does.
    fn apply_next(&mut self) {
        let next = self.shared.next().take();
        let Some(Configuration { mesh, snapshots, rejected }) = next else { return };
        if self.stop_at.is_some() {
            return;
        }
        let now = Instant::now();
        (self.mesh, self.snapshots) = (mesh, snapshots);
        self.remove_what_left(now);
        self.swap_snapshots(now);
        let local: Vec<Arc<Workload>> = self.local().cloned().collect();
        let tenants: BTreeSet<&TenantId> = local.iter().map(|workload| &workload.tenant).collect();
        self.tenants = tenants.len();
        self.settings.share_descriptors(self.tenants);
        self.share_out(now);
        for workload in local {
            let known = self.trees.get(&workload.pod).is_some_and(|tree| tree.workload == workload);
            let waits = self.waiting.get(&workload.pod).is_some_and(|waiting| waiting.workload == workload);
            if !known && !waits {
                self.try_plant(&workload, now);
            }
        }
        self.connect(now);
        self.deny_early();
        self.release_unclaimed(&rejected);
        self.publish();
        self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Starting;
            *phase = (*phase).max(Phase::Ready);
            first
        });
        tracing::info!(
            version = self.mesh.version,
            trees = self.trees.len(),
            waiting = self.waiting.len(),
            "configuration applied"
        );
    }

    /// The workloads of this node.
    fn local(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.mesh.workloads.values().filter(|workload| workload.netns.is_some())
    }

    /// Ends the trees of pods that are gone, or are others than they were. What may change of a pod while it lives is taken
    /// up by its tree, which goes on: it is not left without steering and fence for a moment.
    fn remove_what_left(&mut self, now: Instant) {
        let mesh = Arc::clone(&self.mesh);
        let stays = |workload: &Arc<Workload>| {
            mesh.workloads.get(&workload.pod).is_some_and(|new| new == workload && new.netns.is_some())
        };
        self.waiting.retain(|_, waiting| stays(&waiting.workload));
        let gone: Vec<PodName> = self
            .trees
            .values()
            .filter(|tree| !mesh.workloads.get(&tree.workload.pod).is_some_and(|new| tree.serves(new)))
            .map(|tree| tree.workload.pod.clone())
            .collect();
        for tree in self.trees.values_mut() {
            if let Some(new) = mesh.workloads.get(&tree.workload.pod)
                && tree.serves(new)
                && *new != tree.workload
            {
                tree.take_up(new);
            }
        }
        let claims = Claims::of(&mesh, &self.trees);
        for pod in gone {
            let netns = self.trees.get(&pod).map(Planting::netns).filter(|_| !handover::is_here(&mesh, &pod));
            if let Some(by) = netns.and_then(|netns| claims.on(netns, &self.home)) {
                tracing::warn!(%pod, %by, "a pod that was removed stays enrolled until whoever names its namespace has proven to be there");
                continue;
            }
            tracing::info!(%pod, "pod removed");
            let is_replanted =
                |new: &Arc<Workload>| self.trees.get(&pod).is_some_and(|tree| tree.is_where(new));
            if mesh.workloads.get(&pod).is_some_and(is_replanted) {
                self.clear_for_replanting(&pod, now);
            } else {
                self.uproot(&pod, self.settings.grace, now);
            }
        }
        self.dismiss_idle_cells(now);
    }

    fn swap_snapshots(&mut self, now: Instant) {
        for keeper in self.cells.values_mut().chain(&mut self.leaving) {
            if let Some(snapshot) = self.snapshots.get(&keeper.tenant) {
                self.old_snapshots.extend(keeper.swap(snapshot, now));
            }
        }
    }

    fn try_plant(&mut self, workload: &Arc<Workload>, now: Instant) {
        let pod = &workload.pod;
        let Err(error) = self.plant(workload, now) else {
            tracing::info!(%pod, tenant = %workload.tenant, "pod enrolled");
            self.waiting.remove(pod);
            return;
        };
        self.wait(workload, &error, now);
    }

    /// Listeners first, then the cell, then steering: nothing is steered to where nobody listens.
    fn plant(&mut self, workload: &Arc<Workload>, now: Instant) -> Result<(), PlantError> {
        self.trees_so_far += 1;
        let redirect = Arc::clone(&self.settings.redirect);
        let mesh = Arc::clone(&self.mesh);
        let is_here = |tree: &&Planting| handover::is_here(&mesh, &tree.workload.pod);
        let (trees, id) = (self.trees.values().filter(is_here), self.trees_so_far);
        let mut planting = Planting::prepare(workload, &self.settings, &self.home, trees, id)?;
        self.make_room(&planting, now);
        let plant = planting.plant()?;
        let keeper = self.cell(&workload.tenant, now)?;
        keeper.tell(ToCell::Plant(plant), now);
        lanes::plant_further(keeper, &mut planting, now);
        if let Err(error) = planting.enrol(&*redirect) {
            self.tell_to_uproot(&planting, Duration::ZERO, now);
            self.dismiss_idle_cells(now);
            return Err(error);
        }
        self.trees.insert(workload.pod.clone(), planting);
        self.denials_pending = true;
        Ok(())
    }

    /// Remembers that a workload has no tree. Said once per problem, not at every try.
    fn wait(&mut self, workload: &Arc<Workload>, error: &PlantError, now: Instant) {
        let problem = error.report();
        let known = self.waiting.get(&workload.pod).is_some_and(|waiting| waiting.problem == problem);
        if !known {
            tracing::warn!(pod = %workload.pod, problem, "a pod is not enrolled; it is tried again every second");
        }
        let waiting = Waiting {
            workload: Arc::clone(workload),
            problem,
            absent: error.is_absence(),
            retry_at: now + RETRY,
        };
        self.waiting.insert(workload.pod.clone(), waiting);
    }

    /// The cell of a tenant, started if there is none.
    fn cell(&mut self, tenant: &TenantId, now: Instant) -> Result<&mut Keeper, PlantError> {
        use std::collections::btree_map::Entry;
        let share = self.first_share();
        match self.cells.entry(tenant.clone()) {
            Entry::Occupied(keeper) => Ok(keeper.into_mut()),
            Entry::Vacant(place) => {
                let snapshot = self.snapshots.get(tenant).cloned();
                let first = (snapshot.unwrap_or_else(|| Arc::new(Snapshot::empty(tenant.clone()))), share);
                let keeper = Keeper::start(tenant.clone(), first, &self.leaving, &self.settings, now);
                let mut keeper = keeper.map_err(PlantError::Cell)?;
                keeper.connect_by(self.switchboard.board(), now);
                Ok(place.insert(keeper))
            }
        }
    }

    fn uproot(&mut self, pod: &PodName, grace: Duration, now: Instant) {
        let Some(mut planting) = self.trees.remove(pod) else { return };
        self.remains.extend(Remains::of(&mut planting, now + grace));
        self.tell_to_uproot(&planting, grace, now);
    }

    fn tell_to_uproot(&mut self, planting: &Planting, grace: Duration, now: Instant) {
        if let Some(keeper) = self.cells.get_mut(&planting.workload.tenant) {
            let pod = planting.workload.pod.clone();
            keeper.tell(ToCell::Uproot { pod, tree: planting.id, grace }, now);
        }
    }

    /// Cells end with their tenant's last tree on this node.
    fn dismiss_idle_cells(&mut self, now: Instant) {
        let (trees, grace) = (&self.trees, self.settings.grace);
        let idle = |tenant: &TenantId| !trees.values().any(|tree| tree.workload.tenant == *tenant);
        let leaving = self.cells.extract_if(.., |tenant, _| idle(tenant));
        for (_, mut keeper) in leaving {
            keeper.drain(grace, now);
            self.leaving.push(keeper);
        }
    }

    /// Looks at everything once.
    fn round(&mut self, now: Instant) {
        self.look_after_trees(now);
        self.look_after_cells(now);
        self.look_after_lanes(now);
        self.close_when_due(now);
        self.share_out(now);
        self.connect(now);
        if self.denials_pending {
            self.deny_early();
        }
        self.part_with_cells(now);
        self.remains.retain(|remains| remains.are_needed(now));
        self.old_snapshots.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    fn look_after_trees(&mut self, now: Instant) {
        let is_ending = self.stop_at.is_some();
        let check = |tree: &Planting| Some((Arc::clone(&tree.workload), tree.is_in_place().err()?));
        let gone: Vec<_> = self.trees.values().filter_map(check).collect();
        for (workload, error) in gone {
            self.uproot(&workload.pod, GONE_GRACE, now);
            tracing::warn!(pod = %workload.pod, problem = error.report(), "a pod is no longer enrolled");
            // Where another namespace took its place, the pod is back at once.
            if !is_ending && handover::is_here(&self.mesh, &workload.pod) {
                self.try_plant(&workload, now);
            }
        }
        if is_ending {
            return;
        }
        let due = self.waiting.values().filter(|waiting| now >= waiting.retry_at);
        let due: Vec<_> = due.map(|waiting| Arc::clone(&waiting.workload)).collect();
        for workload in due {
            self.try_plant(&workload, now);
        }
        self.dismiss_idle_cells(now);
    }

    fn look_after_cells(&mut self, now: Instant) {
        for (tenant, keeper) in &mut self.cells {
            if keeper.look(now) != Outcome::Due {
                continue;
            }
            keeper.restart(&self.settings, now);
            if self.stop_at.is_some() {
                keeper.finish(now);
            }
            keeper.connect_by(self.switchboard.board(), now);
            for tree in self.trees.values_mut().filter(|tree| tree.workload.tenant == *tenant) {
                match tree.plant_again(&self.settings) {
                    Ok(plant) => keeper.tell(ToCell::Plant(plant), now),
                    Err(error) => {
                        tracing::error!(pod = %tree.workload.pod, error = error.report(), "a tree was lost in a restart")
                    }
                }
            }
        }
    }
}
