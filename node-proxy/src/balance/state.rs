//! What a cell knows of one endpoint: how busy, how fast, how healthy.
//!
//! Must never be reached from another thread: it is plain cells.

use std::cell::Cell;

use tokio::time::Instant;

use super::{health::Health, latency::Latency};

/// The state of one endpoint.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Requests or connections that were sent there and have not ended.
    pub(super) in_flight: Cell<u32>,
    /// How fast it answers.
    pub(super) latency: Latency,
    /// Whether it answers.
    pub(super) health: Health,
}

impl State {
    /// Whether it is expected to be done with one more request sooner than another, where both are equal rather this one.
    pub(super) fn is_no_costlier_than(&self, other: &Self, now: Instant) -> bool {
        let (mine, others) = match (self.latency.estimate(now), other.latency.estimate(now)) {
            (Some(mine), Some(others)) => (mine, others),
            // An endpoint that nothing is known of is taken to be as fast as the other: were it taken to be faster, all
            // would run there before its first answer.
            _ => (1.0, 1.0),
        };
        let queue = |state: &Self| f64::from(state.in_flight.get()) + 1.0;
        mine * queue(self) <= others * queue(other)
    }
}
