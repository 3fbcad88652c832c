//! How often somebody may ask: a bucket of tries for each, which fills by itself. Pure.
//!
//! Bounded in how many it knows: who asked long ago is forgotten, since his bucket is full again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Buckets by who they are of.
#[derive(Debug)]
pub(super) struct Buckets {
    holds: f64,
    per_second: f64,
    of: HashMap<String, (f64, Instant)>,
}

/// Buckets that several ask. Who panicked with them has left them as good as they were.
pub(super) fn lock(buckets: &Mutex<Buckets>) -> MutexGuard<'_, Buckets> {
    buckets.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Buckets {
    /// Each of so many tries, one of which comes back after every `pause`.
    pub(super) fn new(holds: u32, pause: Duration) -> Self {
        Self { holds: f64::from(holds), per_second: 1.0 / pause.as_secs_f64(), of: HashMap::new() }
    }

    /// Takes a try out; whether there was one.
    pub(super) fn take(&mut self, who: &str, now: Instant) -> bool {
        let left = self.left(who, now);
        if left < 1.0 || !self.has_room(who, now) {
            return false;
        }
        self.of.insert(who.to_owned(), (left - 1.0, now));
        true
    }

    /// Puts one back that was taken.
    pub(super) fn give_back(&mut self, who: &str, now: Instant) {
        let left = self.left(who, now) + 1.0;
        if left >= self.holds {
            self.of.remove(who);
        } else if let Some(of) = self.of.get_mut(who) {
            *of = (left, now);
        }
    }

    fn left(&self, who: &str, now: Instant) -> f64 {
        self.of.get(who).map_or(self.holds, |of| self.filled(*of, now))
    }

    fn filled(&self, (left, at): (f64, Instant), now: Instant) -> f64 {
        (left + now.saturating_duration_since(at).as_secs_f64() * self.per_second).min(self.holds)
    }

    fn has_room(&mut self, who: &str, now: Instant) -> bool {
        if self.of.len() < MOST || self.of.contains_key(who) {
            return true;
        }
        let (holds, per_second) = (self.holds, self.per_second);
        self.of.retain(|_, (left, at)| {
            *left + now.saturating_duration_since(*at).as_secs_f64() * per_second < holds
        });
        self.of.len() < MOST
    }
}

/// More than a cluster has nodes.
const MOST: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_empty_after_its_tries_fills_by_itself_and_is_nobody_elses() {
        let mut buckets = Buckets::new(3, Duration::from_secs(1));
        let start = Instant::now();
        assert!((0..3).all(|_| buckets.take("a", start)));
        assert!(!buckets.take("a", start));
        buckets.give_back("a", start);
        assert!(buckets.take("a", start) && !buckets.take("a", start), "what is given back is there again");
        assert!(buckets.take("b", start));
        (0..5).for_each(|_| buckets.give_back("b", start));
        assert!(!buckets.of.contains_key("b"), "it is full, and no more");
        let later = start + Duration::from_millis(1001);
        assert!(buckets.take("a", later) && !buckets.take("a", later));
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..9).filter(|_| buckets.take("a", much_later)).count(), 3, "no more than it holds");
    }

    #[test]
    fn as_many_are_known_as_may_be_and_who_has_not_asked_for_long_is_forgotten() {
        let mut buckets = Buckets::new(2, Duration::from_secs(1));
        let start = Instant::now();
        assert!((0..MOST).all(|who| buckets.take(&who.to_string(), start)));
        assert!(!buckets.take("one more", start));
        assert!(buckets.take("one more", start + Duration::from_secs(2)));
        assert_eq!(buckets.of.len(), 1);
    }
}
