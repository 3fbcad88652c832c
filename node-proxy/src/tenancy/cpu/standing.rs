//! Who stands where: a pure judgement over what a cell used and waited for, and what is its fair part.
//!
//! A cell that wants a good part of a CPU and has more than its fair part goes behind all others: it still has whatever they
//! leave. One that has fallen behind its part is put back at once. It must never take a cell that waits for one that is idle.

use std::time::Duration;

/// Where a cell stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Band {
    /// Before those that have more than their part.
    #[default]
    Within,
    /// Behind them: it gets what is left, and its share in any case.
    Over,
}

/// What is known of a cell after a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// How long the while was.
    pub wall: Duration,
    /// CPU time that it used.
    pub used: Duration,
    /// Time that it waited for a CPU, where the kernel says it.
    pub waited: Duration,
}

/// What is remembered of a cell from one look to the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    band: Band,
    /// What it wanted lately, as a part of a CPU: used or waited for.
    wanted: f64,
    /// What it used lately, as a part of a CPU.
    used: f64,
    /// What it is behind its fair part, in CPU time; no more than puts it back.
    behind: Duration,
    is_sated: bool,
}

impl Standing {
    /// Where it stands.
    pub fn band(&self) -> Band {
        self.band
    }

    /// What it wanted lately, as a part of a CPU.
    pub fn wanted(&self) -> f64 {
        self.wanted
    }

    /// What it used lately, as a part of a CPU.
    pub fn used(&self) -> f64 {
        self.used
    }

    /// Whether it wants a good part of a CPU and has about all that is its part, in whichever band: nobody has to be
    /// interrupted for it.
    pub fn is_sated(&self) -> bool {
        self.is_sated
    }

    /// Takes in a reading. `fair` is the part of a CPU that is the cell's whoever else wants one.
    pub fn look(&mut self, reading: Reading, fair: f64) -> Band {
        let wall = reading.wall.as_secs_f64();
        if wall <= 0.0 {
            return self.band;
        }
        let wanted = ((reading.used + reading.waited).as_secs_f64() / wall).min(1.0);
        // Looks of different lengths weigh as long as they were.
        let fresh = (wall / MEMORY.as_secs_f64()).min(1.0);
        self.wanted += (wanted - self.wanted) * fresh;
        self.used += (reading.used.as_secs_f64() / wall - self.used) * fresh;
        let part = Duration::from_secs_f64(wall * fair.clamp(0.0, 1.0));
        self.behind = (self.behind + part).saturating_sub(reading.used);
        // Who wants nothing is not behind.
        if wanted < fair * ENOUGH && wanted < HEAVY {
            self.behind = Duration::ZERO;
        }
        let most = PATIENCE.mul_f64(fair.clamp(0.0, 1.0)).max(SLICE);
        self.behind = self.behind.min(most);
        self.band = match self.band {
            Band::Within if self.wanted >= HEAVY && self.behind.is_zero() => Band::Over,
            Band::Over if self.behind >= most || self.wanted < HEAVY * LIGHTER => Band::Within,
            band => band,
        };
        let (heavy, enough) = if self.is_sated { (HEAVY * LIGHTER, HUNGRY) } else { (HEAVY, SATED) };
        self.is_sated = self.wanted >= heavy && self.used >= fair * enough;
        self.band
    }
}

/// What of the CPUs is a cell's whoever else wants one: of all of them less the reserve, by weight, and never more than as many as
/// it has lanes.
pub fn fair(share_millis: u64, all_millis: u64, cpus: f64, reserve_millis: u64, lanes: f64) -> f64 {
    let divided = (cpus - reserve_millis as f64 / 1e3).max(cpus / 2.0);
    // A guarantee is one also where others make the sum of all larger than the machine is: then all shrink alike.
    let guaranteed = share_millis as f64 / 1e3;
    let part = share_millis as f64 / all_millis.max(share_millis).max(1) as f64 * divided;
    if all_millis as f64 / 1e3 <= divided { part.max(guaranteed).min(lanes) } else { part.min(lanes) }
}

/// A cell that wants less of a CPU than this never goes behind others: it cannot be what they wait for.
const HEAVY: f64 = 0.3;
/// Of that, the part below which a cell is no longer heavy.
const LIGHTER: f64 = 0.7;
/// Of its fair part, what a cell has to want to be behind it.
const ENOUGH: f64 = 0.9;
/// Of its fair part, what a cell has to have to interrupt nobody any more …
const SATED: f64 = 0.75;
/// … and what it has to have less than to do so again.
const HUNGRY: f64 = 0.6;
/// How long what was wanted is remembered.
const MEMORY: Duration = Duration::from_millis(40);
/// A cell that has fallen behind by what is its part of so long a time is put back …
const PATIENCE: Duration = Duration::from_millis(10);
/// … but not for less than a scheduler's slice: many equals take turns by whole ones.
const SLICE: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(10);

    fn reading(used: f64, waited: f64) -> Reading {
        Reading { wall: LOOK, used: LOOK.mul_f64(used), waited: LOOK.mul_f64(waited) }
    }

    fn after(standing: &mut Standing, looks: usize, reading: Reading, fair: f64) -> Band {
        (0..looks).map(|_| standing.look(reading, fair)).last().unwrap()
    }

    #[test]
    fn a_cell_that_takes_all_goes_behind_and_one_that_takes_little_does_not() {
        let mut hog = Standing::default();
        assert_eq!(after(&mut hog, 10, reading(0.95, 0.05), 0.45), Band::Over);
        let mut victim = Standing::default();
        assert_eq!(after(&mut victim, 1_000, reading(0.03, 0.02), 0.45), Band::Within);
        // With a hundred tenants a part is small; using more than it is no reason while it is little in all.
        assert_eq!(after(&mut victim, 1_000, reading(0.10, 0.10), 0.009), Band::Within);
    }

    #[test]
    fn a_cell_that_falls_behind_its_share_is_put_back_within_two_looks() {
        let mut cell = Standing::default();
        after(&mut cell, 100, reading(0.95, 0.05), 0.45);
        assert_eq!(cell.band(), Band::Over);
        let starved = reading(0.0, 1.0);
        assert_eq!(after(&mut cell, 2, starved, 0.45), Band::Within);
        // It is not put behind again before it has had what it was behind.
        assert_eq!(cell.look(reading(0.2, 0.8), 0.45), Band::Within);
    }

    #[test]
    fn what_is_left_over_may_be_taken_from_behind_for_ever_without_being_put_back() {
        let mut cell = Standing::default();
        after(&mut cell, 20, reading(0.8, 0.2), 0.45);
        let bands: Vec<Band> = (0..1_000).map(|_| cell.look(reading(0.8, 0.2), 0.45)).collect();
        assert!(bands.iter().all(|band| *band == Band::Over));
    }

    #[test]
    fn many_equals_that_take_turns_by_slices_are_not_behind() {
        // Ten of them on one CPU: 4 ms for each, then 36 for the others.
        let mut cell = Standing::default();
        after(&mut cell, 20, reading(0.5, 0.5), 0.09);
        for look in 0..1_000 {
            let has_its_turn = look % 4 == 0;
            let band = cell.look(if has_its_turn { reading(0.4, 0.6) } else { reading(0.0, 1.0) }, 0.09);
            assert_eq!(band, Band::Over, "at {look}");
        }
    }

    #[test]
    fn a_busy_cell_is_sated_with_about_its_part_in_either_band_and_hungry_well_below_it() {
        let mut cell = Standing::default();
        assert_eq!(after(&mut cell, 20, reading(0.40, 0.5), 0.45), Band::Within);
        assert!(cell.is_sated());
        assert_eq!(after(&mut cell, 20, reading(0.55, 0.4), 0.45), Band::Over);
        assert!(cell.is_sated());
        after(&mut cell, 20, reading(0.29, 0.6), 0.45);
        assert!(cell.is_sated(), "it is not changed for every look");
        after(&mut cell, 20, reading(0.20, 0.7), 0.45);
        assert!(!cell.is_sated());
        after(&mut cell, 20, reading(0.29, 0.6), 0.45);
        assert!(!cell.is_sated(), "nor back");
        // What wants little interrupts whoever runs, however small its part is.
        after(&mut cell, 20, reading(0.10, 0.1), 0.009);
        assert!(!cell.is_sated());
    }

    #[test]
    fn a_cell_that_has_become_quiet_is_put_back() {
        let mut cell = Standing::default();
        after(&mut cell, 20, reading(0.95, 0.05), 0.45);
        assert_eq!(after(&mut cell, 30, reading(0.01, 0.0), 0.45), Band::Within);
    }

    #[test]
    fn guaranteed_shares_are_kept_where_they_fit_and_shrink_alike_where_they_do_not() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        // 500 m and 100 m on one CPU, of which 100 m are kept: what is left is divided 5 : 1.
        near(fair(500, 600, 1.0, 100, 1.0), 0.75);
        near(fair(100, 600, 1.0, 100, 1.0), 0.15);
        // 800 m twice do not fit.
        near(fair(800, 1_600, 1.0, 100, 1.0), 0.45);
        // One thread uses one CPU.
        near(fair(100, 200, 8.0, 100, 1.0), 1.0);
        near(fair(100, 200, 8.0, 100, 3.0), 3.0);
        near(fair(100, 200, 8.0, 100, 8.0), 3.95);
        // Alone.
        near(fair(100, 100, 1.0, 100, 1.0), 0.9);
    }
}
