//! A token bucket: so many a second, and as many at once as were left unused, up to a burst.
//!
//! Pure: time is an argument, and only ever goes on. It must never round in anybody's favour: parts of a token are kept.

use std::time::Duration;

use tokio::time::Instant;

/// Tokens that come at a rate and go as they are taken.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// Tokens a second; at least 1.
    rate: u64,
    /// Tokens that it holds at most; at least 1.
    burst: u64,
    /// What is in it, in billionths of a token; less than nothing, where more was taken.
    level: i128,
    /// When that was so.
    at: Instant,
}

/// Billionths: a nanosecond brings `rate` of them.
const TOKEN: i128 = 1_000_000_000;

impl Bucket {
    /// A full one.
    pub fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let (rate, burst) = (rate.max(1), burst.max(1));
        Self { rate, burst, level: i128::from(burst) * TOKEN, at: now }
    }

    /// Goes on at another rate. What was saved stays saved, up to the new burst; what is owed stays owed.
    pub fn change(&mut self, rate: u64, burst: u64, now: Instant) {
        self.refill(now);
        (self.rate, self.burst) = (rate.max(1), burst.max(1));
        self.level = self.level.min(self.full());
    }

    /// Takes one, or says how long it is until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        if self.level >= TOKEN {
            self.level -= TOKEN;
            return Ok(());
        }
        Err(self.time_for(TOKEN - self.level))
    }

    /// Takes so many, whether they are there or not: what is missing is owed.
    pub fn charge(&mut self, tokens: u64, now: Instant) {
        self.refill(now);
        self.level -= i128::from(tokens) * TOKEN;
    }

    /// What is in it, in whole tokens, rounded down; less than nothing where some are owed.
    pub fn level(&mut self, now: Instant) -> i128 {
        self.refill(now);
        self.level.div_euclid(TOKEN)
    }

    /// How long it takes for so many tokens to come.
    pub fn time_of(&self, tokens: u128) -> Duration {
        self.time_for(i128::try_from(tokens).unwrap_or(i128::MAX).saturating_mul(TOKEN))
    }

    /// Tokens a second.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        if passed > 0 {
            let come = i128::try_from(passed).unwrap_or(i128::MAX).saturating_mul(i128::from(self.rate));
            self.level = self.level.saturating_add(come).min(self.full());
            self.at = now;
        }
    }

    fn full(&self) -> i128 {
        i128::from(self.burst) * TOKEN
    }

    /// How long it takes for so many billionths, rounded up.
    fn time_for(&self, billionths: i128) -> Duration {
        let nanos = u128::try_from(billionths).unwrap_or(0).div_ceil(u128::from(self.rate));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// How many can be taken at once.
    fn drain(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::from_fn(|| bucket.take(now).ok()).take(1_000_000).count()
    }

    #[test]
    fn a_full_one_gives_its_burst_at_once_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 5, start);
        assert_eq!(drain(&mut bucket, start), 5);
        assert_eq!(bucket.take(start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(after(start, 99)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(after(start, 100)), Ok(()));
        assert_eq!(bucket.take(after(start, 100)), Err(Duration::from_millis(100)));
    }

    #[test]
    fn over_a_long_time_it_gives_its_rate_and_a_burst_however_often_it_is_asked() {
        for step in [1, 3, 7, 250, 999] {
            let start = Instant::now();
            let mut bucket = Bucket::new(7, 3, start);
            let steps = 60_000 / step;
            let given: usize = (0..=steps).map(|turn| drain(&mut bucket, after(start, turn * step))).sum();
            // Asked seldom, what came beyond the burst meanwhile is gone.
            let most = 3 + 7 * 60;
            let least = if step * 7 / 1000 < 3 { most - 1 } else { 3 * usize::try_from(steps).unwrap() };
            assert!((least..=most).contains(&given), "every {step} ms: {given}, not {least} to {most}");
        }
    }

    #[test]
    fn nothing_is_saved_beyond_the_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 20, start);
        assert_eq!(drain(&mut bucket, after(start, 3_600_000)), 20);
    }

    #[test]
    fn what_is_charged_beyond_what_there_is_is_owed() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 100, start);
        bucket.charge(1100, start);
        assert_eq!(bucket.level(start), -1000);
        assert_eq!(bucket.time_of(1000), Duration::from_secs(1));
        assert!(bucket.take(after(start, 1000)).is_err());
        assert_eq!(bucket.take(after(start, 1001)), Ok(()));
    }

    #[test]
    fn another_rate_counts_from_now_on_and_gives_nothing_away() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, 1000, start);
        bucket.change(10, 10, start);
        assert_eq!(drain(&mut bucket, start), 10, "no more saved than the new burst");
        bucket.change(1000, 1000, after(start, 100));
        assert_eq!(drain(&mut bucket, after(start, 100)), 1, "a tenth of a second at the old rate");
        assert_eq!(drain(&mut bucket, after(start, 200)), 100);
    }

    #[test]
    fn time_that_goes_back_brings_nothing_and_numbers_may_be_as_large_as_they_like() {
        let start = after(Instant::now(), 1000);
        let mut bucket = Bucket::new(u64::MAX, u64::MAX, start);
        bucket.charge(u64::MAX, start);
        bucket.charge(u64::MAX, start - Duration::from_millis(1000));
        assert_eq!(bucket.level(start), -i128::from(u64::MAX));
        assert_eq!(bucket.level(after(start, 3_600_000)), i128::from(u64::MAX));
        let mut slow = Bucket::new(0, 0, start);
        assert_eq!((slow.take(start), slow.take(start)), (Ok(()), Err(Duration::from_secs(1))));
    }
}
