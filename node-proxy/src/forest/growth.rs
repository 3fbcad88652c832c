//! When a tenant's cell gets one lane more, and when one less: a pure judgement over the CPU time that its lanes have used.
//!
//! A lane more is for a tenant that has filled those it has, where the machine has a CPU for it and its budget lets it. It must never
//! take a lane that waits for a CPU for one that is full: another would wait as well.

use std::time::Duration;

use config::model::{Budget, Isolation};
use tokio::time::Instant;

/// How many lanes a tenant may have on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    /// From its first workload on.
    pub least: usize,
    /// When they are full.
    pub most: usize,
}

impl Lanes {
    /// One, and as many as there are CPUs where it fills them.
    pub const fn of_cpus(cpus: usize) -> Self {
        Self { least: 1, most: if cpus == 0 { 1 } else { cpus } }
    }

    /// Those of a tenant: as many as its cap of CPU fills. One, where it is a process, or where its budget counts what each lane would
    /// have to count for itself.
    pub(super) fn of(self, isolation: Isolation, budget: &Budget) -> Self {
        if isolation == Isolation::Process || budget.is_counted() {
            return Self { least: 1, most: 1 };
        }
        let filled = budget.cpu_cap_millis.map_or(usize::MAX, |cap| {
            usize::try_from(cap.div_ceil(ONE_LANE_MILLIS)).unwrap_or(usize::MAX).max(1)
        });
        let most = self.most.min(filled);
        Self { least: self.least.min(most), most }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Start one lane more.
    More,
    /// Have the last one end.
    Fewer,
}

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// The last look, and what all lanes had used by then.
    last: Option<(Instant, Duration)>,
    /// CPUs that they use, by the last few looks.
    used: f64,
    full_since: Option<Instant>,
    spare_since: Option<Instant>,
}

/// Of the CPUs that its lanes could use, the part from which they are full.
const FULL: f64 = 0.8;
/// Of what one lane fewer could use, the part below which one is to spare.
const SPARE: f64 = 0.5;
/// They have to be full for so long: a burst is no reason.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
/// One has to be to spare for so long.
const LONG_SPARE: Duration = Duration::from_secs(60);
/// How long what was used is remembered.
const MEMORY: Duration = Duration::from_millis(300);

impl Growth {
    /// Takes in what all its lanes have used so far; how many there are, and may be.
    pub(super) fn look(&mut self, now: Instant, used: Duration, lanes: usize, may: Lanes) -> Step {
        if lanes < may.least {
            return Step::More;
        }
        if lanes > may.most {
            return Step::Fewer;
        }
        let Some((then, before)) = self.last.replace((now, used)) else { return Step::Stay };
        let wall = now.saturating_duration_since(then);
        if wall.is_zero() {
            return Step::Stay;
        }
        let fresh = used.saturating_sub(before).as_secs_f64() / wall.as_secs_f64();
        let weight = (wall.as_secs_f64() / MEMORY.as_secs_f64()).min(1.0);
        self.used += (fresh - self.used) * weight;
        let is_full = self.used >= FULL * lanes as f64;
        let is_spare = lanes > may.least && self.used < SPARE * (lanes - 1) as f64;
        self.full_since = is_full.then_some(self.full_since.unwrap_or(now));
        self.spare_since = is_spare.then_some(self.spare_since.unwrap_or(now));
        let for_long = |since: Option<Instant>, long| since.is_some_and(|since| now - since >= long);
        if for_long(self.spare_since, LONG_SPARE) {
            (self.full_since, self.spare_since) = (None, None);
            return Step::Fewer;
        }
        if lanes < may.most && for_long(self.full_since, LONG_ENOUGH) {
            (self.full_since, self.spare_since) = (None, None);
            return Step::More;
        }
        Step::Stay
    }
}

/// What one lane can use, in thousandths of a CPU.
const ONE_LANE_MILLIS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks ten times a second at a cell whose lanes use so many CPUs; when it is to change, and how.
    fn after(
        growth: &mut Growth,
        start: Instant,
        used: f64,
        (lanes, most): (usize, usize),
    ) -> Option<(Step, Duration)> {
        let so_far = growth.last.map_or(Duration::ZERO, |(_, used)| used);
        (0..1_000).find_map(|look| {
            let passed = Duration::from_millis(100 * look);
            let step =
                growth.look(start + passed, so_far + passed.mul_f64(used), lanes, Lanes { least: 1, most });
            (step != Step::Stay).then_some((step, passed))
        })
    }

    #[test]
    fn a_cell_that_fills_its_lane_gets_another_soon_and_a_burst_gets_none() {
        let start = Instant::now();
        let (step, passed) = after(&mut Growth::default(), start, 0.95, (1, 2)).unwrap();
        assert_eq!(step, Step::More);
        assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&passed), "{passed:?}");
        let mut growth = Growth::default();
        let may = Lanes::of_cpus(2);
        growth.look(start, Duration::ZERO, 1, may);
        let burst = growth.look(start + Duration::from_millis(900), Duration::from_millis(900), 1, may);
        let later = growth.look(start + Duration::from_millis(2_000), Duration::from_millis(910), 1, may);
        assert_eq!((burst, later), (Step::Stay, Step::Stay));
    }

    #[test]
    fn a_cell_that_waits_for_a_cpu_or_may_have_no_more_stays_as_it_is() {
        let start = Instant::now();
        assert_eq!(after(&mut Growth::default(), start, 0.5, (1, 8)), None);
        assert_eq!(after(&mut Growth::default(), start, 1.0, (1, 1)), None);
        assert_eq!(after(&mut Growth::default(), start, 1.5, (2, 8)), None, "two that are not full");
    }

    #[test]
    fn a_lane_that_is_to_spare_for_a_minute_ends_and_one_too_many_at_once() {
        let start = Instant::now();
        let (step, passed) = after(&mut Growth::default(), start, 0.3, (2, 2)).unwrap();
        assert_eq!(step, Step::Fewer);
        assert!(passed >= LONG_SPARE && passed < LONG_SPARE * 2, "{passed:?}");
        let (step, passed) = after(&mut Growth::default(), start, 1.9, (2, 1)).unwrap();
        assert!(step == Step::Fewer && passed < Duration::from_secs(1), "{passed:?}");
    }

    #[test]
    fn as_many_as_are_to_be_there_at_least_begin_at_once_and_stay() {
        let (mut growth, start) = (Growth::default(), Instant::now());
        let may = Lanes { least: 2, most: 2 };
        assert_eq!(growth.look(start, Duration::ZERO, 1, may), Step::More);
        let idle =
            (0..1_000).map(|look| growth.look(start + Duration::from_secs(look), Duration::ZERO, 2, may));
        assert!(idle.into_iter().all(|step| step == Step::Stay));
    }

    #[test]
    fn lanes_are_as_many_as_cpus_and_the_cap_fills_and_one_where_something_is_counted() {
        let of = |budget| Lanes { least: 2, most: 4 }.of(Isolation::Thread, &budget);
        let both = |least, most| Lanes { least, most };
        assert_eq!(of(Budget::default()), both(2, 4));
        assert_eq!(of(Budget { cpu_cap_millis: Some(2_500), ..Budget::default() }), both(2, 3));
        assert_eq!(of(Budget { cpu_cap_millis: Some(200), ..Budget::default() }), both(1, 1));
        assert_eq!(of(Budget { memory_hard_bytes: Some(1), ..Budget::default() }), both(2, 4));
        assert_eq!(of(Budget { requests_per_second: Some(1), ..Budget::default() }), both(1, 1));
        assert_eq!(Lanes::of_cpus(4).of(Isolation::Process, &Budget::default()), both(1, 1));
    }
}
