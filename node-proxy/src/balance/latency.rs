//! Peak-EWMA of an endpoint's latency: rises at once, falls slowly.
//!
//! Must never fall to zero: an endpoint that was slow and is not asked would in time look infinitely fast, and get everything.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// After so long, an old observation weighs 1/e. Finagle's and Linkerd's default.
const DECAY: Duration = Duration::from_secs(10);
/// An estimate that nobody refreshes stops falling after so many decay times, at 5 % of what it was.
const FORGIVENESS: f64 = 3.0;
/// Less than this is not told apart: the clock and the scheduler are no better. In seconds.
const FLOOR: f64 = 20e-6;

/// What is known of an endpoint's latency.
#[derive(Debug, Default)]
pub(super) struct Latency(Cell<Option<Estimate>>);

#[derive(Debug, Clone, Copy)]
struct Estimate {
    seconds: f64,
    at: Instant,
}

impl Latency {
    /// Takes in one observation.
    pub(super) fn observe(&self, latency: Duration, now: Instant) {
        let observed = latency.as_secs_f64();
        let seconds = match self.0.get() {
            Some(before) if observed < before.seconds => {
                let weight = libm::exp(-before.age(now));
                before.seconds * weight + observed * (1.0 - weight)
            }
            _ => observed,
        };
        self.0.set(Some(Estimate { seconds, at: now }));
    }

    /// Takes in that there was no answer yet after so long: of note only where nothing was known, or less.
    pub(super) fn observe_at_least(&self, waited: Duration, now: Instant) {
        if self.estimate(now).is_none_or(|expected| waited.as_secs_f64() > expected) {
            self.observe(waited, now);
        }
    }

    /// Expected seconds; `None` before the first observation.
    pub(super) fn estimate(&self, now: Instant) -> Option<f64> {
        self.0.get().map(|last| (last.seconds * libm::exp(-last.age(now).min(FORGIVENESS))).max(FLOOR))
    }
}

impl Estimate {
    /// In decay times.
    fn age(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.at).as_secs_f64() / DECAY.as_secs_f64()
    }
}
