//! A row as words: how a cell in a process of its own shows the daemon what each of its workloads has used.
//!
//! What is read so is what that process says of its own tenant's workloads, and any of it may be wrong. It must never be able to take
//! back a total, nor say anything of another's row.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Row;

impl Row {
    /// All of it, in an order of its own.
    pub fn words(&self) -> Vec<u64> {
        let heap = u64::from_ne_bytes(self.heap_bytes.load(Relaxed).to_ne_bytes());
        std::iter::once(heap).chain(self.counters().map(|(_, counter)| counter.load(Relaxed))).collect()
    }

    /// Takes over what another row of the same layout says, but for a total that falls. Words that are missing leave what was there.
    pub fn hear(&self, words: &[u64]) {
        let Some((heap, words)) = words.split_first() else { return };
        self.heap_bytes.store(i64::from_ne_bytes(heap.to_ne_bytes()), Relaxed);
        for ((is_total, counter), word) in self.counters().zip(words) {
            if !is_total || *word >= counter.load(Relaxed) {
                counter.store(*word, Relaxed);
            }
        }
    }

    /// Each with whether it only grows. Whoever adds one to the row has to say that here.
    pub(super) fn counters(&self) -> impl Iterator<Item = (bool, &AtomicU64)> {
        let Self {
            tenant: _,
            pod: _,
            connections,
            connections_open,
            requests,
            requests_in_flight,
            bytes_received,
            bytes_sent,
            handshakes_made,
            handshakes_accepted,
            cpu_nanos,
            heap_bytes: _,
            door: _,
            refusals,
        } = self;
        let totals = [
            connections,
            requests,
            bytes_received,
            bytes_sent,
            handshakes_made,
            handshakes_accepted,
            cpu_nanos,
        ];
        let totals = totals.into_iter().chain(refusals).map(|total| (true, total));
        totals.chain([connections_open, requests_in_flight].map(|now| (false, now)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::row, *};

    #[test]
    fn what_one_row_says_another_takes_over_and_no_total_is_taken_back() {
        let (one, other) = (row("cart"), row("cart"));
        one.counters().zip(1..).for_each(|((_, counter), value)| counter.store(value, Relaxed));
        one.heap_bytes.store(-5, Relaxed);
        other.hear(&one.words());
        assert_eq!(other.words(), one.words());
        other.hear(&[]);
        assert_eq!(other.words(), one.words());
        other.hear(&vec![0; 10_000]);
        let fallen = other.counters().filter(|(_, counter)| counter.load(Relaxed) == 0);
        assert!(
            fallen.map(|(is_total, _)| is_total).eq([false, false]),
            "only what is as it is at the moment"
        );
        other.hear(&vec![u64::MAX; 10_000]);
        assert!(other.words().iter().all(|word| *word == u64::MAX));
    }
}
