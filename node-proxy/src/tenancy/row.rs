//! The row of one workload in its tenant's ledger: what the connections of its tree have used.
//!
//! Made by the supervisor with the tree, written by the cell's own thread with plain loads and stores, read by anybody. It goes
//! with the tree, and must never be written by two cells.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use config::name::{PodName, TenantId};
use ebpf_redirect::Side;

use super::{
    door::Door,
    ledger::{add, sum_up},
};
use crate::telemetry::Reason;

mod words;

/// What one workload has used since its tree was planted.
#[derive(Debug)]
pub struct Row {
    /// Whose it is.
    pub tenant: TenantId,
    /// The workload.
    pub pod: PodName,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// Requests begun.
    pub requests: AtomicU64,
    /// Requests in flight now.
    pub requests_in_flight: AtomicU64,
    /// Bytes from clients.
    pub bytes_received: AtomicU64,
    /// Bytes to clients.
    pub bytes_sent: AtomicU64,
    /// TLS handshakes finished as a client.
    pub handshakes_made: AtomicU64,
    /// TLS handshakes finished as a server.
    pub handshakes_accepted: AtomicU64,
    /// Nanoseconds of its cell's CPU clock that its connections took.
    pub cpu_nanos: AtomicU64,
    /// Bytes that its connections have allocated, less those that they have freed. What one allocated and nobody's task freed
    /// is missing; so it is an estimate, and may pass below zero for a moment.
    pub heap_bytes: AtomicI64,
    /// Whether there is room for one more connection of its own.
    pub door: Door,
    refusals: Vec<AtomicU64>,
}

impl Row {
    /// An empty one.
    pub fn new(tenant: TenantId, pod: PodName) -> Self {
        let zero = AtomicU64::default;
        Self {
            tenant,
            pod,
            connections: zero(),
            connections_open: zero(),
            requests: zero(),
            requests_in_flight: zero(),
            bytes_received: zero(),
            bytes_sent: zero(),
            handshakes_made: zero(),
            handshakes_accepted: zero(),
            cpu_nanos: zero(),
            heap_bytes: AtomicI64::default(),
            door: Door::default(),
            refusals: Reason::ALL.iter().map(|_| zero()).collect(),
        }
    }

    /// One for the cell that follows another: totals are kept, and nothing is open.
    pub fn continued(earlier: &Self) -> Self {
        let copy = |counter: &AtomicU64| AtomicU64::new(counter.load(Relaxed));
        Self {
            connections: copy(&earlier.connections),
            requests: copy(&earlier.requests),
            bytes_received: copy(&earlier.bytes_received),
            bytes_sent: copy(&earlier.bytes_sent),
            handshakes_made: copy(&earlier.handshakes_made),
            handshakes_accepted: copy(&earlier.handshakes_accepted),
            cpu_nanos: copy(&earlier.cpu_nanos),
            door: Door::continued(&earlier.door),
            refusals: earlier.refusals.iter().map(copy).collect(),
            ..Self::new(earlier.tenant.clone(), earlier.pod.clone())
        }
    }

    /// Says what the rows of one tree in several lanes say together. Whoever calls this is the only one that writes to this row.
    pub fn add_up(&self, lanes: &[&Self]) {
        let counters = |row| Self::counters(row).map(|(_, counter)| counter);
        sum_up(counters(self), lanes.iter().map(|lane| counters(lane)));
        // What gates kept out was refused as well; here it is counted with the rest.
        let kept_out: u64 = lanes.iter().map(|lane| lane.door.refused()).sum();
        if let Some(counter) = self.refusals.get(Reason::WorkloadConnectionLimit as usize) {
            add(counter, kept_out);
        }
        let heap = lanes.iter().map(|lane| lane.heap_bytes.load(Relaxed)).fold(0, i64::wrapping_add);
        self.heap_bytes.store(heap, Relaxed);
    }

    /// How often a reason was given, by the cell or by its gate.
    pub fn refusals(&self, reason: Reason) -> u64 {
        let early = if reason == Reason::WorkloadConnectionLimit { self.door.refused() } else { 0 };
        self.refusals.get(reason as usize).map_or(0, |counter| counter.load(Relaxed)) + early
    }

    /// Live bytes, as far as they are known.
    pub fn heap(&self) -> u64 {
        u64::try_from(self.heap_bytes.load(Relaxed)).unwrap_or_default()
    }

    /// Counts one refusal.
    pub fn refused(&self, reason: Reason) {
        if let Some(counter) = self.refusals.get(reason as usize) {
            add(counter, 1);
        }
    }

    /// Counts bytes carried, from and to the client.
    pub fn carried(&self, received: u64, sent: u64) {
        add(&self.bytes_received, received);
        add(&self.bytes_sent, sent);
    }

    pub(super) fn handshake(&self, side: Side) {
        add(
            match side {
                Side::Outbound => &self.handshakes_made,
                Side::Inbound => &self.handshakes_accepted,
            },
            1,
        );
    }

    pub(super) fn allocated(&self, net: i64) {
        self.heap_bytes.store(self.heap_bytes.load(Relaxed).wrapping_add(net), Relaxed);
    }

    pub(super) fn took(&self, nanos: u64) {
        add(&self.cpu_nanos, nanos);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use config::name::{Name, Namespace};

    use super::*;

    /// A row of `shop/NAME`.
    pub(in super::super) fn row(name: &str) -> Row {
        let namespace = Namespace::try_from("shop").unwrap();
        let name = Name::try_from(name).unwrap();
        Row::new(TenantId::Tenant(Name::try_from("shop").unwrap()), PodName::new(namespace, name))
    }

    #[test]
    fn a_successor_keeps_totals_and_has_nothing_open() {
        let row = row("cart");
        add(&row.connections, 2);
        add(&row.connections_open, 2);
        row.allocated(100);
        row.refused(Reason::NoRoute);
        let next = Row::continued(&row);
        assert_eq!((next.connections.load(Relaxed), next.refusals(Reason::NoRoute)), (2, 1));
        assert_eq!((next.connections_open.load(Relaxed), next.heap()), (0, 0));
        assert_eq!(next.pod, row.pod);
    }

    #[test]
    fn the_rows_of_several_lanes_add_up() {
        let (one, other, whole) = (row("cart"), row("cart"), row("cart"));
        for (row, times) in [(&one, 2), (&other, 3)] {
            add(&row.connections_open, times);
            row.allocated(-10);
            (0..times).for_each(|_| row.refused(Reason::NoRoute));
        }
        other.allocated(30);
        whole.add_up(&[&one, &other]);
        whole.add_up(&[&one, &other]);
        let counts = (whole.connections_open.load(Relaxed), whole.refusals(Reason::NoRoute));
        assert_eq!((counts, whole.heap()), ((5, 5), 10), "however often they are added up");
    }

    #[test]
    fn memory_below_zero_is_shown_as_none() {
        let row = row("cart");
        row.allocated(-5);
        assert_eq!(row.heap(), 0);
    }
}
