//! The CPU clock of a lane's thread, or of its process's warden, which others read: while it runs, and after its end.
//!
//! The kernel forgets a thread's time with the thread; so each says its last word itself. It must never go back.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::sys::clock::{self, ThreadId};

/// One thread's clock.
#[derive(Debug, Default)]
pub(in crate::forest) struct Clock {
    id: OnceLock<ThreadId>,
    last: OnceLock<Duration>,
}

/// Held by the thread for as long as it runs. Dropping it, also in a panic, says what it has used.
#[derive(Debug)]
pub(in crate::forest) struct Running(Arc<Clock>);

impl Clock {
    /// For the thread itself, as its first act.
    pub(in crate::forest) fn begins(self: Arc<Self>) -> Running {
        self.id.get_or_init(ThreadId::current);
        Running(self)
    }

    /// The thread, while it runs.
    pub(in crate::forest) fn thread(&self) -> Option<ThreadId> {
        self.id.get().copied().filter(|_| self.last.get().is_none())
    }

    /// Whether it has ended.
    pub(in crate::forest) fn has_ended(&self) -> bool {
        self.last.get().is_some()
    }

    /// The CPU time that it has used; none before it runs.
    pub(in crate::forest) fn used(&self) -> Duration {
        let last = || self.last.get().copied();
        let now = || self.id.get().and_then(|id| id.cpu().ok());
        // It may have ended between the two.
        last().or_else(now).or_else(last).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.last.get_or_init(clock::own_cpu);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn what_a_thread_has_used_is_known_while_it_runs_and_after_it_has_panicked() {
        let clock = Arc::new(Clock::default());
        assert_eq!((clock.thread(), clock.used()), (None, Duration::ZERO));
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let its = Arc::clone(&clock);
        let thread = thread::spawn(move || {
            let _running = its.begins();
            while clock::own_cpu() < Duration::from_millis(50) {
                std::hint::spin_loop();
            }
            tell.send(()).unwrap();
            let _ = stopped.recv();
            panic!("as a cell may");
        });
        told.recv().unwrap();
        let running = clock.used();
        assert!(clock.thread().is_some() && running >= Duration::from_millis(50), "{running:?}");
        drop(stop);
        assert!(thread.join().is_err());
        assert_eq!(clock.thread(), None);
        assert!(clock.used() >= running, "{:?} after {running:?}", clock.used());
    }
}
