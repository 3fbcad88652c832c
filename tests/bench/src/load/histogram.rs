//! Latencies in buckets of at most 0.8 % width: constant memory, no allocation while measuring.
//!
//! It never drops a value: those beyond the last bucket count in it.

/// Counts of latencies.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The buckets that are not empty, each with its count.
    pub(crate) fn filled(&self) -> Vec<(usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, filled: &[(usize, u64)]) {
        for (index, count) in filled {
            self.counts[(*index).min(BUCKETS - 1)] += count;
            self.total += count;
        }
    }

    /// What its values do not exceed, bucket by bucket, in nanoseconds, with how many are in each.
    pub(crate) fn bounds(&self) -> Vec<(u64, u64)> {
        self.filled().into_iter().map(|(index, count)| (bound(index), count)).collect()
    }

    /// The value that this share (0 to 1) of all values does not exceed; the middle of its bucket.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(index);
            }
        }
        0
    }
}

/// Buckets per power of two.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Up to 2^40 ns, 18 minutes.
const BUCKETS: usize = (STEPS as usize) * (40 - STEP_BITS as usize + 1);

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - STEP_BITS;
    let index = (u64::from(shift) + 1) * STEPS + ((value >> shift) - STEPS);
    (index as usize).min(BUCKETS - 1)
}

fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let low = (STEPS + index % STEPS) << shift;
    low + (1 << shift) / 2
}

fn bound(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    ((STEPS + index % STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_have_counted_is_one_histogram_and_no_value_exceeds_its_bound() {
        let (mut one, mut other) = (Histogram::new(), Histogram::new());
        (0..1_000).for_each(|value| one.record(value * 1_000));
        (0..9_000).for_each(|value| other.record(value * 1_000));
        one.add(&other.filled());
        let bounds = one.bounds();
        assert_eq!(bounds.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
        assert!(bounds.is_sorted());
        for value in [0, 77, 8_999_000, 123_456_789] {
            let index = bucket(value);
            assert!(bound(index) >= value && (index == 0 || bound(index - 1) < value), "{value}");
        }
        assert!((one.quantile(0.999) as f64 / 8_990_000.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_quantile_is_within_one_percent_of_the_exact_one() {
        let mut h = Histogram::new();
        for v in 1..=1_000_000 {
            h.record(v * 10);
        }
        for (share, exact) in [(0.5, 5_000_000.0), (0.99, 9_900_000.0)] {
            let got = h.quantile(share) as f64;
            assert!((got / exact - 1.0).abs() < 0.01, "{share}: {got} for {exact}");
        }
    }

    #[test]
    fn values_beyond_the_last_bucket_are_kept() {
        let mut h = Histogram::new();
        h.record(u64::MAX);
        assert!(h.quantile(0.5) > 1 << 39);
    }

    #[test]
    fn buckets_ascend_without_gaps() {
        let mut last = 0;
        for v in 0..100_000 {
            let b = bucket(v);
            assert!(b == last || b == last + 1, "{v}");
            last = b;
        }
    }
}
