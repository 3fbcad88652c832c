//! The thread that asks the allocator, once a second, what each cell holds, and draws the balance of all ledgers with what the
//! kernel says of the process.
//!
//! The allocator's lock may be held by a thread that does not run; so nobody waits for this thread, and this thread
//! does nothing else.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::lane::Clock;
use crate::{
    sys::{
        arena::{self, Arena},
        clock,
        pages::{self, Pages},
    },
    tenancy::{Balance, Ledger, Parts, costs::HeapFigures},
};

/// How often.
const PERIOD: Duration = Duration::from_secs(1);
/// In how many rounds the kernel is asked once for the process's pages: it walks all of them.
const ROUNDS: u32 = 5;
/// Enough for what it does; only what is touched is paid for.
const STACK_BYTES: usize = 128 * 1024;

/// A cell, as far as its figures go.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// What it allocates from, where that is the daemon's memory.
    pub(super) arena: Option<Arc<Arena>>,
    /// Where its figures go.
    pub(super) ledger: Arc<Ledger>,
    /// Threads that work for its tenant: its own or its process's warden, and those of cells that serve no more.
    pub(super) clocks: Vec<Arc<Clock>>,
    /// What those have used that have ended.
    pub(super) ended: Duration,
}

impl Account {
    /// What its tenant has used of the daemon's CPU time.
    pub(super) fn cpu(&self) -> Duration {
        self.ended + self.clocks.iter().map(|clock| clock.used()).sum::<Duration>()
    }
}

/// What the accounting thread is told, and tells.
#[derive(Debug, Default)]
struct Books {
    /// `None` when it is to end.
    accounts: Mutex<Option<Vec<Account>>>,
    balance: Mutex<Balance>,
    /// CPU time of the daemon's that tenants have used that have left the node, in nanoseconds. It stays theirs.
    departed: AtomicU64,
}

/// The accounting thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Accounting {
    books: Arc<Books>,
    thread: JoinHandle<()>,
}

/// The balance of now, for whoever shows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Auditor(Arc<Books>);

impl Accounting {
    /// Starts it, with nothing to account for. The auditor tells what it finds.
    pub(super) fn start(auditor: &Auditor) -> io::Result<Self> {
        let books = Arc::clone(&auditor.0);
        *locked(&books.accounts) = Some(Vec::new());
        let shared = Arc::clone(&books);
        let work = move || {
            let mut resident = Parts::default();
            for number in (0..ROUNDS).cycle() {
                if !round(&shared, number == 0, &mut resident) {
                    return;
                }
            }
        };
        let builder = thread::Builder::new().name("accounting".to_owned()).stack_size(STACK_BYTES);
        Ok(Self { books, thread: builder.spawn(work)? })
    }

    /// Says which cells there are, and has them looked at now: a new cell is not shown with nothing for a second.
    pub(super) fn account_for(&self, accounts: Vec<Account>) {
        let told =
            |accounts: &Vec<Account>| accounts.iter().map(|account| Arc::as_ptr(&account.ledger)).collect();
        let now: Vec<_> = told(&accounts);
        let before = locked(&self.books.accounts).replace(accounts);
        if before.as_ref().map(told) != Some(now) {
            self.thread.thread().unpark();
        }
    }

    /// A tenant has left the node, or one of its cells that another has followed.
    pub(super) fn departed(&self, used: Duration) {
        self.books.departed.fetch_add(u64::try_from(used.as_nanos()).unwrap_or_default(), Relaxed);
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        *locked(&self.books.accounts) = None;
        // Not joined: it may be waiting for the allocator, and nobody waits for it.
        self.thread.thread().unpark();
    }
}

impl Auditor {
    /// As of the last second.
    pub(super) fn balance(&self) -> Balance {
        *locked(&self.0.balance)
    }
}

/// One round; `false` when it was the last. Asks for the process's pages where `thorough`, and else leaves what is known of them.
fn round(books: &Books, thorough: bool, resident: &mut Parts) -> bool {
    // The list is copied, so that its lock is not held while the allocator's is waited for.
    let accounts = locked(&books.accounts).clone();
    let Some(accounts) = accounts else { return false };
    if let Err(error) = arena::refresh() {
        tracing::warn!(%error, "the allocator does not say what is allocated");
    }
    for Account { arena, ledger, .. } in &accounts {
        let Some(arena) = arena else { continue };
        let figures = HeapFigures { live: arena.live(), cached: arena.cached(), resident: arena.resident() };
        ledger.heap_bytes.store(figures.live, Relaxed);
        ledger.costs.heap(figures);
    }
    let arenas: Vec<&Arena> = accounts.iter().filter_map(|account| account.arena.as_deref()).collect();
    if thorough && let Ok(pages) = pages::resident() {
        *resident = in_pages(&arenas, pages);
    }
    let departed = Duration::from_nanos(books.departed.load(Relaxed));
    let (cpu, allocated) = (on_clocks(&accounts, departed), in_arenas(&arenas));
    *locked(&books.balance) = Balance { cpu, allocated, resident: *resident };
    thread::park_timeout(PERIOD);
    true
}

fn in_pages(arenas: &[&Arena], pages: Pages) -> Parts {
    Parts {
        tenants: arenas.iter().map(|arena| arena.resident()).sum::<u64>() as f64,
        system: arena::unowned(arenas).resident as f64,
        common: (pages.files + pages.stacks) as f64,
        whole: pages.all as f64,
    }
}

fn in_arenas(arenas: &[&Arena]) -> Parts {
    Parts {
        tenants: arenas.iter().map(|arena| arena.allocated()).sum::<u64>() as f64,
        system: arena::unowned(arenas).allocated as f64,
        common: 0.0,
        whole: arena::total().allocated as f64,
    }
}

/// All clocks one after the other; that of the process before and after them, of which the middle counts.
fn on_clocks(accounts: &[Account], departed: Duration) -> Parts {
    let before = clock::process_cpu();
    let clocks = accounts.iter().flat_map(|account| &account.clocks);
    let cells: Vec<_> = clocks.filter_map(|clock| clock.thread()).collect();
    let tenants = departed + accounts.iter().map(Account::cpu).sum::<Duration>();
    let others = clock::threads().unwrap_or_default().into_iter().filter(|thread| !cells.contains(thread));
    let system: Duration = others.filter_map(|thread| thread.cpu().ok()).sum();
    let whole = (before + clock::process_cpu()) / 2;
    Parts {
        tenants: tenants.as_secs_f64(),
        system: system.as_secs_f64(),
        common: clock::ended().as_secs_f64(),
        whole: whole.as_secs_f64(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
