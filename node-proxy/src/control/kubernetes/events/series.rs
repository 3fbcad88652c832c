//! What was told already, and how often: one Event for what happens again and again, and no more of an object than it has room for. Pure.
//!
//! Bounded in how many it knows: what was not told for as long as an API server keeps Events is forgotten, then what was told first.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::super::rate::Buckets;

/// All that was told of late.
#[derive(Debug)]
pub(super) struct Series {
    told: HashMap<u64, Told>,
    objects: Buckets,
}

/// One thing that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// What the Event is called.
    pub(super) name: String,
    /// The object that it is about: one that was made anew under its name is another.
    pub(super) uid: String,
    /// How often it has happened, told or not.
    pub(super) count: u64,
    at: Instant,
}

/// What is to be done about a note.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its object has had enough for now.
    Leave,
    /// It is new.
    Tell,
    /// It is told already, and happens again.
    Again(Told),
}

impl Series {
    pub(super) fn new() -> Self {
        Self { told: HashMap::new(), objects: Buckets::new(OBJECT_BURST, OBJECT_PAUSE) }
    }

    /// What to do about a note of this series and this object.
    pub(super) fn step(&mut self, series: u64, object: &str, now: Instant) -> Step {
        let known = self.told.get_mut(&series).filter(|told| now.saturating_duration_since(told.at) < KEPT);
        let again = known.map(|told| {
            told.count += 1;
            told.clone()
        });
        if !self.objects.take(object, now) {
            return Step::Leave;
        }
        again.map_or(Step::Tell, Step::Again)
    }

    /// It was told, for the first time or again.
    pub(super) fn told(&mut self, series: u64, (name, uid): (String, String), count: u64, now: Instant) {
        if self.told.len() >= MOST && !self.told.contains_key(&series) {
            self.told.retain(|_, told| now.saturating_duration_since(told.at) < KEPT);
            let oldest = self.told.iter().min_by_key(|(_, told)| told.at).map(|(series, _)| *series);
            oldest.filter(|_| self.told.len() >= MOST).and_then(|oldest| self.told.remove(&oldest));
        }
        self.told.insert(series, Told { name, uid, count, at: now });
    }
}

/// Events of an object at once, and after how long one more: as many as client-go gives one (25, and one in five minutes), sooner.
const OBJECT_BURST: u32 = 10;
const OBJECT_PAUSE: Duration = Duration::from_secs(60);
/// As long as an API server keeps an Event after its last change (`--event-ttl`).
const KEPT: Duration = Duration::from_secs(3600);
/// Series that are known, at some 200 bytes each.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(series: &mut Series, number: u64, now: Instant) {
        series.told(number, (format!("e{number}"), "u".to_owned()), 1, now);
    }

    #[test]
    fn what_happens_again_is_counted_and_what_happened_long_ago_is_new() {
        let mut series = Series::new();
        let start = Instant::now();
        assert_eq!(series.step(1, "a", start), Step::Tell);
        tell(&mut series, 1, start);
        let Step::Again(told) = series.step(1, "a", start) else { panic!() };
        assert_eq!((told.name.as_str(), told.count), ("e1", 2));
        assert_eq!(series.step(2, "a", start), Step::Tell, "something else of the same object");
        assert_eq!(series.step(1, "a", start + KEPT), Step::Tell, "the API server has forgotten it");
    }

    #[test]
    fn an_object_has_room_for_so_many_and_what_was_left_out_is_counted_all_the_same() {
        let mut series = Series::new();
        let start = Instant::now();
        tell(&mut series, 1, start);
        let again = (0..100).filter(|_| series.step(1, "a", start) != Step::Leave).count();
        assert_eq!(again, OBJECT_BURST as usize);
        assert_eq!(series.step(9, "b", start), Step::Tell, "another's is another's");
        let Step::Again(told) = series.step(1, "a", start + OBJECT_PAUSE) else { panic!() };
        assert_eq!(told.count, 102);
    }

    #[test]
    fn as_many_are_known_as_may_be_and_the_oldest_goes() {
        let mut series = Series::new();
        let start = Instant::now();
        (0..=MOST as u64).for_each(|number| tell(&mut series, number, start + Duration::from_millis(number)));
        assert_eq!(series.told.len(), MOST);
        assert!(!series.told.contains_key(&0) && series.told.contains_key(&(MOST as u64)));
    }
}
