//! How much memory a cell holds between two figures of the allocator, and what its budget says of that. Pure.
//!
//! The allocator says once a second what is live in the cell's arena; in between counts what the cell's own thread has allocated
//! and freed since. It must never drift: each new figure replaces all that was added up before.

use config::model::Budget;

/// What a cell holds now.
#[derive(Debug, Default)]
pub struct Estimate {
    told: u64,
    /// What the thread had allocated more than freed when that was told.
    then: i64,
}

/// What is to be done about what a cell holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing.
    #[default]
    None,
    /// No new connection is let in.
    Soft,
    /// Nor is a request on one that is there.
    Full,
    /// What is there has to go.
    Hard,
}

impl Estimate {
    /// By the allocator's last figure, and by what the thread has allocated more than freed so far.
    pub fn now(&mut self, told: u64, own: i64) -> u64 {
        if told != self.told {
            (self.told, self.then) = (told, own);
        }
        told.saturating_add_signed(own.saturating_sub(self.then))
    }
}

impl Pressure {
    /// Of so many bytes under this budget.
    pub fn of(bytes: u64, budget: &Budget) -> Self {
        let is_above = |bound: Option<u64>| bound.is_some_and(|bound| bytes > bound);
        if is_above(budget.memory_hard_bytes) {
            Self::Hard
        } else if is_above(full(budget)) {
            Self::Full
        } else if is_above(budget.memory_soft_bytes) {
            Self::Soft
        } else {
            Self::None
        }
    }
}

/// Half-way from the soft bound to the hard one: below it, what was begun has room to be finished, and above it there is as much again
/// for what it still comes to. Without a hard bound, half as much again as the soft one. Nothing without a soft one.
fn full(budget: &Budget) -> Option<u64> {
    let soft = budget.memory_soft_bytes?;
    let hard = budget.memory_hard_bytes.unwrap_or(soft.saturating_mul(2));
    Some(soft + hard.saturating_sub(soft) / 2)
}

/// How many of so many connections are ended in one turn of shedding: few enough that most live on where a little was too much,
/// and in three seconds next to all.
pub fn at_a_time(connections: usize) -> usize {
    connections.div_ceil(SHARE)
}

const SHARE: usize = 8;

/// How a connection for which so many bytes are held ranks when some have to go: by powers of two, and all alike for which no more is
/// held than for one that is read and answered.
pub fn rank(held: u64) -> u32 {
    (held / ORDINARY).checked_ilog2().map_or(0, |doublings| doublings + 1)
}

/// Bytes: what is under way of small heads and of bodies whose receivers take them is less.
const ORDINARY: u64 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_counts_from_when_it_is_new_and_the_threads_own_count_in_between() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.now(0, 100), 100, "nothing was told yet");
        assert_eq!(estimate.now(1000, 400), 1000);
        assert_eq!(estimate.now(1000, 700), 1300);
        assert_eq!(estimate.now(1000, 100), 700);
        assert_eq!(estimate.now(1200, 100), 1200, "and not 900");
        assert_eq!(estimate.now(1200, i64::MIN), 0);
    }

    #[test]
    fn bounds_are_what_may_be_held_and_the_hard_one_counts_without_a_soft_one() {
        let both = Budget { memory_soft_bytes: Some(10), memory_hard_bytes: Some(20), ..Budget::default() };
        for (bytes, expected) in [
            (10, Pressure::None),
            (11, Pressure::Soft),
            (15, Pressure::Soft),
            (16, Pressure::Full),
            (21, Pressure::Hard),
        ] {
            assert_eq!(Pressure::of(bytes, &both), expected, "{bytes}");
        }
        let hard = Budget { memory_hard_bytes: Some(20), ..Budget::default() };
        assert_eq!((Pressure::of(20, &hard), Pressure::of(21, &hard)), (Pressure::None, Pressure::Hard));
        let soft = Budget { memory_soft_bytes: Some(10), ..Budget::default() };
        assert_eq!(
            (Pressure::of(15, &soft), Pressure::of(u64::MAX, &soft)),
            (Pressure::Soft, Pressure::Full)
        );
        assert_eq!(Pressure::of(u64::MAX, &Budget::default()), Pressure::None);
    }

    #[test]
    fn ordinary_connections_rank_alike_and_larger_ones_by_doublings() {
        let ranks = [0, 32_767, 32_768, 65_535, 65_536, 1 << 20].map(rank);
        assert_eq!(ranks, [0, 0, 1, 1, 2, 6]);
    }

    #[test]
    fn shedding_takes_some_and_comes_to_an_end() {
        assert_eq!((at_a_time(0), at_a_time(1), at_a_time(80)), (0, 1, 10));
        let mut left = 10_000;
        for _ in 0..30 {
            left -= at_a_time(left);
        }
        assert!(left < 250, "{left}");
    }
}
