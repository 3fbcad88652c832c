//! What a tenant costs, as far as its ledger's counts do not say it: CPU by where it was spent, memory at its most, in thread
//! caches and in sockets, handshakes.
//!
//! Its cell writes it, but for the figures of memory, which the accounting thread writes. It must never need a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ebpf_redirect::Side;

use super::ledger::add;
use crate::sys::clock::Spent;

/// Further figures of one cell.
#[derive(Debug, Default)]
pub struct Costs {
    /// Nanoseconds of its thread in the program.
    pub cpu_user_nanos: AtomicU64,
    /// Nanoseconds of its thread in the kernel.
    pub cpu_system_nanos: AtomicU64,
    /// Live and cached bytes in its arena at their most, as sampled once a second.
    pub heap_peak_bytes: AtomicU64,
    /// Bytes that its thread's cache holds of its arena: neither live nor anybody else's.
    pub heap_cached_bytes: AtomicU64,
    /// Bytes of pages that its arena has.
    pub heap_resident_bytes: AtomicU64,
    /// Bytes that the kernel holds for its accepted sockets, as sampled.
    pub socket_bytes: AtomicU64,
    /// TLS handshakes finished as a client.
    pub handshakes_made: AtomicU64,
    /// TLS handshakes finished as a server.
    pub handshakes_accepted: AtomicU64,
}

/// What the allocator says of one arena.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapFigures {
    /// Allocated and not freed.
    pub live: u64,
    /// In thread caches.
    pub cached: u64,
    /// Pages.
    pub resident: u64,
}

impl Costs {
    /// Goes on where those of an earlier cell of the same tenant ended: totals and the peak are kept.
    pub fn continued(earlier: &Self) -> Self {
        let copy = |counter: &AtomicU64| AtomicU64::new(counter.load(Relaxed));
        Self {
            cpu_user_nanos: copy(&earlier.cpu_user_nanos),
            cpu_system_nanos: copy(&earlier.cpu_system_nanos),
            heap_peak_bytes: copy(&earlier.heap_peak_bytes),
            handshakes_made: copy(&earlier.handshakes_made),
            handshakes_accepted: copy(&earlier.handshakes_accepted),
            ..Self::default()
        }
    }

    /// Says what the cells of this tenant have spent so far.
    pub fn spent(&self, spent: Spent) {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_user_nanos.store(nanos(spent.user), Relaxed);
        self.cpu_system_nanos.store(nanos(spent.system), Relaxed);
    }

    /// What they have spent, as it was last said.
    pub fn spent_so_far(&self) -> Spent {
        let time = |nanos: &AtomicU64| std::time::Duration::from_nanos(nanos.load(Relaxed));
        Spent { user: time(&self.cpu_user_nanos), system: time(&self.cpu_system_nanos) }
    }

    /// Counts a handshake that was finished: made (outbound) or accepted (inbound).
    pub fn handshake(&self, side: Side) {
        add(
            match side {
                Side::Outbound => &self.handshakes_made,
                Side::Inbound => &self.handshakes_accepted,
            },
            1,
        );
    }

    /// For the accounting thread: what the allocator says of its arena now.
    pub fn heap(&self, figures: HeapFigures) {
        self.heap_cached_bytes.store(figures.cached, Relaxed);
        self.heap_resident_bytes.store(figures.resident, Relaxed);
        let now = figures.live.saturating_add(figures.cached);
        self.heap_peak_bytes.store(self.heap_peak_bytes.load(Relaxed).max(now), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_peak_stays_when_memory_is_given_back() {
        let costs = Costs::default();
        for (live, cached) in [(10, 5), (100, 20), (30, 0)] {
            costs.heap(HeapFigures { live, cached, resident: live });
        }
        assert_eq!(costs.heap_peak_bytes.load(Relaxed), 120);
        assert_eq!(Costs::continued(&costs).heap_peak_bytes.load(Relaxed), 120);
    }

    #[test]
    fn a_successor_keeps_totals_and_no_figure_of_the_moment() {
        let costs = Costs::default();
        costs.handshake(Side::Outbound);
        costs.spent(Spent { user: Duration::from_nanos(3), system: Duration::from_nanos(4) });
        costs.socket_bytes.store(9, Relaxed);
        costs.heap(HeapFigures { live: 7, cached: 7, resident: 7 });
        let next = Costs::continued(&costs);
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        assert_eq!((read(&next.handshakes_made), read(&next.handshakes_accepted)), (1, 0));
        assert_eq!((read(&next.cpu_user_nanos), read(&next.cpu_system_nanos)), (3, 4));
        let moment = [&next.socket_bytes, &next.heap_cached_bytes, &next.heap_resident_bytes].map(read);
        assert_eq!(moment, [0; 3]);
    }
}
