//! Growing pauses between tries, and how an error is told.

use std::{error::Error, time::Duration};

/// The first pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(150);
/// A pause is this much shorter or longer, by chance, so that cells do not ask together.
const PAUSE_JITTER: f64 = 0.2;

/// Growing pauses. A new one begins with the shortest.
#[derive(Debug, Default)]
pub(in crate::identity) struct Backoff(u32);

impl Backoff {
    /// The next pause, a little shorter or longer by `chance` (from 0 to 1).
    pub(in crate::identity) fn next(&mut self, chance: f64) -> Duration {
        let pause = PAUSE.saturating_mul(1 << self.0.min(16)).min(LONGEST_PAUSE);
        self.0 = self.0.saturating_add(1);
        pause.mul_f64(jitter(PAUSE_JITTER, chance)).min(LONGEST_PAUSE)
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
