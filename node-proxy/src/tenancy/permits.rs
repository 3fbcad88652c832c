//! What a tenant's budget lets in now: connections, requests, and how fast bytes may go. Asked at accept and for every request.
//!
//! Every count is held by a guard that gives it back. A budget may change at any time: what is there stays, and nothing new is
//! let in until there is room. It must never wait, allocate per request, nor cost more than a few loads where a budget says nothing.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use config::model::Budget;
use ebpf_redirect::Side;
use tokio::time::Instant;

use super::{
    bucket::Bucket,
    memory::Pressure,
    pace::Pace,
    places::{Bound, Place, Places},
    share::Taken,
};
use crate::telemetry::Reason;

/// The permits of one cell.
#[derive(Debug)]
pub struct Permits {
    pressure: Cell<Pressure>,
    connections_per_workload: Cell<usize>,
    workloads: Rc<Places<u64>>,
    connection_rate: Rate,
    request_rate: Rate,
    requests_in_flight: Cell<usize>,
    in_flight: Rc<Cell<usize>>,
    probe_rate: Rate,
    probes: Rc<Cell<usize>>,
    /// Bytes towards the tenant's workloads.
    inward: Pace,
    /// Bytes from the tenant's workloads.
    outward: Pace,
}

/// Why something is not let in, and when it might be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// In how long it may be tried again, where that is known.
    pub retry_after: Option<Duration>,
}

/// Which way bytes go, as a client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Received,
    /// To the client.
    Sent,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            pressure: Cell::default(),
            connections_per_workload: Cell::new(usize::MAX),
            workloads: Rc::default(),
            connection_rate: Rate::default(),
            request_rate: Rate::default(),
            requests_in_flight: Cell::new(usize::MAX),
            in_flight: Rc::default(),
            probe_rate: Rate::default(),
            probes: Rc::default(),
            inward: Pace::default(),
            outward: Pace::default(),
        }
    }
}

impl Permits {
    /// Lets in what this budget says, from now on.
    pub fn follow(&self, budget: &Budget, now: Instant) {
        self.connections_per_workload.set(number(budget.connections_per_workload));
        self.connection_rate.change(budget.connections_per_second, now);
        self.request_rate.change(budget.requests_per_second, now);
        self.requests_in_flight.set(number(budget.requests_in_flight));
        self.inward.change(budget.bytes_per_second_in, now);
        self.outward.change(budget.bytes_per_second_out, now);
    }

    /// Lets nothing in, and has less moved at a time, as long as the cell holds more memory than it may. Says how it was before.
    pub fn press(&self, pressure: Pressure) -> Pressure {
        let before = self.pressure.replace(pressure);
        if before != pressure {
            let little = pressure != Pressure::None;
            self.inward.squeeze(little);
            self.outward.squeeze(little);
        }
        before
    }

    /// Whether the cell holds more memory than it is to: little is held then for whoever does not take it.
    #[inline]
    pub fn is_pressed(&self) -> bool {
        self.pressure.get() != Pressure::None
    }

    /// One more connection of a workload, by its tree's number. The tenant's rate is asked last: what is refused for another reason
    /// costs none of it.
    pub fn connection(&self, tree: u64) -> Result<Place<u64>, Refused> {
        if self.pressure.get() != Pressure::None {
            return Err(Refused::full(Reason::MemoryLimit));
        }
        let bound = Bound { all: usize::MAX, each: self.connections_per_workload.get() };
        let place = self.workloads.take(tree, bound).ok_or(Refused::full(Reason::WorkloadConnectionLimit))?;
        self.connection_rate
            .take(Instant::now)
            .map_err(|after| Refused { reason: Reason::ConnectionRate, retry_after: Some(after) })?;
        Ok(place)
    }

    /// Whether a workload's connections are counted apart.
    pub fn counts_workloads(&self) -> bool {
        self.connections_per_workload.get() != usize::MAX
    }

    /// Whether a workload has as many connections as each may have.
    pub fn is_full(&self, tree: u64) -> bool {
        self.counts_workloads() && self.workloads.of(tree) >= self.connections_per_workload.get()
    }

    /// One more request.
    pub fn request(&self, now: Instant) -> Result<Taken, Refused> {
        if self.pressure.get() >= Pressure::Full {
            return Err(Refused::full(Reason::MemoryLimit));
        }
        let taken = Taken::of(&self.in_flight, self.requests_in_flight.get());
        let taken = taken.ok_or(Refused::full(Reason::RequestLimit))?;
        self.request_rate
            .take(|| now)
            .map_err(|after| Refused { reason: Reason::RequestRate, retry_after: Some(after) })?;
        Ok(taken)
    }

    /// One more connection or request of the node's own, which asks whether a pod is well: let in although the budget has no room,
    /// since a pod that is not asked is taken for a sick one. So few, as anybody who comes by way of the node may look like it.
    pub fn probe(&self, now: Instant) -> Option<Taken> {
        let taken = Taken::of(&self.probes, PROBES)?;
        self.probe_rate.change(Some(PROBES_PER_SECOND), now);
        self.probe_rate.take(|| now).ok().map(|()| taken)
    }

    /// How fast bytes may go on a connection of this side.
    pub fn pace(&self, side: Side, direction: Direction) -> &Pace {
        match (side, direction) {
            (Side::Outbound, Direction::Received) | (Side::Inbound, Direction::Sent) => &self.outward,
            (Side::Outbound, Direction::Sent) | (Side::Inbound, Direction::Received) => &self.inward,
        }
    }

    /// How often bytes had to wait since this was asked last.
    pub fn take_waits(&self) -> u64 {
        self.inward.take_waits() + self.outward.take_waits()
    }

    /// Requests that are let in now.
    pub fn requests(&self) -> usize {
        self.in_flight.get()
    }
}

impl Refused {
    fn full(reason: Reason) -> Self {
        Self { reason, retry_after: None }
    }
}

/// So many a second, if it is said; as many at once as were left unused in the last second.
#[derive(Debug, Default)]
struct Rate(RefCell<Option<Bucket>>);

impl Rate {
    fn change(&self, rate: Option<u64>, now: Instant) {
        let mut bucket = self.0.borrow_mut();
        match (rate, &mut *bucket) {
            (Some(rate), Some(bucket)) => bucket.change(rate, rate, now),
            (Some(rate), none) => *none = Some(Bucket::new(rate, rate, now)),
            (None, bucket) => *bucket = None,
        }
    }

    /// The clock is read only where there is a rate.
    fn take(&self, now: impl FnOnce() -> Instant) -> Result<(), Duration> {
        self.0.borrow_mut().as_mut().map_or(Ok(()), |bucket| bucket.take(now()))
    }
}

/// Of the node's own, at a time and a second: two for each of as many pods as a node has, every ten seconds.
const PROBES: usize = 32;
const PROBES_PER_SECOND: u64 = 32;

/// A bound of a budget; what is not said is none.
pub(super) fn number(bound: Option<u64>) -> usize {
    bound.map_or(usize::MAX, |bound| usize::try_from(bound).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following(budget: Budget) -> Permits {
        let permits = Permits::default();
        permits.follow(&budget, Instant::now());
        permits
    }

    fn reason<T>(asked: Result<T, Refused>) -> Option<Reason> {
        asked.err().map(|refused| refused.reason)
    }

    #[test]
    fn a_budget_that_says_nothing_lets_everything_in() {
        let permits = following(Budget::default());
        let now = Instant::now();
        let held: Vec<_> = (0..10_000).map(|_| (permits.connection(1), permits.request(now))).collect();
        assert!(held.iter().all(|(connection, request)| connection.is_ok() && request.is_ok()));
        drop(held);
        assert_eq!(permits.requests(), 0);
    }

    #[test]
    fn requests_in_flight_are_bounded_and_come_back() {
        let permits = following(Budget { requests_in_flight: Some(2), ..Budget::default() });
        let now = Instant::now();
        let held = [permits.request(now), permits.request(now)];
        assert_eq!(permits.request(now).unwrap_err(), Refused::full(Reason::RequestLimit));
        drop(held);
        assert!(permits.request(now).is_ok());
        assert_eq!(permits.requests(), 0);
    }

    #[test]
    fn requests_beyond_their_rate_are_told_when_there_is_one_again() {
        let now = Instant::now();
        let permits = Permits::default();
        permits.follow(&Budget { requests_per_second: Some(4), ..Budget::default() }, now);
        for _ in 0..4 {
            drop(permits.request(now).unwrap());
        }
        let retry_after = Some(Duration::from_millis(250));
        assert_eq!(permits.request(now).unwrap_err(), Refused { reason: Reason::RequestRate, retry_after });
        assert_eq!(permits.requests(), 0, "what is refused holds nothing");
        assert!(permits.request(now + Duration::from_millis(250)).is_ok());
    }

    #[test]
    fn each_workload_has_its_own_connections_and_all_share_the_rate() {
        let budget = Budget {
            connections_per_workload: Some(2),
            connections_per_second: Some(4),
            ..Budget::default()
        };
        let permits = following(budget);
        let first = [permits.connection(1), permits.connection(1)];
        assert_eq!(reason(permits.connection(1)), Some(Reason::WorkloadConnectionLimit));
        let second = [permits.connection(2), permits.connection(2)];
        assert!(
            first.iter().chain(&second).all(Result::is_ok),
            "one that was refused costs nothing of the rate"
        );
        assert_eq!(reason(permits.connection(3)), Some(Reason::ConnectionRate));
        drop((first, second));
        assert_eq!(reason(permits.connection(1)), Some(Reason::ConnectionRate));
    }

    #[test]
    fn above_the_soft_limit_no_connection_is_let_in_and_half_way_to_the_hard_one_no_request_either() {
        let (permits, now) = (following(Budget::default()), Instant::now());
        for (pressure, connection, request) in [
            (Pressure::None, true, true),
            (Pressure::Soft, false, true),
            (Pressure::Full, false, false),
            (Pressure::Hard, false, false),
            (Pressure::None, true, true),
        ] {
            permits.press(pressure);
            let (asked, begun) = (permits.connection(1), permits.request(now));
            assert_eq!((asked.is_ok(), begun.is_ok()), (connection, request), "{pressure:?}");
            for refused in [reason(asked), reason(begun)].into_iter().flatten() {
                assert_eq!(refused, Reason::MemoryLimit);
            }
            assert_eq!(permits.is_pressed(), pressure != Pressure::None);
        }
        assert!(permits.probe(now).is_some(), "what the node asks is let in all the same");
    }

    #[test]
    fn a_budget_that_shrinks_takes_nothing_back_and_lets_nothing_in_until_there_is_room() {
        let (permits, now) = (following(Budget::default()), Instant::now());
        let mut held: Vec<_> = (0..3).map(|_| permits.request(now).unwrap()).collect();
        permits.follow(&Budget { requests_in_flight: Some(2), ..Budget::default() }, now);
        while held.len() >= 2 {
            assert_eq!(reason(permits.request(now)), Some(Reason::RequestLimit), "{} of 2", held.len());
            held.pop();
        }
        assert!(permits.request(now).is_ok());
        permits.follow(&Budget::default(), now);
        held.extend((0..9).map(|_| permits.request(now).unwrap()));
    }

    #[test]
    fn a_snapshot_with_the_same_budget_fills_no_bucket() {
        let (permits, now) = (Permits::default(), Instant::now());
        let budget = Budget { requests_per_second: Some(1), ..Budget::default() };
        permits.follow(&budget, now);
        assert!(permits.request(now).is_ok());
        permits.follow(&budget, now);
        assert_eq!(reason(permits.request(now)), Some(Reason::RequestRate));
    }

    #[test]
    fn probes_are_let_in_beside_the_budget_and_are_few() {
        let permits = following(Budget { requests_in_flight: Some(1), ..Budget::default() });
        let now = Instant::now();
        let _held = permits.request(now);
        let probes: Vec<_> = (0..100).map_while(|_| permits.probe(now)).collect();
        assert_eq!(probes.len(), PROBES);
        drop(probes);
        assert!(permits.probe(now).is_none(), "there were as many in this second as there may be");
        assert!(permits.probe(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn bytes_are_told_apart_by_whether_a_workload_sends_or_gets_them() {
        let permits = Permits::default();
        let is_inward =
            |side, direction| std::ptr::eq(permits.pace(side, direction), &raw const permits.inward);
        assert!(is_inward(Side::Outbound, Direction::Sent) && is_inward(Side::Inbound, Direction::Received));
        assert!(
            !is_inward(Side::Outbound, Direction::Received) && !is_inward(Side::Inbound, Direction::Sent)
        );
    }
}
