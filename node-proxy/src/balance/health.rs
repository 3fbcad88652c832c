//! Passive ejection: an endpoint that keeps failing is left alone for a while, longer each time, and comes back slowly.
//!
//! Judges one endpoint alone; what happens where all are out is the balancer's affair. It must never probe.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// Failures in a row that eject. Envoy's `consecutive_5xx` default.
const FAILURES: u32 = 5;
/// How long the first ejection lasts; each further one twice as long as the one before.
const FIRST: Duration = Duration::from_secs(1);
/// No ejection is longer.
const LONGEST: Duration = Duration::from_secs(60);
/// The way back to a full share takes as long as the ejection, at most this.
const LONGEST_RETURN: Duration = Duration::from_secs(10);
/// What an endpoint gets at once when it comes back.
const FIRST_SHARE: f64 = 0.1;

/// What is known of an endpoint's health.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Failures since the last success.
    failures: Cell<u32>,
    /// Ejections since it was last in good standing.
    ejections: Cell<u32>,
    last: Cell<Option<Ejection>>,
}

#[derive(Debug, Clone, Copy)]
struct Ejection {
    from: Instant,
    until: Instant,
    /// When it has its full share again.
    settled: Instant,
}

/// How an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Standing {
    /// It takes its share.
    Good,
    /// It takes this part of its share.
    Returning(f64),
    /// It takes nothing.
    Ejected,
}

impl Health {
    /// How it stands now.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.last.get() {
            Some(ejection) if now < ejection.until => Standing::Ejected,
            Some(ejection) if now < ejection.settled => {
                let whole = ejection.settled.saturating_duration_since(ejection.until).as_secs_f64();
                let gone = now.saturating_duration_since(ejection.until).as_secs_f64();
                Standing::Returning((gone / whole).max(FIRST_SHARE))
            }
            _ => Standing::Good,
        }
    }

    /// Whether nothing speaks against it: it is in good standing, and what it was sent last was not a failure.
    pub(super) fn is_well(&self, now: Instant) -> bool {
        self.failures.get() == 0 && self.standing(now) == Standing::Good
    }

    /// Takes in a success of what was sent `sent`.
    pub(super) fn succeeded(&self, sent: Instant, now: Instant) {
        match self.standing(now) {
            Standing::Good => {
                self.failures.set(0);
                self.ejections.set(0);
            }
            Standing::Returning(_) => self.failures.set(0),
            // Asked nevertheless, because all were ejected, and well again. What was sent before says nothing.
            Standing::Ejected => {
                if let Some(ejection) = self.last.get().filter(|ejection| sent >= ejection.from) {
                    self.failures.set(0);
                    self.last.set(Some(Ejection::new(ejection.from, now)));
                }
            }
        }
    }

    /// Takes in a failure. Where it ejects: when the endpoint will have its full share again.
    pub(super) fn failed(&self, now: Instant) -> Option<Instant> {
        let standing = self.standing(now);
        if standing == Standing::Ejected {
            return None;
        }
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        // One that is just coming back has to be right the first time.
        let relapse = matches!(standing, Standing::Returning(_));
        if failures < FAILURES && !relapse {
            return None;
        }
        let earlier = self.ejections.get();
        let length = FIRST.saturating_mul(1_u32.checked_shl(earlier).unwrap_or(u32::MAX)).min(LONGEST);
        let ejection = Ejection::new(now, now + length);
        self.failures.set(0);
        self.ejections.set(earlier.saturating_add(1));
        self.last.set(Some(ejection));
        Some(ejection.settled)
    }
}

impl Ejection {
    fn new(from: Instant, until: Instant) -> Self {
        let way_back = until.saturating_duration_since(from).clamp(FIRST, LONGEST_RETURN);
        Self { from, until, settled: until + way_back }
    }
}
