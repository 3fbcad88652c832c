//! A ledger as a row of words: how a cell in a process of its own shows its counts to the daemon.
//!
//! What is read so is what that process says of itself: numbers, of which any may be wrong. It must never be taken for more, nor for
//! what the kernel can be asked.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Ledger;
use crate::tenancy::costs::Costs;

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It only grows.
    Total,
    /// As it is at the moment.
    Now,
    /// Of a clock, which is the kernel's to say.
    Clock,
}

impl Ledger {
    /// All of it, in an order of its own.
    pub fn words(&self) -> Vec<u64> {
        let finished = u64::from(self.finished.load(Relaxed));
        std::iter::once(finished).chain(self.counters().map(|(_, counter)| counter.load(Relaxed))).collect()
    }

    /// Takes over what another ledger of the same layout says. Words that are missing leave what was there.
    pub fn take(&self, words: &[u64]) {
        self.take_each(words, |_, _, word| Some(word));
    }

    /// The same of what a stranger says: a total that falls is not taken over, nor what the kernel says of clocks.
    pub fn hear(&self, words: &[u64]) {
        self.take_each(words, |kind, before, word| match kind {
            Kind::Total => Some(word).filter(|word| *word >= before),
            Kind::Now => Some(word),
            Kind::Clock => None,
        });
    }

    fn take_each(&self, words: &[u64], judge: impl Fn(Kind, u64, u64) -> Option<u64>) {
        let Some((finished, words)) = words.split_first() else { return };
        self.finished.store(*finished != 0, Relaxed);
        for ((kind, counter), word) in self.counters().zip(words) {
            if let Some(word) = judge(kind, counter.load(Relaxed), *word) {
                counter.store(word, Relaxed);
            }
        }
    }

    /// Those that the cell itself writes. Whoever adds one to the ledger has to say here which kind it is.
    fn counters(&self) -> impl Iterator<Item = (Kind, &AtomicU64)> {
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
        let totals = [
            connections,
            requests,
            bytes_received,
            bytes_sent,
            panics,
            certificates,
            certificate_failures,
            mirrors_dropped,
            bulk_copied,
            paced,
            heap_peak_bytes,
            handshakes_made,
            handshakes_accepted,
        ];
        let now = [
            // That it changes is what counts: a lie must not outlive the process that told it.
            heartbeats,
            connections_open,
            requests_in_flight,
            tunnels_made,
            tunnels_accepted,
            heap_bytes,
            certificate_expiry,
            piped,
            above_memory,
            share,
            heap_cached_bytes,
            heap_resident_bytes,
            socket_bytes,
        ];
        let clocks = [cpu_nanos, cpu_user_nanos, cpu_system_nanos];
        let totals = totals.into_iter().chain(refusals).map(|total| (Kind::Total, total));
        let now = now.into_iter().map(|now| (Kind::Now, now));
        totals.chain(now).chain(clocks.map(|clock| (Kind::Clock, clock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Reason;

    #[test]
    fn what_one_ledger_says_another_takes_over_and_nonsense_changes_nothing_else() {
        let (one, other) = (Ledger::default(), Ledger::default());
        one.counters().zip(1..).for_each(|((_, counter), value)| counter.store(value, Relaxed));
        one.finished.store(true, Relaxed);
        other.take(&one.words());
        assert_eq!(other.words(), one.words());
        assert!(other.finished.load(Relaxed));
        assert_eq!(other.refusals(Reason::ALL[0]), one.refusals(Reason::ALL[0]));
        other.take(&[]);
        other.take(&vec![7; 10_000]);
        assert!(other.words()[1..].iter().all(|word| *word == 7));
    }

    #[test]
    fn a_stranger_takes_nothing_back_and_says_nothing_of_clocks() {
        let ledger = Ledger::default();
        ledger.counters().for_each(|(_, counter)| counter.store(5, Relaxed));
        let said = |ledger: &Ledger, kind| {
            ledger
                .counters()
                .filter(|(of, _)| *of == kind)
                .map(|(_, word)| word.load(Relaxed))
                .collect::<Vec<_>>()
        };
        let are = |ledger: &Ledger, kind, value| said(ledger, kind).iter().all(|word| *word == value);
        ledger.hear(&vec![3; 1_000]);
        assert!(are(&ledger, Kind::Total, 5) && are(&ledger, Kind::Now, 3) && are(&ledger, Kind::Clock, 5));
        ledger.hear(&vec![u64::MAX; 1_000]);
        assert!(are(&ledger, Kind::Total, u64::MAX) && are(&ledger, Kind::Clock, 5));
        ledger.refused_early(7);
        assert_eq!(
            ledger.refusals(Reason::ConnectionRate),
            u64::MAX,
            "a sum of such words does not overflow"
        );
    }
}
