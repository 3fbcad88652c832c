//! The thread that looks at the cells' clocks and says who stands where.
//!
//! It waits for nobody: it never takes a lock that another may hold, and asks no cell anything. While nobody uses much, it
//! looks seldom.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError, TryLockError, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use config::name::TenantId;
use tokio::time::Instant;

use super::{
    CellAccount, LaneAccount, Means, RESERVE_MILLIS, cpus,
    hierarchy::{Group, UNWEIGHED, clear},
    outside::Outside,
    placing::{Due, MOST, Place},
    share_millis,
    standing::{Band, Reading, Standing, fair},
};
use crate::sys::clock::ThreadId;

/// Holds tenants to their shares and caps of CPU while it lives.
#[derive(Debug)]
pub struct Enforcement {
    letters: Arc<Mutex<Letter>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct Letter {
    cells: Option<Vec<CellAccount>>,
    ends: bool,
}

impl Enforcement {
    /// None at all.
    pub fn off() -> Self {
        Self { letters: Arc::default(), thread: None }
    }

    /// Starts it, with the best means there are.
    pub fn start(instance: &str) -> io::Result<Self> {
        clear(instance);
        let means = Means::choose(instance, MOST);
        tracing::info!(%means, "tenants are held to their shares of CPU");
        Self::with(means)
    }

    /// Starts it with these means.
    pub fn with(means: Means) -> io::Result<Self> {
        let letters = Arc::new(Mutex::new(Letter::default()));
        let inbox = Arc::clone(&letters);
        let builder = thread::Builder::new().name("cpu".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || Watch::new(means).run(&inbox))?;
        Ok(Self { letters, thread: Some(thread) })
    }

    /// Says which cells there are.
    pub fn govern(&self, cells: Vec<CellAccount>) {
        if self.thread.is_some() {
            self.letters.lock().unwrap_or_else(PoisonError::into_inner).cells = Some(cells);
        }
    }
}

impl Drop for Enforcement {
    /// The groups are gone afterwards.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).ends = true;
        thread.thread().unpark();
        // A panic of the thread was its own; there is nobody left to tell.
        let _ = thread.join();
    }
}

struct Watch {
    means: Means,
    cells: BTreeMap<TenantId, Watched>,
    /// Of cells that have ended, until their last thread has.
    left: Vec<Group>,
    outside: Outside,
    cpus: f64,
    at: Instant,
    looks: u64,
    /// Whether more than one wanted much at the last look.
    is_contested: bool,
}

/// One cell, as it is watched.
struct Watched {
    account: CellAccount,
    place: Place,
    /// Of each lane whose clocks were read.
    threads: Vec<Clocks>,
    /// Of a lane, on average.
    standing: Standing,
    /// Whether a thread of it is still to be put in its place.
    is_new: bool,
    /// How long it was held back in this place, or has paused, as last put down.
    held_back: Duration,
}

/// A thread's clocks at the last look.
#[derive(Clone, Copy)]
struct Clocks {
    id: ThreadId,
    used: Duration,
    /// `None` where it was not asked for.
    waited: Option<Duration>,
}

impl Watch {
    fn new(means: Means) -> Self {
        let cpus = cpus() as f64;
        Self {
            means,
            cells: BTreeMap::new(),
            left: Vec::new(),
            outside: Outside::new(cpus, UNWEIGHED),
            cpus,
            at: Instant::now(),
            looks: 0,
            is_contested: false,
        }
    }

    fn run(mut self, letters: &Mutex<Letter>) {
        if let Means::Weights(hierarchy) = &self.means {
            // As it is made it weighs what one thread does.
            let _ = hierarchy.weigh(self.outside.weight());
        }
        loop {
            let letter = match letters.try_lock() {
                Ok(mut letter) => std::mem::take(&mut *letter),
                Err(TryLockError::Poisoned(poisoned)) => std::mem::take(&mut *poisoned.into_inner()),
                // Whoever writes it is about to be done; there is another look soon.
                Err(TryLockError::WouldBlock) => Letter::default(),
            };
            if letter.ends {
                break;
            }
            if let Some(cells) = letter.cells {
                self.follow(cells);
            }
            let busy = self.look(Instant::now());
            thread::park_timeout(if busy { TICK } else { QUIET_TICK });
        }
        self.end();
    }

    /// Takes up who is there now.
    fn follow(&mut self, cells: Vec<CellAccount>) {
        let mut gone = std::mem::take(&mut self.cells);
        for account in cells {
            let watched = match gone.remove(&account.tenant) {
                Some(watched) => Watched { account, ..watched },
                None => Watched::new(account, &mut self.means),
            };
            self.cells.insert(watched.account.tenant.clone(), watched);
        }
        self.left.extend(gone.into_values().filter_map(|watched| watched.place.leave()));
    }

    /// Looks at everybody once; says whether the next look has to come soon.
    fn look(&mut self, now: Instant) -> bool {
        let wall = now.saturating_duration_since(self.at);
        self.at = now;
        self.looks += 1;
        if self.looks.is_multiple_of(SELDOM) {
            self.seldom();
        }
        let all = sum(self.cells.values());
        let (mut rivals, mut is_new, mut in_need) = (0, false, false);
        let mut within = 0.0;
        for cell in self.cells.values_mut() {
            let part = cell.part(all, self.cpus);
            cell.look(wall, part, self.is_contested);
            is_new |= cell.is_new;
            // Who is guaranteed something has whatever runs outside of the daemon for a rival.
            rivals += match cell.is_watched_closely() {
                true if cell.account.budget.cpu_share_millis.is_some() => 2,
                closely => u32::from(closely),
            };
            in_need |= cell.is_in_need(part);
            if cell.standing.band() == Band::Within {
                // What it waits for counts, as far as it is its part: the CPU may be others' as well.
                within += cell.lanes() * cell.standing.wanted().min(part.max(cell.standing.used()));
            }
        }
        // Where groups have weights, one cell alone gets what there is, whichever its band: nobody has to look.
        self.is_contested = rivals >= 2 || (rivals == 1 && !matches!(self.means, Means::Weights(_)));
        self.apply(all, within);
        if let (Means::Weights(hierarchy), Some(weight)) = (&self.means, self.outside.look(in_need))
            && let Err(error) = hierarchy.weigh(weight)
        {
            tracing::debug!(%error, "the daemon weighs what it did");
        }
        self.is_contested || is_new
    }

    fn apply(&mut self, all: u64, within: f64) {
        let behind = |cell: &&Watched| cell.standing.band() == Band::Over;
        let behind_millis = sum(self.cells.values().filter(behind));
        let left = (self.cpus * GOVERNED - within).max(0.0);
        for cell in self.cells.values_mut() {
            let budget = cell.account.budget;
            let share = share_millis(&budget);
            let (part, lanes) = (cell.part(all, self.cpus) * cell.lanes(), cell.lanes());
            let due = Due {
                band: cell.standing.band(),
                is_sated: cell.standing.is_sated(),
                share_millis: share,
                cap_millis: budget.cpu_cap_millis.filter(|cap| (*cap as f64) < ONE_THREAD_MILLIS * lanes),
                part: part.max(left * share as f64 / behind_millis.max(share) as f64).min(lanes),
            };
            let paces = cell.account.lanes.iter().map(|lane| &lane.ledger.pace);
            cell.place.apply(&self.means, &due, paces);
        }
    }

    /// What need not be looked at each time.
    fn seldom(&mut self) {
        self.cpus = cpus() as f64;
        self.left.retain(|group| !group.remove());
        for cell in self.cells.values_mut() {
            cell.place.settle(&mut self.means, cell.account.tenant.as_str());
            let held_back = cell.place.throttled() + cell.account.paused();
            let more = held_back.saturating_sub(std::mem::replace(&mut cell.held_back, held_back));
            let Some(LaneAccount { ledger, .. }) = cell.account.lanes.first() else { continue };
            // Never less than it was: another place, or a process, may have been the tenant's before.
            ledger.throttled_nanos.fetch_add(u64::try_from(more.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    fn end(self) {
        for cell in self.cells.values() {
            cell.account.lanes.iter().for_each(|lane| lane.ledger.pace.set(None));
        }
        if let Means::Weights(hierarchy) = &self.means {
            hierarchy.leave();
        }
    }
}

impl Clocks {
    /// Those of now; `None` of a thread that has ended.
    fn read(id: ThreadId, with_waits: bool) -> Option<Self> {
        let used = id.cpu().ok()?;
        Some(Self { id, used, waited: if with_waits { id.waited() } else { None } })
    }
}

impl CellAccount {
    /// How long its lanes have paused.
    fn paused(&self) -> Duration {
        self.lanes.iter().map(|lane| lane.ledger.pace.paused()).sum()
    }
}

impl Watched {
    fn new(account: CellAccount, means: &mut Means) -> Self {
        let place = Place::new(means, account.tenant.as_str());
        let held_back = account.paused();
        let standing = Standing::default();
        Self { account, place, threads: Vec::new(), standing, is_new: true, held_back }
    }

    fn lanes(&self) -> f64 {
        self.account.lanes.len().max(1) as f64
    }

    /// The part of a CPU that each of its lanes has whoever else wants one.
    fn part(&self, all: u64, cpus: f64) -> f64 {
        fair(share_millis(&self.account.budget), all, cpus, RESERVE_MILLIS, self.lanes()) / self.lanes()
    }

    fn look(&mut self, wall: Duration, part: f64, is_contested: bool) {
        let is_asked = is_contested
            && (self.standing.used() >= BUSY
                || self.standing.band() == Band::Over
                || self.account.budget.cpu_share_millis.is_some());
        let before = std::mem::take(&mut self.threads);
        self.is_new = false;
        let (mut used, mut waited) = (Duration::ZERO, Duration::ZERO);
        for id in self.account.lanes.iter().filter_map(|lane| lane.thread.get().copied()) {
            // One that could not be put in its place yet is tried again.
            let Some(now) = Clocks::read(id, is_asked) else { continue };
            self.is_new |= !self.place.take(id);
            if let Some(before) = before.iter().find(|clocks| clocks.id == id) {
                used += now.used.saturating_sub(before.used);
                waited += now
                    .waited
                    .zip(before.waited)
                    .map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then));
            }
            self.threads.push(now);
        }
        let threads = &self.threads;
        self.place.keep(|thread| threads.iter().any(|clocks| clocks.id == thread));
        if !before.iter().any(|clocks| threads.iter().any(|now| now.id == clocks.id)) {
            self.standing = Standing::default();
            return;
        }
        let (used, waited) = (used.div_f64(self.lanes()), waited.div_f64(self.lanes()));
        self.standing.look(Reading { wall, used, waited }, part);
    }

    /// Whether the next look has to come soon: it uses much, or waits for much and is to be put back in time.
    fn is_watched_closely(&self) -> bool {
        self.standing.wanted() >= BUSY
    }

    /// Whether it wants what is guaranteed to it and does not get it.
    fn is_in_need(&self, part: f64) -> bool {
        let Some(millis) = self.account.budget.cpu_share_millis else { return false };
        let guaranteed = part.min(millis as f64 / 1e3 / self.lanes());
        self.standing.wanted() >= guaranteed && self.standing.used() < guaranteed * ENOUGH
    }
}

/// What cells weigh together.
fn sum<'a>(cells: impl Iterator<Item = &'a Watched>) -> u64 {
    cells.map(|cell| share_millis(&cell.account.budget)).fold(0, u64::saturating_add)
}

/// What one thread can use: a cap of so much or more needs nobody to hold it.
const ONE_THREAD_MILLIS: f64 = 1_000.0;
/// Time between two looks while several want much: two of them, and whoever fell behind is put back.
const TICK: Duration = Duration::from_millis(10);
/// The same while there is nothing to decide.
const QUIET_TICK: Duration = Duration::from_millis(40);
/// Looks between two at what changes seldom.
const SELDOM: u64 = 25;
/// A cell that uses, or wants, more of a CPU than this is watched closely.
const BUSY: f64 = 0.05;
/// Of what is guaranteed, what is as good as all of it: clocks and looks are not exact.
const ENOUGH: f64 = 0.97;
/// Of the CPUs, what cells that pause by themselves are left: so little is free that nobody pauses in vain.
const GOVERNED: f64 = 0.95;
/// Enough for what it does; only what is touched is paid for.
const STACK_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use config::{model::Budget, name::Namespace};

    use super::*;
    use crate::tenancy::Ledger;

    fn watched() -> Watched {
        let account = CellAccount {
            tenant: TenantId::Namespace(Namespace::try_from("shop").unwrap()),
            lanes: vec![LaneAccount {
                thread: Arc::new(OnceLock::new()),
                ledger: Arc::new(Ledger::default()),
            }],
            budget: Budget::default(),
        };
        Watched { is_new: false, ..Watched::new(account, &mut Means::Governor) }
    }

    #[test]
    fn a_cell_that_gets_nothing_of_what_it_wants_is_watched_as_closely_as_one_that_uses_much() {
        let mut cell = watched();
        assert!(!cell.is_watched_closely());
        let starved = Reading { wall: QUIET_TICK, used: Duration::ZERO, waited: QUIET_TICK };
        cell.standing.look(starved, 0.45);
        assert!(cell.is_watched_closely());
    }
}
