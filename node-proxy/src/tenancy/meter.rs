//! Who pays for what a cell's thread is doing: around each poll of a task of a workload's, its CPU time and its memory are put
//! down to that workload's row, and so is what is counted meanwhile.
//!
//! CPU time is measured by the processor's own counter, since asking the kernel would cost more than what is measured, and scaled at
//! each heartbeat to the thread's CPU clock: while another thread has the processor, the counter runs on. Memory is what the thread
//! has allocated less what it has freed. What no task of a workload's did is the cell's own: the difference between its ledger and
//! its rows. A turn costs some 32 ns, most of it two readings of the counter; a request on a kept connection has about three, of 31 µs. A task that is spawned while somebody pays is that one's too. Nothing here may wait or take a lock.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    task::{JoinHandle, spawn_local},
    time::Instant,
};

use super::{costs::Costs, row::Row};
use crate::sys::{
    arena::own_net,
    clock::{self, Spent, ticks},
};

/// A workload that pays. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Payer(Rc<Purse>);

#[derive(Debug)]
struct Purse {
    row: Arc<Row>,
    /// Ticks of the processor's counter, since the last heartbeat.
    ticks: Cell<u64>,
}

/// What this thread is doing, and for whom.
struct Metering {
    payer: Cell<Option<Payer>>,
    since: Cell<u64>,
    net: Cell<i64>,
    /// When the thread last woke, in ticks.
    woke: Cell<u64>,
    /// Ticks for which it was awake, since the last heartbeat.
    awake: Cell<u64>,
}

thread_local! {
    static METERING: Metering = const {
        Metering {
            payer: Cell::new(None),
            since: Cell::new(0),
            net: Cell::new(0),
            woke: Cell::new(0),
            awake: Cell::new(0),
        }
    };
}

/// Has another pay from now on; gives who paid until now.
fn switch(next: Option<Payer>) -> Option<Payer> {
    let switch = |metering: &Metering| {
        let (now, net) = (ticks(), own_net());
        let before = metering.payer.replace(next);
        if let Some(Payer(purse)) = &before {
            let took = now.saturating_sub(metering.since.replace(now));
            purse.ticks.set(purse.ticks.get() + took);
            purse.row.allocated(net - metering.net.replace(net));
        } else {
            metering.since.set(now);
            metering.net.set(net);
        }
        before
    };
    METERING.try_with(switch).unwrap_or_default()
}

/// Counts something in the row of who pays now, if anybody does.
pub(super) fn note(count: impl FnOnce(&Row)) {
    let note = |metering: &Metering| {
        let payer = metering.payer.take();
        if let Some(Payer(purse)) = &payer {
            count(&purse.row);
        }
        metering.payer.set(payer);
    };
    // Without its own variables a thread is about to end.
    let _ = METERING.try_with(note);
}

/// Who pays now.
pub fn current() -> Option<Payer> {
    let current = |metering: &Metering| {
        let payer = metering.payer.take();
        metering.payer.set(payer.clone());
        payer
    };
    METERING.try_with(current).ok().flatten()
}

/// Starts a task on this thread for which who pays now goes on paying.
pub fn spawn<F: Future<Output: 'static> + 'static>(work: F) -> JoinHandle<F::Output> {
    spawn_for(current(), work)
}

/// Starts a task on this thread that somebody pays for.
pub fn spawn_for<F: Future<Output: 'static> + 'static>(
    payer: Option<Payer>,
    work: F,
) -> JoinHandle<F::Output> {
    // The task's room is freed when nobody pays any more; so nobody pays while it is made, and its size is put down instead.
    unpaid(|| spawn_local(Charged::new(payer, work)))
}

/// Makes what is the cell's, whoever needs it first: no workload pays for it.
pub fn unpaid<T>(make: impl FnOnce() -> T) -> T {
    let _turn = Turn { before: switch(None) };
    make()
}

/// For the event loop: the thread is about to sleep.
pub fn sleeps() {
    let _ = METERING.try_with(|metering| {
        let was_awake = ticks().saturating_sub(metering.woke.get());
        metering.awake.set(metering.awake.get() + was_awake);
    });
}

/// For the event loop: the thread has woken.
pub fn wakes() {
    let _ = METERING.try_with(|metering| metering.woke.set(ticks()));
}

impl Payer {
    /// One that pays into this row.
    pub fn new(row: Arc<Row>) -> Self {
        Self(Rc::new(Purse { row, ticks: Cell::new(0) }))
    }

    /// Its row.
    pub fn row(&self) -> &Row {
        &self.0.row
    }

    /// Has it pay until the guard is dropped.
    pub fn turn(&self) -> Turn {
        Turn { before: switch(Some(self.clone())) }
    }
}

/// Somebody pays while it lives. Turns end in the opposite order of that in which they began.
#[derive(Debug)]
pub struct Turn {
    before: Option<Payer>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(switch(self.before.take()));
    }
}

pin_project! {
    /// Work that somebody pays for: each poll, its room, and its end.
    #[derive(Debug)]
    pub struct Charged<F> {
        payer: Option<Payer>,
        // Dropped while its payer pays, not with the task.
        #[pin]
        work: Option<F>,
    }

    impl<F> PinnedDrop for Charged<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _turn = this.payer.as_ref().map(Payer::turn);
            this.work.set(None);
            if let Some(payer) = this.payer {
                payer.row().allocated(-room::<F>());
            }
        }
    }
}

/// What a task of its size takes.
fn room<F>() -> i64 {
    i64::try_from(size_of::<F>()).unwrap_or_default()
}

impl<F> Charged<F> {
    /// As it is about to be spawned.
    pub fn new(payer: Option<Payer>, work: F) -> Self {
        if let Some(payer) = &payer {
            payer.row().allocated(room::<F>());
        }
        Self { payer, work: Some(work) }
    }
}

impl<F: Future> Future for Charged<F> {
    type Output = F::Output;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _turn = this.payer.as_ref().map(Payer::turn);
        let Some(work) = this.work.as_mut().as_pin_mut() else { return Poll::Pending };
        let ended = ready!(work.poll(cx));
        this.work.set(None);
        Poll::Ready(ended)
    }
}

/// The workloads of one cell that pay.
pub struct Payers {
    /// By tree.
    open: RefCell<HashMap<u64, Payer>>,
    last: Cell<Beat>,
    /// What earlier cells of the tenant have spent.
    before: Spent,
    /// Which sockets are looked at next.
    socket: Cell<usize>,
}

/// What the clocks said at a heartbeat.
#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    ticks: u64,
    cpu: Duration,
}

impl Beat {
    fn now() -> Self {
        Self { at: Instant::now(), ticks: ticks(), cpu: clock::own_cpu() }
    }
}

/// The time between two heartbeats, by each clock.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// On the wall, in nanoseconds.
    wall: f64,
    /// The same in ticks.
    ticks: f64,
    /// Ticks of it for which the thread was awake; 0 where nobody counts them.
    awake: f64,
    /// Its CPU clock, in nanoseconds.
    cpu: f64,
}

impl Span {
    /// Nanoseconds of CPU time that one measured tick stands for. Less than its time on the wall where the thread, awake,
    /// waited for a processor.
    fn nanos_per_tick(&self) -> f64 {
        if self.ticks <= 0.0 {
            return 0.0;
        }
        let plain = self.wall / self.ticks;
        let awake = self.awake * plain;
        if awake > self.cpu { plain * self.cpu / awake } else { plain }
    }
}

impl Payers {
    /// Nobody yet. `costs` are those that the cell goes on with.
    pub fn new(costs: &Costs) -> Self {
        // The thread has not slept yet.
        wakes();
        Self {
            open: RefCell::default(),
            last: Cell::new(Beat::now()),
            before: costs.spent_so_far(),
            socket: Cell::new(0),
        }
    }

    /// Has a tree's connections pay into this row.
    pub fn open(&self, tree: u64, row: Arc<Row>) {
        self.open.borrow_mut().insert(tree, Payer::new(row));
    }

    /// A tree is gone, and its connections have ended.
    pub fn close(&self, tree: u64) {
        self.open.borrow_mut().remove(&tree);
    }

    /// Who pays for a tree's connections.
    pub fn of(&self, tree: u64) -> Option<Payer> {
        self.open.borrow().get(&tree).cloned()
    }

    /// Calls this for each tree and its row.
    pub fn each(&self, mut call: impl FnMut(u64, &Row)) {
        self.open.borrow().iter().for_each(|(tree, payer)| call(*tree, payer.row()));
    }

    /// At a heartbeat: puts down what was measured since the last, and what the clocks say of the thread.
    pub fn beat(&self, costs: &Costs) {
        let now = Beat::now();
        let last = self.last.replace(now);
        // Awake until now, and from now on for the next.
        sleeps();
        let awake = METERING.try_with(|metering| metering.awake.take()).unwrap_or_default();
        wakes();
        let span = Span {
            wall: nanos(now.at.duration_since(last.at)),
            ticks: now.ticks.saturating_sub(last.ticks) as f64,
            awake: awake as f64,
            cpu: nanos(now.cpu.saturating_sub(last.cpu)),
        };
        let rate = span.nanos_per_tick();
        for Payer(purse) in self.open.borrow().values() {
            purse.row.took((purse.ticks.take() as f64 * rate) as u64);
        }
        let own = clock::own_spent();
        costs.spent(Spent { user: self.before.user + own.user, system: self.before.system + own.system });
    }

    /// Which sockets are to be looked at next, for who looks at some of them at each heartbeat.
    pub fn socket(&self) -> &Cell<usize> {
        &self.socket
    }
}

fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

impl fmt::Debug for Payers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payers({})", self.open.borrow().len())
    }
}

#[cfg(test)]
mod tests;
