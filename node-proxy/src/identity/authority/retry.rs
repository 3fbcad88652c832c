//! Growing pauses between tries, and how an error is told.

use std::{error::Error, time::Duration};

/// The first pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(150);
/// The longest pause where what is renewed is about to end, or has: short enough for whoever waits, and, of some hundred
/// identities of a node, no burden for an authority that comes back.
const PACE: Duration = Duration::from_secs(10);
/// A pause is this much shorter or longer, by chance, so that cells do not ask together.
const PAUSE_JITTER: f64 = 0.2;

/// Growing pauses. A new one begins with the shortest.
#[derive(Debug)]
pub(crate) struct Backoff {
    tries: u32,
    first: Duration,
    longest: Duration,
}

impl Default for Backoff {
    /// Of an authority.
    fn default() -> Self {
        Self::between(PAUSE, LONGEST_PAUSE)
    }
}

impl Backoff {
    /// With a first and a longest pause.
    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        Self { tries: 0, first, longest }
    }

    /// Begins with the shortest again.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The next pause, a little shorter or longer by `chance` (from 0 to 1).
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let pause = self.first.saturating_mul(1 << self.tries.min(16)).min(self.longest);
        self.tries = self.tries.saturating_add(1);
        pause.mul_f64(jitter(PAUSE_JITTER, chance)).min(self.longest)
    }

    /// As [`next`](Self::next), for the renewal of what has so much time `left`: at most a quarter of it, so that several tries
    /// are made before its end, and at a steady pace from shortly before on.
    pub(in crate::identity) fn next_before_end(&mut self, left: Duration, chance: f64) -> Duration {
        let longest = (left / 4).max(PACE).mul_f64(jitter(PAUSE_JITTER, chance));
        self.next(chance).min(longest)
    }
}

/// From `1 - width` to `1 + width`.
pub(in crate::identity) fn jitter(width: f64, chance: f64) -> f64 {
    1.0 - width + 2.0 * width * chance
}

/// An error with its causes, each said once. None of the authorities' errors has a key in it.
pub fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ_by_chance() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.next(0.5).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]);
        assert_eq!(Backoff::default().next(0.0), Duration::from_millis(800));
        assert_eq!(Backoff::default().next(1.0), Duration::from_millis(1200));
    }

    #[test]
    fn no_pause_is_longer_than_a_quarter_of_what_is_left_but_for_a_steady_pace_at_the_end() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            let _ = backoff.next(0.5);
        }
        let mut pauses = |chance| {
            [3600, 600, 400, 100, 39, 0]
                .map(|left| backoff.next_before_end(Duration::from_secs(left), chance).as_secs())
        };
        assert_eq!(pauses(0.5), [150, 150, 100, 25, 10, 10]);
        assert_eq!((pauses(0.0)[4], pauses(1.0)[4]), (8, 12), "cells do not ask together");
        assert_eq!(Backoff::default().next_before_end(Duration::ZERO, 0.5), PAUSE);
    }

    #[test]
    fn cause_that_its_error_has_said_already_is_not_said_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("no way: closed")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("closed")]
        struct Inner;
        assert_eq!(report(&Outer(Inner)), "no way: closed");
    }
}
