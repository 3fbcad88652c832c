//! Whether a cell is well: a pure judgement over its heartbeat, its CPU clock and its panics.
//!
//! A cell that is starved, by others or by its budget, is not stuck: only its own CPU time counts. It must never
//! take a slow machine for a broken cell.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::sys::clock::Doing;

/// A cell that used so much of its own CPU time without a heartbeat is stuck.
pub(super) const STUCK_CPU: Duration = Duration::from_millis(500);
/// A cell that sleeps in the kernel so long without a heartbeat is blocked there.
const BLOCKED_WALL: Duration = Duration::from_secs(2);
/// So many contained panics …
const PANICS: usize = 3;
/// … in so long a time are a restart's worth.
const PANIC_WINDOW: Duration = Duration::from_secs(10);

/// The first pause before a restart; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A cell that lived so long has redeemed its earlier restarts.
const REDEEMED: Duration = Duration::from_secs(60);

/// What is known of a cell at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signs {
    /// When.
    pub(super) now: Instant,
    /// Heartbeats so far.
    pub(super) beats: u64,
    /// Its CPU clock at its last heartbeat.
    pub(super) cpu_at_beat: Duration,
    /// Its CPU clock now.
    pub(super) cpu: Duration,
    /// Panics contained so far.
    pub(super) panics: u64,
}

/// What is to be thought of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well, or it gets no CPU, which is not its fault.
    Well,
    /// It sleeps in a system call. Nothing is done about it: it may come back.
    Blocked,
    /// It runs and does not come round.
    Stuck,
    /// Too many of its connections panic.
    Panicking,
}

/// What is remembered of a cell between two looks.
#[derive(Debug)]
pub(super) struct Health {
    beats: u64,
    beat_at: Instant,
    panics_seen: u64,
    panics: VecDeque<Instant>,
}

impl Health {
    /// Of a cell that begins now, with these counters.
    pub(super) fn new(now: Instant, beats: u64, panics: u64) -> Self {
        Self { beats, beat_at: now, panics_seen: panics, panics: VecDeque::new() }
    }

    /// Judges. `doing` is asked only where it matters.
    pub(super) fn judge(&mut self, signs: Signs, doing: impl FnOnce() -> Doing) -> Verdict {
        if self.too_many_panics(signs) {
            return Verdict::Panicking;
        }
        if signs.beats != self.beats {
            (self.beats, self.beat_at) = (signs.beats, signs.now);
            return Verdict::Well;
        }
        if signs.cpu.saturating_sub(signs.cpu_at_beat) >= STUCK_CPU {
            return Verdict::Stuck;
        }
        let silent = signs.now.duration_since(self.beat_at);
        if silent >= BLOCKED_WALL && doing() == Doing::Blocked { Verdict::Blocked } else { Verdict::Well }
    }

    fn too_many_panics(&mut self, signs: Signs) -> bool {
        let new = signs.panics.saturating_sub(self.panics_seen);
        self.panics_seen = signs.panics;
        let new = usize::try_from(new).unwrap_or(PANICS).min(PANICS);
        self.panics.extend(std::iter::repeat_n(signs.now, new));
        while self.panics.front().is_some_and(|at| signs.now.duration_since(*at) > PANIC_WINDOW) {
            self.panics.pop_front();
        }
        self.panics.len() >= PANICS
    }
}

/// How long to wait before the next restart.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Option<Duration>,
}

impl Backoff {
    /// The pause after a cell that lived for `lived`.
    pub(super) fn next(&mut self, lived: Duration) -> Duration {
        let doubled = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        let pause = if lived >= REDEEMED { FIRST_PAUSE } else { doubled };
        self.pause = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(start: Instant, after_ms: u64) -> Signs {
        let now = start + Duration::from_millis(after_ms);
        Signs { now, beats: 1, cpu_at_beat: Duration::ZERO, cpu: Duration::ZERO, panics: 0 }
    }

    #[test]
    fn stuck_is_a_matter_of_the_cells_own_cpu_time() {
        let start = Instant::now();
        let mut health = Health::new(start, 1, 0);
        let starved = signs(start, 60_000);
        assert_eq!(health.judge(starved, || Doing::Runnable), Verdict::Well);
        let busy = Signs { cpu: STUCK_CPU, ..signs(start, 60_100) };
        assert_eq!(health.judge(busy, || Doing::Runnable), Verdict::Stuck);
        let alive = Signs { beats: 2, cpu: STUCK_CPU, ..signs(start, 60_200) };
        assert_eq!(health.judge(alive, || Doing::Runnable), Verdict::Well);
    }

    #[test]
    fn a_cell_that_loops_is_found_within_a_second_of_its_last_beat() {
        use super::super::{lane::BEAT, supervisor::ROUND};
        let start = Instant::now();
        let mut health = Health::new(start, 1, 0);
        // It has beaten just before it began to loop, and is looked at just before each time.
        let looks = (1_u64..).map(|look| look * u64::try_from(ROUND.as_millis()).unwrap());
        let found = looks.take(100).find(|after| {
            let cpu = Duration::from_millis(*after).saturating_sub(BEAT);
            health.judge(Signs { cpu, ..signs(start, *after) }, || Doing::Runnable) == Verdict::Stuck
        });
        assert!(found.is_some_and(|after| after < 1_000), "{found:?}");
    }

    #[test]
    fn a_cell_asleep_in_the_kernel_is_told_apart() {
        let start = Instant::now();
        let mut health = Health::new(start, 1, 0);
        assert_eq!(health.judge(signs(start, 1_900), || Doing::Blocked), Verdict::Well);
        assert_eq!(health.judge(signs(start, 2_000), || Doing::Blocked), Verdict::Blocked);
    }

    #[test]
    fn three_panics_in_ten_seconds_are_too_many_and_three_in_thirty_are_not() {
        let start = Instant::now();
        let panicked = |panics, after| Signs { panics, ..signs(start, after) };
        let mut slow = Health::new(start, 1, 0);
        for (panics, after) in [(1, 0), (2, 11_000), (3, 22_000)] {
            assert_ne!(slow.judge(panicked(panics, after), || Doing::Runnable), Verdict::Panicking);
        }
        let mut fast = Health::new(start, 1, 0);
        assert_ne!(fast.judge(panicked(2, 0), || Doing::Runnable), Verdict::Panicking);
        assert_eq!(fast.judge(panicked(3, 9_000), || Doing::Runnable), Verdict::Panicking);
    }

    #[test]
    fn pauses_double_to_a_bound_and_are_forgiven() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..11).map(|_| backoff.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses[..3], [100, 200, 400]);
        assert_eq!(pauses[10], 30_000);
        assert_eq!(backoff.next(REDEEMED), FIRST_PAUSE);
    }
}
