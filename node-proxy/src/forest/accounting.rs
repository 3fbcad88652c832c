//! The thread that asks the allocator, once a second, what each cell holds.
//!
//! The allocator's lock may be held by a thread that does not run; so nobody waits for this thread, and this thread
//! does nothing else.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    sys::arena::{self, Arena},
    tenancy::Ledger,
};

/// How often.
const PERIOD: Duration = Duration::from_secs(1);
/// Enough for what it does; only what is touched is paid for.
const STACK_BYTES: usize = 128 * 1024;

/// A cell's arena and where its figure goes.
pub(super) type Account = (Arc<Arena>, Arc<Ledger>);

/// The accounting thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Accounting {
    accounts: Arc<Mutex<Option<Vec<Account>>>>,
    thread: JoinHandle<()>,
}

impl Accounting {
    /// Starts it, with nothing to account for.
    pub(super) fn start() -> io::Result<Self> {
        let accounts = Arc::new(Mutex::new(Some(Vec::new())));
        let shared = Arc::clone(&accounts);
        let thread = thread::Builder::new()
            .name("accounting".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || while round(&shared) {})?;
        Ok(Self { accounts, thread })
    }

    /// Says which cells there are, and has them looked at now: a new cell is not shown with nothing for a second.
    pub(super) fn account_for(&self, accounts: Vec<Account>) {
        *self.accounts.lock().unwrap_or_else(PoisonError::into_inner) = Some(accounts);
        self.thread.thread().unpark();
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        *self.accounts.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Not joined: it may be waiting for the allocator, and nobody waits for it.
        self.thread.thread().unpark();
    }
}

/// One round; `false` when it was the last.
fn round(accounts: &Mutex<Option<Vec<Account>>>) -> bool {
    // The list is copied, so that its lock is not held while the allocator's is waited for.
    let accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(accounts) = accounts else { return false };
    if let Err(error) = arena::refresh() {
        tracing::warn!(%error, "the allocator does not say what is allocated");
    }
    for (arena, ledger) in accounts {
        ledger.heap_bytes.store(arena.live(), Relaxed);
    }
    thread::park_timeout(PERIOD);
    true
}
