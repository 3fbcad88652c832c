//! A ledger as a row of words: how a cell in a process of its own shows its counts to the daemon.
//!
//! What is read so is what that process says of itself: numbers, of which any may be wrong. It must never be taken for more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Ledger;
use crate::tenancy::costs::Costs;

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

    /// Those that the cell itself writes. Whoever adds one to the ledger has to say here which kind it is.
    fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        let Self {
            connections,
            connections_open,
            requests,
            requests_in_flight,
            tunnels_made,
            tunnels_accepted,
            bytes_received,
            bytes_sent,
            cpu_nanos,
            heap_bytes,
            heartbeats,
            panics,
            certificate_expiry,
            certificates,
            certificate_failures,
            mirrors_dropped,
            bulk_copied,
            piped,
            paced,
            above_memory,
            share,
            finished: _,
            // The daemon's own to write.
            refused_early: _,
            pace: _,
            throttled_nanos: _,
            costs,
            refusals,
        } = self;
        let Costs {
            cpu_user_nanos,
            cpu_system_nanos,
            heap_peak_bytes,
            heap_cached_bytes,
            heap_resident_bytes,
            socket_bytes,
            handshakes_made,
            handshakes_accepted,
        } = costs;
        let named = [
            connections,
            connections_open,
            requests,
            requests_in_flight,
            tunnels_made,
            tunnels_accepted,
            bytes_received,
            bytes_sent,
            cpu_nanos,
            heap_bytes,
            heartbeats,
            panics,
            certificate_expiry,
            certificates,
            certificate_failures,
            mirrors_dropped,
            bulk_copied,
            piped,
            paced,
            above_memory,
            share,
            cpu_user_nanos,
            cpu_system_nanos,
            heap_peak_bytes,
            heap_cached_bytes,
            heap_resident_bytes,
            socket_bytes,
            handshakes_made,
            handshakes_accepted,
        ];
        named.into_iter().chain(refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Reason;

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
