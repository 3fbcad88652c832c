//! Ctrl-C and SIGTERM: noted, and heeded at the next pause, so that every guard runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::DemoError;

/// Whether the demo has been asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Notes the signals from now on.
    pub(crate) fn on_signals() -> Result<Self, DemoError> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))
                .map_err(DemoError::io("cannot handle signals"))?;
        }
        Ok(Self(asked))
    }

    /// An error if so.
    pub(crate) fn check(&self) -> Result<(), DemoError> {
        if self.0.load(Ordering::Relaxed) { Err(DemoError::Interrupted) } else { Ok(()) }
    }

    /// Sleeps, and wakes early to end.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<(), DemoError> {
        let slices = duration.as_millis() / SLICE.as_millis();
        for _ in 0..slices.max(1) {
            self.check()?;
            thread::sleep(SLICE);
        }
        self.check()
    }

    /// Asks `done` every 20 ms, for at most `limit`; whether it came about.
    pub(crate) fn wait_until(
        &self,
        limit: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<bool, DemoError> {
        for _ in 0..limit.as_millis() / SLICE.as_millis() {
            if done() {
                return Ok(true);
            }
            self.check()?;
            thread::sleep(SLICE);
        }
        Ok(done())
    }
}

const SLICE: Duration = Duration::from_millis(20);
