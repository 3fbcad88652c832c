//! A ledger as a row of words: how a cell in a process of its own shows its counts to the daemon.
//!
//! What is read so is what that process says of itself: numbers, of which any may be wrong. It must never be taken for more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Ledger;

impl Ledger {
    /// All of it, in an order of its own.
    pub fn words(&self) -> Vec<u64> {
        let finished = u64::from(self.finished.load(Relaxed));
        std::iter::once(finished).chain(self.counters().map(|counter| counter.load(Relaxed))).collect()
    }

    /// Takes over what another ledger of the same layout says. Words that are missing leave what was there.
    pub fn take(&self, words: &[u64]) {
        let Some((finished, words)) = words.split_first() else { return };
        self.finished.store(*finished != 0, Relaxed);
        let store = |(counter, word): (&AtomicU64, &u64)| counter.store(*word, Relaxed);
        self.counters().zip(words).for_each(store);
    }

    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        let named = [
            &self.connections,
            &self.connections_open,
            &self.requests,
            &self.requests_in_flight,
            &self.tunnels_made,
            &self.tunnels_accepted,
            &self.bytes_received,
            &self.bytes_sent,
            &self.cpu_nanos,
            &self.heap_bytes,
            &self.heartbeats,
            &self.panics,
            &self.certificate_expiry,
            &self.certificates,
            &self.certificate_failures,
            &self.mirrors_dropped,
            &self.bulk_copied,
            &self.piped,
            &self.share,
        ];
        named.into_iter().chain(&self.refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Reason;

    #[test]
    fn no_counter_of_a_ledger_is_left_out() {
        let ledger = Ledger::default();
        let named = ledger.counters().count() - ledger.refusals.len();
        // Every field is a counter but `finished`, which has the room of one, and the list of refusals.
        let fields = (size_of::<Ledger>() - size_of_val(&ledger.refusals)) / size_of::<AtomicU64>();
        assert_eq!(named + 1, fields, "list the new counter above");
    }

    #[test]
    fn what_one_ledger_says_another_takes_over_and_nonsense_changes_nothing_else() {
        let (one, other) = (Ledger::default(), Ledger::default());
        one.counters().zip(1..).for_each(|(counter, value)| counter.store(value, Relaxed));
        one.finished.store(true, Relaxed);
        other.take(&one.words());
        assert_eq!(other.words(), one.words());
        assert!(other.finished.load(Relaxed));
        assert_eq!(other.refusals(Reason::ALL[0]), one.refusals(Reason::ALL[0]));
        other.take(&[]);
        other.take(&vec![7; 10_000]);
        assert!(other.words()[1..].iter().all(|word| *word == 7));
    }
}
