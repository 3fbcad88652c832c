//! The ledger of one cell: connections, requests, bytes, refusals, CPU and memory.
//!
//! Written by the cell's own thread with plain loads and stores (single writer), read by anybody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use ebpf_redirect::Side;

use super::{costs::Costs, cpu::Pace, door::Door, meter};
use crate::telemetry::Reason;

mod guards;
mod words;

pub use self::guards::{ConnectionGuard, RequestGuard, TunnelGuard};

/// What one cell has used.
#[derive(Debug)]
pub struct Ledger {
    /// Connections accepted since start.
    pub connections: AtomicU64,
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// Requests begun since start.
    pub requests: AtomicU64,
    /// Requests in flight now.
    pub requests_in_flight: AtomicU64,
    /// Tunnels open now that this cell made.
    pub tunnels_made: AtomicU64,
    /// Tunnels open now that this cell accepted.
    pub tunnels_accepted: AtomicU64,
    /// Bytes from clients.
    pub bytes_received: AtomicU64,
    /// Bytes to clients.
    pub bytes_sent: AtomicU64,
    /// Nanoseconds of the cell's own CPU clock.
    pub cpu_nanos: AtomicU64,
    /// Nanoseconds of what works for the tenant beside this cell: former cells that still run, and what passes messages on to its
    /// process. The supervisor writes it.
    pub cpu_beside_nanos: AtomicU64,
    /// Live bytes in the cell's arena. The one figure that the accounting thread writes.
    pub heap_bytes: AtomicU64,
    /// Connects that the kernel refused. The supervisor writes it.
    pub refused_early: AtomicU64,
    /// Whether there is room for one more connection of the tenant's.
    pub door: Door,
    /// Connects that the gates of its workloads have kept out. The supervisor writes it.
    pub kept_out: AtomicU64,
    /// Objects for which the tenant's budget has no room. The supervisor writes it.
    pub left_out: AtomicU64,
    /// How fast the cell may go. Told by the thread that watches over the CPU.
    pub pace: Pace,
    /// Nanoseconds that the cell was held back for its cap of CPU, or has paused. Written by that thread as well.
    pub throttled_nanos: AtomicU64,
    /// Counts up with every heartbeat.
    pub heartbeats: AtomicU64,
    /// Panics contained since start.
    pub panics: AtomicU64,
    /// When the first of the cell's certificates expires, in seconds since the epoch; 0 while it has none.
    pub certificate_expiry: AtomicU64,
    /// Certificates obtained since start.
    pub certificates: AtomicU64,
    /// Times no certificate could be had, since start.
    pub certificate_failures: AtomicU64,
    /// Copies of requests that were not begun, for want of room.
    pub mirrors_dropped: AtomicU64,
    /// Bytes of bulk that were copied for want of a pipe.
    pub bulk_copied: AtomicU64,
    /// Bytes that stand in pipes now, for peers that do not take them.
    pub piped: AtomicU64,
    /// Times that bytes had to wait for the tenant's rate.
    pub paced: AtomicU64,
    /// Times that nothing more was taken for a receiver that did not take what there was.
    pub readers_paused: AtomicU64,
    /// Heartbeats in a row at which the cell held more memory than its budget's hard limit.
    pub above_memory: AtomicU64,
    /// Bytes that the tenant's other lanes hold. The supervisor writes it.
    pub beside: AtomicU64,
    /// What the cell has last said of its share, in one word: the two are never seen apart.
    share: AtomicU64,
    /// Whether all has ended that was there when the cell was asked to have it finish.
    pub finished: AtomicBool,
    /// What else it costs.
    pub costs: Costs,
    refusals: Vec<AtomicU64>,
}

impl Default for Ledger {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            connections: zero(),
            connections_open: zero(),
            requests: zero(),
            requests_in_flight: zero(),
            tunnels_made: zero(),
            tunnels_accepted: zero(),
            bytes_received: zero(),
            bytes_sent: zero(),
            cpu_nanos: zero(),
            cpu_beside_nanos: zero(),
            heap_bytes: zero(),
            refused_early: zero(),
            door: Door::default(),
            kept_out: zero(),
            left_out: zero(),
            throttled_nanos: zero(),
            pace: Pace::default(),
            heartbeats: zero(),
            panics: zero(),
            certificate_expiry: zero(),
            certificates: zero(),
            certificate_failures: zero(),
            mirrors_dropped: zero(),
            bulk_copied: zero(),
            piped: zero(),
            paced: zero(),
            readers_paused: zero(),
            above_memory: zero(),
            beside: zero(),
            share: zero(),
            finished: AtomicBool::default(),
            costs: Costs::default(),
            refusals: Reason::ALL.iter().map(|_| zero()).collect(),
        }
    }
}

/// What a cell may hold and holds, in connections, each of which may have two sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// At most, as it was last told.
    pub bound: usize,
    /// Of accepted connections or of sockets to elsewhere, whichever are more.
    pub held: usize,
}

/// Adds to a counter of which this thread is the only writer: no locked instruction.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// Puts into each of these counters what the same counters of all lanes are together.
pub(super) fn sum_up<'a, Lane: Iterator<Item = &'a AtomicU64>>(
    whole: impl Iterator<Item = &'a AtomicU64>,
    lanes: impl Iterator<Item = Lane>,
) {
    let mut lanes: Vec<Lane> = lanes.collect();
    for counter in whole {
        let each = lanes.iter_mut().filter_map(Iterator::next).map(|counter| counter.load(Relaxed));
        counter.store(each.fold(0, u64::saturating_add), Relaxed);
    }
}

impl Ledger {
    /// A new ledger that goes on where an earlier one of the same tenant ended: totals are kept, and nothing is open.
    ///
    /// A cell that is stuck may still write its own; so its successor never shares it.
    pub fn continued(earlier: &Self) -> Self {
        let copy = |counter: &AtomicU64| AtomicU64::new(counter.load(Relaxed));
        Self {
            connections: copy(&earlier.connections),
            requests: copy(&earlier.requests),
            bytes_received: copy(&earlier.bytes_received),
            bytes_sent: copy(&earlier.bytes_sent),
            cpu_nanos: copy(&earlier.cpu_nanos),
            cpu_beside_nanos: copy(&earlier.cpu_beside_nanos),
            refused_early: copy(&earlier.refused_early),
            door: Door::continued(&earlier.door),
            kept_out: copy(&earlier.kept_out),
            pace: Pace::continued(&earlier.pace),
            throttled_nanos: copy(&earlier.throttled_nanos),
            heartbeats: copy(&earlier.heartbeats),
            panics: copy(&earlier.panics),
            certificates: copy(&earlier.certificates),
            certificate_failures: copy(&earlier.certificate_failures),
            mirrors_dropped: copy(&earlier.mirrors_dropped),
            bulk_copied: copy(&earlier.bulk_copied),
            paced: copy(&earlier.paced),
            readers_paused: copy(&earlier.readers_paused),
            refusals: earlier.refusals.iter().map(copy).collect(),
            costs: Costs::continued(&earlier.costs),
            ..Self::default()
        }
    }

    /// Counts bytes carried, from and to the client.
    pub fn carried(&self, received: u64, sent: u64) {
        meter::note(|row| row.carried(received, sent));
        add(&self.bytes_received, received);
        add(&self.bytes_sent, sent);
    }

    /// Counts one refusal.
    pub fn refused(&self, reason: Reason) {
        meter::note(|row| row.refused(reason));
        if let Some(counter) = self.refusals.get(reason as usize) {
            add(counter, 1);
        }
    }

    /// How often a reason was given, by the cell or by the kernel before it.
    pub fn refusals(&self, reason: Reason) -> u64 {
        let early = match reason {
            Reason::ConnectionRate => self.refused_early.load(Relaxed),
            Reason::ConnectionLimit => self.door.refused(),
            Reason::WorkloadConnectionLimit => self.kept_out.load(Relaxed),
            _ => 0,
        };
        let own = self.refusals.get(reason as usize).map_or(0, |counter| counter.load(Relaxed));
        // A cell in a process of its own may say anything.
        own.saturating_add(early)
    }

    /// Counts connects that the kernel has refused.
    pub fn refused_early(&self, connects: u64) {
        add(&self.refused_early, connects);
    }

    /// Counts connects that the gates of its workloads have kept out.
    pub fn kept_out(&self, connects: u64) {
        add(&self.kept_out, connects);
    }

    /// Counts a TLS handshake that was finished: made (outbound) or accepted (inbound).
    pub fn handshake(&self, side: Side) {
        meter::note(|row| row.handshake(side));
        self.costs.handshake(side);
    }

    /// Counts a copy of a request that was not begun.
    pub fn mirror_dropped(&self) {
        add(&self.mirrors_dropped, 1);
    }

    /// Counts bytes of bulk that were copied for want of a pipe.
    pub fn copied(&self, bytes: usize) {
        add(&self.bulk_copied, bytes as u64);
    }

    /// Counts the bytes that stand in a pipe, in place of those that stood in it.
    pub fn piped(&self, before: usize, now: usize) {
        add(&self.piped, (now as u64).wrapping_sub(before as u64));
    }

    /// Counts so many times that bytes had to wait for the tenant's rate.
    pub fn paced(&self, times: u64) {
        add(&self.paced, times);
    }

    /// Counts once that nothing more is taken for a receiver until it has taken what there is.
    pub fn reader_paused(&self) {
        add(&self.readers_paused, 1);
    }

    /// Says for how many heartbeats the cell has held more memory than its budget's hard limit.
    pub fn above_memory(&self, beats: u64) {
        self.above_memory.store(beats, Relaxed);
    }

    /// Says how many connections the cell may hold each way, and holds.
    pub fn share(&self, bound: usize, held: usize) {
        let half = |number: usize| u64::from(u32::try_from(number).unwrap_or(u32::MAX));
        self.share.store(half(bound) << 32 | half(held), Relaxed);
    }

    /// What the cell has last said of its share; nothing, before it runs.
    pub fn holding(&self) -> Holding {
        let share = self.share.load(Relaxed);
        let number = |half: u64| usize::try_from(half).unwrap_or(usize::MAX);
        Holding { bound: number(share >> 32), held: number(share & u64::from(u32::MAX)) }
    }

    /// Nanoseconds of the CPU that all that works for the tenant has used.
    pub fn cpu_in_all(&self) -> u64 {
        self.cpu_nanos.load(Relaxed).saturating_add(self.cpu_beside_nanos.load(Relaxed))
    }

    /// Says how much works for the tenant beside its cell. What was said before is never taken back.
    pub fn works_beside(&self, nanos: u64) {
        self.cpu_beside_nanos.fetch_max(nanos, Relaxed);
    }

    /// Counts a panic that was contained. Three in ten seconds make the supervisor restart the cell.
    pub fn panicked(&self) {
        add(&self.panics, 1);
    }

    /// Counts a certificate.
    pub fn certificate_issued(&self) {
        add(&self.certificates, 1);
    }

    /// Counts a certificate that could not be had.
    pub fn certificate_failed(&self) {
        add(&self.certificate_failures, 1);
    }

    /// Counts one heartbeat and the cell's CPU clock with it.
    pub fn beat(&self, cpu_nanos: u64) {
        add(&self.heartbeats, 1);
        self.cpu_nanos.store(cpu_nanos, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn guards_balance_to_zero_when_dropped() {
        let ledger = Arc::new(Ledger::default());
        let connection = ConnectionGuard::open(&ledger);
        let request = RequestGuard::begin(&ledger);
        assert_eq!(ledger.connections_open.load(Relaxed), 1);
        drop((connection, request));
        assert_eq!(ledger.connections_open.load(Relaxed), 0);
        assert_eq!(ledger.requests_in_flight.load(Relaxed), 0);
        assert_eq!(ledger.connections.load(Relaxed), 1);
    }

    #[test]
    fn a_successor_keeps_the_totals_and_has_nothing_open() {
        let ledger = Arc::new(Ledger::default());
        let _open = ConnectionGuard::open(&ledger);
        ledger.refused(Reason::NoRoute);
        let next = Ledger::continued(&ledger);
        assert_eq!((next.connections.load(Relaxed), next.refusals(Reason::NoRoute)), (1, 1));
        assert_eq!(next.connections_open.load(Relaxed), 0);
    }

    #[test]
    fn a_share_is_told_as_it_was_said_and_a_successor_has_said_nothing() {
        let ledger = Ledger::default();
        ledger.share(65_536, 70_000);
        assert_eq!(ledger.holding(), Holding { bound: 65_536, held: 70_000 });
        assert_eq!(Ledger::continued(&ledger).holding(), Holding::default());
    }

    #[test]
    fn refusals_are_counted_by_reason() {
        let ledger = Ledger::default();
        ledger.refused(Reason::NoRoute);
        assert_eq!(ledger.refusals(Reason::NoRoute), 1);
        assert_eq!(ledger.refusals(Reason::NoEndpoint), 0);
        ledger.refused_early(3);
        ledger.refused(Reason::ConnectionRate);
        assert_eq!(ledger.refusals(Reason::ConnectionRate), 4);
        assert_eq!(Ledger::continued(&ledger).refusals(Reason::ConnectionRate), 4);
    }
}
