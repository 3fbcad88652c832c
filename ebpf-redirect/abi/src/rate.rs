//! How often a tenant's pods may connect: a bucket of one word, which the connect hooks fill and empty without a division.
//!
//! The generic cell rate algorithm: the word is when the next connection would be due at an even pace, and one may come early by as
//! much as was left unused in the last second.

/// The connections of one tenant.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two connections at an even pace; 0 for as many as anybody likes.
    pub interval: u64,
    /// Nanoseconds by which one may come early.
    pub early: u64,
    /// When the next is due, in nanoseconds since boot.
    pub due: u64,
    /// How many were refused.
    pub refused: u64,
}

impl Rate {
    /// So many a second, and at once as many as were left unused in the last one.
    pub const fn of(per_second: u64) -> Self {
        let interval = match SECOND.checked_div(per_second) {
            None => SECOND,
            Some(0) => 1,
            Some(interval) => interval,
        };
        Self { interval, early: SECOND.saturating_sub(interval), due: 0, refused: 0 }
    }

    /// When the next is due, after one more that comes now; `None` where it comes too early.
    #[inline(always)]
    pub const fn after_one_more(&self, now: u64) -> Option<u64> {
        let due = if self.due > now { self.due } else { now };
        if due - now > self.early { None } else { Some(due + self.interval) }
    }
}

const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of those that come at these times are let by.
    fn let_by(rate: &mut Rate, times: impl Iterator<Item = u64>) -> usize {
        times
            .filter(|now| {
                let due = rate.after_one_more(*now);
                rate.due = due.unwrap_or(rate.due);
                due.is_some()
            })
            .count()
    }

    #[test]
    fn a_second_is_let_by_at_once_and_then_one_an_interval() {
        let mut rate = Rate::of(10);
        let start = 77 * SECOND;
        assert_eq!(let_by(&mut rate, core::iter::repeat_n(start, 1000)), 10);
        let every_millisecond = (0..10_000).map(|milli| start + milli * SECOND / 1000);
        assert_eq!(let_by(&mut rate, every_millisecond), 99);
    }

    #[test]
    fn nothing_is_saved_for_longer_than_a_second_and_odd_rates_are_rates_too() {
        for (per_second, at_once) in [(1, 1), (2, 2), (3, 3), (1000, 1000), (u64::MAX, 100_000)] {
            let mut rate = Rate::of(per_second);
            assert_eq!(let_by(&mut rate, core::iter::repeat_n(SECOND, 100_000)), at_once, "{per_second}");
            let hour = 3600 * SECOND;
            assert_eq!(let_by(&mut rate, core::iter::repeat_n(hour, 100_000)), at_once, "{per_second}");
        }
        let mut none = Rate::default();
        assert_eq!(let_by(&mut none, core::iter::repeat_n(SECOND, 100)), 100);
    }
}
