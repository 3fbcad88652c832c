//! One tenant's cell, as the supervisor keeps it: started, watched, replaced, ended.
//!
//! A cell that panicked or is stuck is replaced alone, from its last good snapshot; its listeners wait for its successor.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use config::{
    model::{Budget, Isolation},
    name::TenantId,
};
use tokio::{sync::mpsc, time::Instant};

use self::{hands::Hands, past::Past};
use super::{
    Settings,
    health::{Backoff, Health, Verdict},
    lane::{Lane, LaneParts},
    message::{INBOX, ToCell, VERSION},
    process,
    seats::Given,
};
use crate::{
    cell::Limits,
    handoff::{Board, Inbox},
    snapshot::Snapshot,
    sys::{arena::Arena, clock, sockets::Sockets},
    telemetry::{AccessLog, Reason},
    tenancy::{Ledger, Throne},
};

mod class;
mod fate;
mod gate;
mod hands;
mod past;
mod shown;
#[cfg(test)]
mod tests;

pub(super) use self::{
    class::CHANGES_CLASS,
    gate::new_gate,
    hands::{Change, PATIENCE},
};

/// Stuck threads of one tenant that are put up with: each may burn what is left of a CPU. With more, the tenant has
/// no cell until one of them ends.
const ABANDONED: usize = 4;

/// One tenant's cell.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Whose it is.
    pub(super) tenant: TenantId,
    /// How often its cell was replaced.
    pub(super) restarts: u64,
    /// The tenant's, in the tables of the kernel.
    number: u32,
    /// Connects of its pods that the kernel had refused when it was asked last.
    refused_early: u64,
    throne: Throne,
    /// Version of the switchboard that the cell has.
    board: u64,
    snapshot: Arc<Snapshot>,
    /// Connections that its cell may hold, as it was last told.
    share: usize,
    reign: Option<Reign>,
    ledger: Arc<Ledger>,
    backoff: Backoff,
    restart_at: Option<Instant>,
    why: &'static str,
    /// With the connections that each held.
    abandoned: Vec<(Lane, usize)>,
    past: Past,
    /// Cells of another class, that end with their connections.
    leaving: Vec<Reign>,
    grace: Duration,
    draining: bool,
    /// Whether a process of its own could have certificates.
    can_be_apart: bool,
    /// Which of its tenant's lanes it is; the first is 0.
    lane: u32,
    /// Further lanes.
    hands: Hands,
}

/// A cell that serves now.
#[derive(Debug)]
struct Reign {
    lane: Lane,
    handoffs: Arc<Inbox>,
    inbox: mpsc::Sender<ToCell>,
    arena: Arc<Arena>,
    sockets: Sockets,
    health: Health,
    /// What it holds its office by, once it leaves.
    throne: Throne,
    since: Instant,
    cpu_before: Duration,
    blocked: bool,
}

/// Heartbeats for which a cell may shed connections: three seconds, after which next to none are left.
const SHEDDING: u64 = 30;

/// The next tenant's number.
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// What a look at a cell has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing.
    Same,
    /// The cell is gone; a successor comes after a pause.
    Lost,
    /// The pause is over: start a successor and plant everything again.
    Due,
    /// It has ended, as it was told to.
    Ended,
}

impl Keeper {
    /// Starts a tenant's first cell. With an earlier one among those that leave, its counts go on with those
    /// of that.
    pub(super) fn start(
        tenant: TenantId,
        (snapshot, share): (Arc<Snapshot>, usize),
        leaving: &[Self],
        settings: &Settings,
        now: Instant,
    ) -> io::Result<Self> {
        let earlier = leaving.iter().rfind(|keeper| keeper.tenant == tenant);
        let (ledger, past) = earlier.map(Self::heritage).unwrap_or_default();
        let mut keeper = Self {
            tenant,
            restarts: 0,
            number: NUMBERS.fetch_add(1, Relaxed),
            refused_early: 0,
            throne: Throne::default(),
            board: 0,
            snapshot,
            share,
            reign: None,
            ledger,
            backoff: Backoff::default(),
            restart_at: None,
            why: "",
            abandoned: Vec::new(),
            past,
            leaving: Vec::new(),
            grace: settings.grace,
            draining: false,
            can_be_apart: class::can_be_apart(&settings.identity),
            lane: 0,
            hands: Hands::default(),
        };
        class::tell(&keeper.tenant, keeper.snapshot.isolation, keeper.can_be_apart);
        keeper.enthrone(settings, now)?;
        Ok(keeper)
    }

    /// Starts the cell that was due. Nothing is planted in it yet.
    pub(super) fn restart(&mut self, settings: &Settings, now: Instant) {
        self.restarts += 1;
        self.ledger = Arc::new(Ledger::continued(&self.ledger));
        self.past.succeeded(self.cpu_at_beat());
        match self.enthrone(settings, now) {
            Ok(()) => tracing::info!(tenant = %self.tenant, restarts = self.restarts, "cell restarted"),
            Err(error) => {
                tracing::error!(tenant = %self.tenant, %error, "a cell could not be restarted; trying again");
                self.restart_at = Some(now + self.backoff.next(Duration::ZERO));
            }
        }
    }

    fn enthrone(&mut self, settings: &Settings, now: Instant) -> io::Result<()> {
        self.ledger.door.hang(new_gate(settings));
        let arena = Arc::new(Arena::take()?);
        let sockets = Sockets::default();
        let (handoffs, ways, access_log) = if self.is_process() {
            let (inbox, ways) = process::Ways::open(&self.tenant, &settings.access_log)?;
            (inbox, Some(ways), AccessLog::default())
        } else {
            (Inbox::default(), None, settings.access_log.for_cell(&self.tenant))
        };
        let handoffs = Arc::new(handoffs);
        let (inbox, messages) = mpsc::channel(INBOX);
        tracing::debug!(tenant = %self.tenant, messages = VERSION, "a cell starts");
        let start = if self.is_process() { process::start } else { Lane::start };
        let lane = start(LaneParts {
            tenant: self.tenant.clone(),
            redirect: Arc::clone(&settings.redirect),
            ledger: Arc::clone(&self.ledger),
            access_log,
            limits: Limits { connections: self.share, ..settings.limits.clone() },
            site: Arc::clone(&settings.site),
            tenure: self.throne.succeed(),
            sockets: sockets.clone(),
            connect: settings.connect,
            identity: settings.identity.clone(),
            find: settings.find.clone(),
            arena: Arc::clone(&arena),
            snapshot: Arc::clone(&self.snapshot),
            handoffs: Arc::clone(&handoffs),
            inbox: messages,
            ways,
            clock: clock::own_cpu,
        })?;
        let health = Health::new(now, self.ledger.heartbeats.load(Relaxed), self.ledger.panics.load(Relaxed));
        let cpu_before = self.cpu_at_beat();
        self.reign = Some(Reign {
            lane,
            handoffs,
            inbox,
            arena,
            sockets,
            health,
            throne: Throne::default(),
            since: now,
            cpu_before,
            blocked: false,
        });
        self.restart_at = None;
        self.board = 0;
        Ok(())
    }

    /// Tells the cell, and of what concerns all lanes the others, too. One that is between two lives, or does not take its messages, will be told all again.
    pub(super) fn tell(&mut self, message: ToCell, now: Instant) {
        for hand in self.hands.all_mut() {
            hands::again(&message).into_iter().for_each(|again| hand.tell(again, now));
        }
        let Some(reign) = &self.reign else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = reign.inbox.try_send(message) {
            self.depose("does not take its messages", now);
        }
    }

    /// Gives the cell a new snapshot, unless it has it.
    pub(super) fn swap(&mut self, snapshot: &Arc<Snapshot>, now: Instant) -> Option<Arc<Snapshot>> {
        if Arc::ptr_eq(&self.snapshot, snapshot) {
            return None;
        }
        let class = self.class();
        let old = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        if old.isolation != snapshot.isolation {
            class::tell(&self.tenant, snapshot.isolation, self.can_be_apart);
        }
        self.tell_leaving(0, snapshot);
        // One that ends has no successor.
        if self.class() != class && !self.draining {
            self.change_class(now);
        }
        self.tell(ToCell::Swap(Arc::clone(snapshot)), now);
        self.hands.all_mut().for_each(|hand| drop(hand.swap(snapshot, now)));
        Some(old)
    }

    /// Lets a cell of the other class follow at once; what is under way in this one has as long as that of a pod that goes.
    fn change_class(&mut self, now: Instant) {
        self.tell(ToCell::Drain { grace: self.grace }, now);
        self.hands.dismiss(self.grace, now);
        let Some(mut reign) = self.reign.take() else { return };
        tracing::info!(tenant = %self.tenant, class = ?self.class(), "a cell changes its isolation class");
        // Its successor must not depose it.
        reign.throne = std::mem::take(&mut self.throne);
        self.past.leaves(&reign.lane, reign.cpu_before);
        self.leaving.push(reign);
        // What has changed its class may take permissions away, too.
        self.tell_leaving(self.leaving.len() - 1, &Arc::clone(&self.snapshot));
        (self.why, self.restart_at) = (CHANGES_CLASS, Some(now));
    }

    /// In what its cell runs: what its tenant wants, where that can be.
    pub(super) fn class(&self) -> Isolation {
        class::given(self.snapshot.isolation, self.can_be_apart)
    }

    fn is_process(&self) -> bool {
        self.class() == Isolation::Process
    }

    /// Gives the cell a new switchboard, unless it has it.
    pub(super) fn connect_by(&mut self, board: &Arc<Board>, now: Instant) {
        if self.board != board.version {
            self.board = board.version;
            self.tell(ToCell::Board(Arc::clone(board)), now);
        }
        self.hands.all_mut().for_each(|hand| hand.connect_by(board, now));
    }

    /// Has the cell hold what of its share there is room for.
    pub(super) fn share(&mut self, share: usize, spare: usize, now: Instant) {
        // What a process holds is in a table of its own.
        let mut spare = if self.is_process() { usize::MAX } else { spare };
        let left = self.left_of(share);
        for hand in self.hands.serving_mut() {
            let before = hand.committed();
            hand.share(hand.ledger.holding().held + left, spare, now);
            spare = spare.saturating_sub(hand.committed().saturating_sub(before));
        }
        let share = if self.hands.lanes() > 1 { self.ledger.holding().held + left } else { share };
        if let Some(next) = self.given().next(share, spare) {
            self.share = next;
            self.tell(ToCell::Share(next), now);
        }
    }

    /// Connections that its cell holds, or may by what it has heard, with those of threads that do not end.
    pub(super) fn committed(&self) -> usize {
        let stuck: usize = self.abandoned.iter().map(|(_, held)| held).sum();
        let further: usize = self.hands.all().map(Self::committed).sum();
        if self.is_process() { stuck + further } else { self.given().committed() + stuck + further }
    }

    /// What bounds its cell: the tenant's budget, and the connections that the node lets it have each way.
    pub(super) fn bounds(&self) -> (&Budget, usize) {
        (&self.snapshot.budget, self.share + self.hands.bounds())
    }

    fn given(&self) -> Given {
        Given { bound: self.share, holding: self.ledger.holding() }
    }

    /// Where handoffs to its trees go, while it has a cell.
    pub(super) fn handoffs(&self) -> Option<&Arc<Inbox>> {
        self.reign.as_ref().map(|reign| &reign.handoffs)
    }

    /// Has the cell finish what is there, while it serves what is new.
    pub(super) fn finish(&mut self, now: Instant) {
        self.tell(ToCell::Finish, now);
    }

    /// Whether it has. A cell that is gone has nothing left.
    pub(super) fn has_finished(&self) -> bool {
        let has_finished = self.reign.is_none() || self.ledger.finished.load(Relaxed);
        has_finished && self.hands.all().all(Self::has_finished)
    }

    /// Lets the cell end when its connections have, at the latest after `grace`.
    pub(super) fn drain(&mut self, grace: Duration, now: Instant) {
        self.draining = true;
        self.restart_at = None;
        self.tell(ToCell::Drain { grace }, now);
        self.hands.dismiss(grace, now);
    }

    /// Looks after the first lane's cell.
    fn look_at_first(&mut self, now: Instant) -> Outcome {
        self.abandoned.retain(|(lane, _)| !lane.thread.is_finished());
        self.leaving.retain(|reign| !reign.lane.thread.is_finished());
        self.put_down_the_past();
        if self.reign.as_ref().is_some_and(|reign| reign.lane.thread.is_finished()) {
            return self.bury(now);
        }
        let Some(verdict) = self.judge(now) else { return self.absent(now) };
        match verdict {
            Verdict::Well if self.ledger.above_memory.load(Relaxed) > SHEDDING => {
                return self.depose("holds more memory than its budget, whatever it sheds", now);
            }
            Verdict::Well => self.note_blocked(false),
            Verdict::Blocked => self.note_blocked(true),
            Verdict::Stuck => return self.depose("is stuck", now),
            Verdict::Panicking => return self.depose("panics too often", now),
        }
        Outcome::Same
    }

    /// Ends a cell that will not end itself.
    pub(super) fn give_up(&mut self) {
        self.hands.all_mut().for_each(Self::give_up);
        self.throne.vacate();
        if let Some(reign) = &self.reign {
            self.past.leaves(&reign.lane, reign.cpu_before);
        }
        for reign in self.reign.take().into_iter().chain(self.leaving.drain(..)) {
            reign.throne.vacate();
            reign.sockets.abort();
            reign.lane.give_up();
            reign.handoffs.close(Reason::Draining);
        }
    }

    /// Counts what the kernel has refused since it was asked last. Less than then is a count that began anew.
    pub(super) fn refused_early(&mut self, refused: u64) {
        let before = std::mem::replace(&mut self.refused_early, refused);
        let more = refused.checked_sub(before).unwrap_or(refused);
        if more > 0 {
            self.ledger.refused_early(more);
        }
    }
}
