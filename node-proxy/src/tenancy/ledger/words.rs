//! A ledger as a row of words: how a cell in a process of its own shows its counts to the daemon, and how those of several lanes
//! add up to their tenant's.
//!
//! What a process says so of itself are numbers of which any may be wrong. They must never be taken for more, nor for what the
//! kernel can be asked.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Ledger, add, sum_up};
use crate::{telemetry::Reason, tenancy::costs::Costs};

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

    /// Says what the ledgers of one tenant's lanes say together. Whoever calls this is the only one that writes to this ledger.
    pub fn add_up(&self, lanes: &[&Self]) {
        let counters = |ledger| Self::counters(ledger).map(|(_, counter)| counter);
        sum_up(counters(self), lanes.iter().map(|lane| counters(lane)));
        let sum = |of: fn(&Self) -> &AtomicU64| {
            let each = lanes.iter().map(|lane| of(lane).load(Relaxed));
            of(self).store(each.fold(0, u64::saturating_add), Relaxed);
        };
        sum(|lane| &lane.refused_early);
        sum(|lane| &lane.cpu_beside_nanos);
        sum(|lane| &lane.kept_out);
        // What gates kept out was refused as well; here it is counted with the rest.
        let kept_out: u64 = lanes.iter().map(|lane| lane.door.refused()).sum();
        if let Some(counter) = self.refusals.get(Reason::ConnectionLimit as usize) {
            add(counter, kept_out);
        }
        sum(|lane| &lane.throttled_nanos);
        self.finished.store(lanes.iter().all(|lane| lane.finished.load(Relaxed)), Relaxed);
        self.add_up_what_is_no_sum(lanes);
    }

    /// The first certificate that expires, the lane that is above the memory for longest, and what was said of shares.
    fn add_up_what_is_no_sum(&self, lanes: &[&Self]) {
        let expiries = lanes.iter().map(|lane| lane.certificate_expiry.load(Relaxed));
        self.certificate_expiry.store(expiries.filter(|at| *at > 0).min().unwrap_or_default(), Relaxed);
        let above = lanes.iter().map(|lane| lane.above_memory.load(Relaxed)).max();
        self.above_memory.store(above.unwrap_or_default(), Relaxed);
        let holdings = lanes.iter().map(|lane| lane.holding());
        let (bound, held) = holdings.fold((0, 0), |(bound, held): (usize, usize), holding| {
            (bound.saturating_add(holding.bound), held.saturating_add(holding.held))
        });
        self.share(bound, held);
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
            readers_paused,
            above_memory,
            share,
            finished: _,
            // The daemon's own to write.
            refused_early: _,
            cpu_beside_nanos: _,
            kept_out: _,
            left_out: _,
            door,
            pace: _,
            throttled_nanos: _,
            beside: _,
            costs,
            refusals,
        } = self;
        let (clocks_of_costs, totals_of_costs, now_of_costs) = of_costs(costs);
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
            readers_paused,
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
            &door.full,
        ];
        let totals =
            totals.into_iter().chain(totals_of_costs).chain(refusals).map(|total| (Kind::Total, total));
        let now = now.into_iter().chain(now_of_costs).map(|now| (Kind::Now, now));
        let clocks = [cpu_nanos].into_iter().chain(clocks_of_costs).map(|clock| (Kind::Clock, clock));
        totals.chain(now).chain(clocks)
    }
}

/// Clocks, totals, and what is as it is at the moment.
fn of_costs(costs: &Costs) -> ([&AtomicU64; 2], [&AtomicU64; 3], [&AtomicU64; 3]) {
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
    (
        [cpu_user_nanos, cpu_system_nanos],
        [heap_peak_bytes, handshakes_made, handshakes_accepted],
        [heap_cached_bytes, heap_resident_bytes, socket_bytes],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_lanes_say_adds_up_to_their_tenants_ledger_and_what_is_no_sum_is_what_it_is_of_one() {
        let (one, other, whole) = (Ledger::default(), Ledger::default(), Ledger::default());
        one.counters().zip(1..).for_each(|((_, counter), value)| counter.store(value, Relaxed));
        other.counters().for_each(|(_, counter)| counter.store(1_000, Relaxed));
        one.refused_early(3);
        one.throttled_nanos.store(5, Relaxed);
        other.throttled_nanos.store(6, Relaxed);
        one.share(10, 2);
        other.share(20, 3);
        one.certificate_expiry.store(0, Relaxed);
        one.finished.store(true, Relaxed);
        whole.add_up(&[&one, &other]);
        assert_eq!(whole.connections.load(Relaxed), one.connections.load(Relaxed) + 1_000);
        assert_eq!(whole.refusals(Reason::ALL[0]), one.refusals(Reason::ALL[0]) + 1_000);
        assert_eq!(whole.costs.cpu_user_nanos.load(Relaxed), one.costs.cpu_user_nanos.load(Relaxed) + 1_000);
        assert_eq!((whole.refused_early.load(Relaxed), whole.throttled_nanos.load(Relaxed)), (3, 11));
        assert_eq!(whole.holding(), crate::tenancy::Holding { bound: 30, held: 5 });
        assert_eq!(whole.certificate_expiry.load(Relaxed), 1_000, "of the lane that has a certificate");
        assert_eq!(whole.above_memory.load(Relaxed), 1_000);
        assert!(!whole.finished.load(Relaxed), "one has not");
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
