//! Ctrl-C, SIGTERM and the end of its time: noted, and heeded at the next pause, so that every guard runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::DemoError;

/// Whether the demo has been asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    began: SystemTime,
    /// How long the story may take; a viewer who wants to look on has no such limit.
    limit: Option<Duration>,
}

impl Stop {
    /// Notes the signals from now on, and asks to end when the time is over.
    pub(crate) fn on_signals(limit: Duration) -> Result<Self, DemoError> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))
                .map_err(DemoError::io("cannot handle signals"))?;
        }
        Ok(Self { asked, began: SystemTime::now(), limit: Some(limit) })
    }

    /// The same signals, without an end of time.
    pub(crate) fn patient(&self) -> Self {
        Self { limit: None, ..self.clone() }
    }

    /// An error if so.
    pub(crate) fn check(&self) -> Result<(), DemoError> {
        if self.asked.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        // A clock that was set back gives it more time, and no harm.
        let took = self.began.elapsed().unwrap_or_default();
        if self.limit.is_some_and(|limit| took > limit) { Err(DemoError::TooLong) } else { Ok(()) }
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
