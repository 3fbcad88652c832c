//! Further lanes of a tenant: cells like the first, of the same snapshot and the same trees, each with a thread, an arena, connections
//! and certificates of its own. They accept from the same listeners as the first.
//!
//! What they use adds up to the tenant's. One that fails is replaced like any cell, alone. It must never keep the first one from
//! serving.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Keeper, Outcome};
use crate::{
    forest::{
        Settings,
        accounting::Account,
        describe::TreeDescription,
        growth::{Growth, Step},
        message::ToCell,
    },
    tenancy::{Ledger, cpu::LaneAccount},
};

/// The further lanes of one tenant.
#[derive(Debug, Default)]
pub(super) struct Hands {
    serving: Vec<Keeper>,
    /// To spare: each takes nothing new, and ends when it has nothing left; since when.
    resting: Vec<(Keeper, Instant)>,
    /// Told to end.
    leaving: Vec<Keeper>,
    growth: Growth,
    /// What those have used that ended.
    past: Ledger,
    /// What all lanes say together, once there were several.
    whole: Option<Arc<Ledger>>,
    /// CPU time of lanes that ended since this was asked last.
    ended: Duration,
}

/// How long connections of a lane may go on that is to spare: there is no haste.
pub(in crate::forest) const PATIENCE: Duration = Duration::from_secs(3_600);
/// Longer than listeners are served that a lane was told to let go of: what it accepted last is under way by then.
const REST: Duration = Duration::from_secs(3);

/// What has become of a tenant's lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::forest) enum Change {
    /// There is one more. Nothing is planted in it yet.
    Began(u32),
    /// One is to spare: it has to let go of its listeners.
    Rests(u32),
}

impl Hands {
    pub(super) fn all(&self) -> impl Iterator<Item = &Keeper> {
        self.serving.iter().chain(self.resting.iter().map(|(hand, _)| hand)).chain(&self.leaving)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Keeper> {
        self.serving.iter_mut().chain(self.resting.iter_mut().map(|(hand, _)| hand)).chain(&mut self.leaving)
    }

    /// Those that take new connections.
    pub(super) fn serving_mut(&mut self) -> impl Iterator<Item = &mut Keeper> {
        self.serving.iter_mut()
    }

    /// Lanes that serve, with the first.
    pub(super) fn lanes(&self) -> usize {
        1 + self.serving.len()
    }

    /// Connections that those may hold that take new ones.
    pub(super) fn bounds(&self) -> usize {
        self.serving.iter().map(|hand| hand.share).sum()
    }

    pub(super) fn are_gone(&self) -> bool {
        self.all().next().is_none()
    }

    /// Has all of them end, each when its connections have.
    pub(super) fn dismiss(&mut self, grace: Duration, now: Instant) {
        self.leaving.append(&mut self.serving);
        self.leaving.extend(self.resting.drain(..).map(|(hand, _)| hand));
        self.leaving.iter_mut().for_each(|hand| hand.drain(grace, now));
    }

    fn look(&mut self, now: Instant) {
        let has_nothing = |(hand, since): &mut (Keeper, Instant)| {
            hand.look(now);
            let is_empty = hand.ledger.connections_open.load(Relaxed) == 0 && now - *since >= REST;
            is_empty || now - *since >= PATIENCE || hand.reign.is_none()
        };
        for (mut hand, _) in self.resting.extract_if(.., has_nothing) {
            hand.drain(REST, now);
            self.leaving.push(hand);
        }
        let ended = |hand: &mut Keeper| hand.look(now) == Outcome::Ended;
        for hand in self.leaving.extract_if(.., ended) {
            let past = Ledger::default();
            past.add_up(&[&self.past, &hand.ledger]);
            self.past = Ledger::continued(&past);
            self.ended += hand.used_here();
        }
    }

    /// The lowest number that no lane has.
    fn number(&self) -> u32 {
        let taken: BTreeSet<u32> = self.all().map(|hand| hand.lane).collect();
        (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX)
    }
}

/// The same for another lane of the tenant; `None` of what is different for each, or remembered of each.
pub(super) fn again(message: &ToCell) -> Option<ToCell> {
    match message {
        ToCell::Uproot { pod, tree, grace } => {
            Some(ToCell::Uproot { pod: pod.clone(), tree: *tree, grace: *grace })
        }
        ToCell::Unlisten { tree, grace } => Some(ToCell::Unlisten { tree: *tree, grace: *grace }),
        ToCell::Finish => Some(ToCell::Finish),
        ToCell::Plant(_)
        | ToCell::Board(_)
        | ToCell::Swap(_)
        | ToCell::Share(_)
        | ToCell::Describe(_)
        | ToCell::Drain { .. } => None,
    }
}

impl Keeper {
    /// Looks after all lanes; says what has come of the first.
    pub(in crate::forest) fn look(&mut self, now: Instant) -> Outcome {
        let own = self.look_at_first(now);
        self.hands.look(now);
        self.add_up();
        if own == Outcome::Ended && !self.hands.are_gone() { Outcome::Same } else { own }
    }

    /// All lanes, the first before the others.
    fn lanes(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.hands.all())
    }

    /// Starts further lanes again that were due; says which. Nothing is planted in them yet.
    pub(in crate::forest) fn revive(&mut self, settings: &Settings, now: Instant) -> Vec<u32> {
        let mut revived = Vec::new();
        for hand in self.hands.serving_mut() {
            if hand.look(now) == Outcome::Due {
                hand.restart(settings, now);
                self.restarts += 1;
                revived.push(hand.lane);
            }
        }
        revived
    }

    /// Has one lane more where those that there are do not suffice, and one less where one is to spare.
    pub(in crate::forest) fn grow(&mut self, settings: &Settings, now: Instant) -> Option<Change> {
        let used = self.lanes().map(Self::cpu_at_beat).sum();
        let may = settings.lanes.of(self.class(), &self.snapshot.budget);
        let lanes = self.hands.lanes();
        match self.hands.growth.look(now, used, lanes, may) {
            Step::Stay => None,
            Step::More => self.start_hand(settings, now).map(Change::Began),
            Step::Fewer => {
                let hand = self.hands.serving.pop()?;
                tracing::info!(tenant = %self.tenant, lanes = lanes - 1, "a lane of a cell is to spare and ends with its connections");
                let lane = hand.lane;
                self.hands.resting.push((hand, now));
                Some(Change::Rests(lane))
            }
        }
    }

    fn start_hand(&mut self, settings: &Settings, now: Instant) -> Option<u32> {
        let lanes = self.hands.lanes() + 1;
        let left = self.share.saturating_sub(self.ledger.holding().held) / lanes;
        let start = (Arc::clone(&self.snapshot), left.max(1));
        match Self::start(self.tenant.clone(), start, &[], settings, now) {
            Ok(hand) => {
                let lane = self.hands.number();
                tracing::info!(tenant = %self.tenant, lanes, "a cell that fills its lanes gets one more");
                self.hands.serving.push(Self { lane, ..hand });
                self.hands.whole.get_or_insert_default();
                Some(lane)
            }
            Err(error) => {
                tracing::warn!(tenant = %self.tenant, %error, "a further lane could not be started");
                None
            }
        }
    }

    /// The numbers of the further lanes that serve.
    pub(in crate::forest) fn further_lanes(&self) -> Vec<u32> {
        self.hands.serving.iter().map(|hand| hand.lane).collect()
    }

    /// Tells one further lane, also one that is to spare.
    pub(in crate::forest) fn tell_lane(&mut self, lane: u32, message: ToCell, now: Instant) {
        if let Some(hand) = self.hands.all_mut().find(|hand| hand.lane == lane) {
            hand.tell(message, now);
        }
    }

    /// What each lane may have, besides what it holds, of a share of connections that is the tenant's.
    pub(super) fn left_of(&self, share: usize) -> usize {
        let held: usize = self.lanes().map(|lane| lane.ledger.holding().held).sum();
        (share.saturating_sub(held) / self.hands.lanes()).max(1)
    }

    /// Asks all lanes what is there.
    pub(in crate::forest) fn ask(&mut self, now: Instant) -> Vec<oneshot::Receiver<Vec<TreeDescription>>> {
        let mut answers = Vec::new();
        let (first, answered) = oneshot::channel();
        self.tell(ToCell::Describe(first), now);
        answers.push(answered);
        for hand in self.hands.all_mut() {
            answers.extend(hand.ask(now));
        }
        answers
    }

    /// CPU time of lanes that have ended since this was asked last.
    pub(in crate::forest) fn ended_lanes(&mut self) -> Duration {
        std::mem::take(&mut self.hands.ended)
    }

    /// What is accounted for of all lanes.
    pub(in crate::forest) fn accounts(&self) -> impl Iterator<Item = Account> {
        self.lanes().map(Self::account)
    }

    /// Those of its lanes that are threads.
    pub(super) fn lane_accounts(&self) -> Vec<LaneAccount> {
        let of = |keeper: &Self| {
            let reign = keeper.reign.as_ref().filter(|reign| !reign.lane.is_process())?;
            Some(LaneAccount { thread: Arc::clone(&reign.lane.id), ledger: Arc::clone(&keeper.ledger) })
        };
        self.lanes().filter_map(of).collect()
    }

    /// What all lanes say together, as of the last look.
    pub(in crate::forest) fn ledger(&self) -> &Arc<Ledger> {
        self.hands.whole.as_ref().unwrap_or(&self.ledger)
    }

    /// Puts down what all lanes say together, and tells each what the others hold: the budget of memory is that of all.
    fn add_up(&self) {
        let Some(whole) = &self.hands.whole else { return };
        let lanes: Vec<&Ledger> = self.lanes().map(|lane| &*lane.ledger).collect();
        let held =
            |ledger: &Ledger| ledger.heap_bytes.load(Relaxed).saturating_add(ledger.piped.load(Relaxed));
        let all: u64 = lanes.iter().map(|ledger| held(ledger)).fold(0, u64::saturating_add);
        for ledger in &lanes {
            ledger.beside.store(all.saturating_sub(held(ledger)), Relaxed);
        }
        let everything: Vec<&Ledger> = lanes.into_iter().chain([&self.hands.past]).collect();
        whole.add_up(&everything);
    }
}
