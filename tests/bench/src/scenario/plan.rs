//! How long and how often.
//!
//! The default plan of all scenarios of plain load takes about half an hour, the quick one less than 3 minutes.

/// Times of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub rounds: usize,
    /// Pieces that a subject's time in a round is cut into: the subjects take turns piece by piece, there and back,
    /// so that what the machine does for a second or two meets all of them.
    pub slices: u64,
    pub warm_up_ms: u64,
    pub closed_ms: u64,
    pub open_ms: u64,
    /// At a fixed rate, where latency alone is measured.
    pub fixed_ms: u64,
    /// Time that a daemon is left alone before its memory is read.
    pub settle_ms: u64,
    pub quick: bool,
}

impl Plan {
    pub(crate) fn new(quick: bool, rounds: Option<usize>) -> Self {
        let plan = if quick { QUICK } else { FULL };
        Self { rounds: rounds.unwrap_or(plan.rounds).max(1), ..plan }
    }

    /// What one measurement takes, starting and draining included.
    pub(crate) fn seconds_each(&self) -> f64 {
        (2 * self.slices * (self.warm_up_ms + STARTING_MS) + self.closed_ms + self.open_ms) as f64 / 1e3
    }

    /// The same where latency alone is measured.
    pub(crate) fn seconds_at_a_rate(&self) -> f64 {
        (self.slices * (self.warm_up_ms + STARTING_MS) + self.fixed_ms) as f64 / 1e3
    }
}

/// What starting a load and reading the counters takes, about.
const STARTING_MS: u64 = 50;

const FULL: Plan = Plan {
    rounds: 5,
    slices: 5,
    warm_up_ms: 100,
    closed_ms: 1_600,
    open_ms: 1_200,
    fixed_ms: 5_000,
    settle_ms: 3_000,
    quick: false,
};
const QUICK: Plan = Plan {
    rounds: 1,
    slices: 1,
    warm_up_ms: 150,
    closed_ms: 400,
    open_ms: 300,
    fixed_ms: 600,
    settle_ms: 3_000,
    quick: true,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_default_run_fits_half_an_hour_and_the_quick_one_three_minutes() {
        let all =
            [Scenario::http(), Scenario::http2(), Scenario::tcp(), Scenario::capture(), Scenario::mtls()];
        let measurements: usize = all.iter().map(Scenario::measurements).sum();
        let minutes = |plan: Plan| plan.rounds as f64 * measurements as f64 * plan.seconds_each() / 60.0;
        assert!(minutes(Plan::new(false, None)) < 30.0);
        assert!(minutes(Plan::new(true, None)) < 2.5);
    }
}
