//! The governor inside a cell: how fast it may go, and the pauses it makes between two turns of its loop.
//!
//! The last resort for shares, and for caps where no quota can be had. Nothing is held while it pauses: no lock, no
//! connection's turn; only its own tenant waits. It must cost one relaxed load where there is no bound.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Ledger;
use crate::sys::clock;

/// How fast a cell may go, told by others, and how long it has paused for it.
#[derive(Debug, Default)]
pub struct Pace {
    /// In millionths of a CPU; 0 is no bound.
    rate: AtomicU32,
    paused_nanos: AtomicU64,
}

impl Pace {
    /// Bounds it to this part of a CPU from now on; `None` is no bound.
    pub fn set(&self, part: Option<f64>) {
        let rate = part.map_or(0, |part| (part * 1e6).clamp(LEAST, 4e9) as u32);
        self.rate.store(rate, Relaxed);
    }

    /// The bound of now, as a part of a CPU.
    pub fn part(&self) -> Option<f64> {
        let rate = self.rate.load(Relaxed);
        (rate > 0).then(|| f64::from(rate) / 1e6)
    }

    /// The pace of a cell that goes on where an earlier one of the same tenant ended: without a bound, until it is told one.
    pub fn continued(earlier: &Self) -> Self {
        Self { rate: AtomicU32::new(0), paused_nanos: AtomicU64::new(earlier.paused_nanos.load(Relaxed)) }
    }

    /// How long the cell has paused so far.
    pub fn paused(&self) -> Duration {
        Duration::from_nanos(self.paused_nanos.load(Relaxed))
    }
}

/// What a cell keeps of its own pace. For its own thread alone.
#[derive(Debug)]
pub struct Pacer {
    ledger: Arc<Ledger>,
    bucket: Option<Bucket>,
}

impl Pacer {
    /// Of a cell with this ledger.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, bucket: None }
    }

    /// Pauses the calling thread if it has gone too fast. To be called between two turns of its loop.
    pub fn turn(&mut self) {
        let Some(part) = self.ledger.pace.part() else {
            self.bucket = None;
            return;
        };
        let (now, cpu) = (Instant::now(), clock::own_cpu());
        let bucket = self.bucket.get_or_insert(Bucket { at: now, cpu, owed: 0.0 });
        let Some(pause) = bucket.turn(now, cpu, part) else { return };
        while now.elapsed() < pause && self.ledger.pace.part() == Some(part) {
            std::thread::sleep(pause.saturating_sub(now.elapsed()).min(STEP));
        }
        let paused = self.ledger.pace.paused_nanos.load(Relaxed);
        let pause = u64::try_from(now.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.ledger.pace.paused_nanos.store(paused.saturating_add(pause), Relaxed);
    }
}

/// CPU time that was used beyond what the pace allows, in seconds; below 0: not used yet.
#[derive(Debug)]
struct Bucket {
    at: Instant,
    cpu: Duration,
    owed: f64,
}

impl Bucket {
    fn turn(&mut self, now: Instant, cpu: Duration, part: f64) -> Option<Duration> {
        let wall = now.saturating_duration_since(self.at).as_secs_f64();
        let used = cpu.saturating_sub(self.cpu).as_secs_f64();
        (self.at, self.cpu) = (now, cpu);
        self.owed = (self.owed + used - wall * part).max(-SAVED.as_secs_f64() * part);
        // What is owed is not forgotten by a pause that is cut short: over a long time the bound is exact.
        let pause = Duration::from_secs_f64((self.owed / part).clamp(0.0, LONGEST.as_secs_f64()));
        (pause >= SHORTEST).then_some(pause)
    }
}

/// The slowest pace, in millionths of a CPU: a cell has to come round to hear of a faster one.
const LEAST: f64 = 1e3;
/// What may be saved up: the pace of so long a time.
const SAVED: Duration = Duration::from_millis(10);
/// A shorter pause costs more than it saves.
const SHORTEST: Duration = Duration::from_micros(500);
/// After so long the cell comes round, whatever it owes: it beats, and is not taken for one that is blocked.
const LONGEST: Duration = Duration::from_secs(1);
/// How often it looks meanwhile whether it may go faster.
const STEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of a cell that always has work for 3 ms: how much of a CPU it has used after 10 s.
    fn used(part: f64, oversleep: Duration) -> f64 {
        let start = Instant::now();
        let (mut now, mut cpu) = (start, Duration::ZERO);
        let mut bucket = Bucket { at: now, cpu, owed: 0.0 };
        while now.duration_since(start) < Duration::from_secs(10) {
            let turn = Duration::from_millis(3);
            (now, cpu) = (now + turn, cpu + turn);
            if let Some(pause) = bucket.turn(now, cpu, part) {
                now += pause + oversleep;
            }
        }
        cpu.as_secs_f64() / now.duration_since(start).as_secs_f64()
    }

    #[test]
    fn a_cap_is_held_within_five_percent_over_ten_seconds_whatever_it_is() {
        for part in [0.02, 0.2, 0.5, 0.9] {
            let used = used(part, Duration::ZERO);
            assert!((used / part - 1.0).abs() < 0.05, "{used} of {part}");
        }
        // The kernel wakes late; that is made good as far as may be saved up.
        let used = used(0.2, Duration::from_micros(200));
        assert!((used / 0.2 - 1.0).abs() < 0.05, "{used}");
    }

    #[test]
    fn what_was_not_used_is_not_saved_up_for_a_burst() {
        let start = Instant::now();
        let mut bucket = Bucket { at: start, cpu: Duration::ZERO, owed: 0.0 };
        let (now, turn) = (start + Duration::from_secs(60), Duration::from_millis(20));
        assert_eq!(bucket.turn(now, Duration::ZERO, 0.5), None);
        let pause = bucket.turn(now + turn, turn, 0.5).unwrap();
        assert!(pause >= Duration::from_millis(9), "{pause:?}");
    }

    #[test]
    fn a_cell_without_a_bound_does_not_pause_and_a_bound_is_heard_of_at_once() {
        let ledger = Arc::new(Ledger::default());
        let mut pacer = Pacer::new(Arc::clone(&ledger));
        pacer.turn();
        assert!(pacer.bucket.is_none());
        ledger.pace.set(Some(0.05));
        pacer.turn();
        let begun = clock::own_cpu();
        while clock::own_cpu() - begun < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        pacer.turn();
        assert!(ledger.pace.paused() >= Duration::from_millis(10), "{:?}", ledger.pace.paused());
        ledger.pace.set(None);
        assert_eq!(ledger.pace.part(), None);
    }
}
