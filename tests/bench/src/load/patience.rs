//! How long answers are waited for after the counted time: time in which the machine ran, not time in which a hypervisor
//! had it stand still.
//!
//! A virtual machine that is halted for two seconds answers nothing meanwhile; that is no failure of a subject's. One that
//! runs and does not answer is, whatever else the machine does.

use crate::{clock::MILLISECOND, lab::procfs};

/// A stock of waiting time that only running time uses up.
#[derive(Debug)]
pub(super) struct Patience {
    left: u64,
    last: u64,
    stolen: u64,
}

impl Patience {
    /// So many nanoseconds, from `now` on.
    pub(super) fn new(nanoseconds: u64, now: u64) -> Self {
        Self { left: nanoseconds, last: now, stolen: procfs::stolen_ns() }
    }

    /// Whether some is left at `now`. To be asked every millisecond or so.
    pub(super) fn lasts(&mut self, now: u64) -> bool {
        self.spend(now, procfs::stolen_ns());
        self.left > 0
    }

    fn spend(&mut self, now: u64, stolen: u64) {
        let passed = now.saturating_sub(self.last).min(LONGEST_STEP);
        let taken = stolen.saturating_sub(self.stolen);
        self.left = self.left.saturating_sub(passed.saturating_sub(taken));
        (self.last, self.stolen) = (now, stolen);
    }
}

/// Who asks again after more than this was not running itself in between.
const LONGEST_STEP: u64 = 50 * MILLISECOND;

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience { left: 100 * MILLISECOND, last: 0, stolen: 0 }
    }

    #[test]
    fn time_that_passes_uses_it_up() {
        let mut patience = patience();
        for step in 1..=9 {
            patience.spend(step * 10 * MILLISECOND, 0);
        }
        assert_eq!(patience.left, 10 * MILLISECOND);
        patience.spend(100 * MILLISECOND, 0);
        assert_eq!(patience.left, 0);
    }

    #[test]
    fn time_that_a_hypervisor_took_does_not() {
        let mut patience = patience();
        for step in 1..=9 {
            patience.spend(step * 10 * MILLISECOND, step * 10 * MILLISECOND);
        }
        assert_eq!(patience.left, 100 * MILLISECOND);
    }

    #[test]
    fn a_halt_of_the_whole_machine_counts_as_one_step() {
        let mut patience = patience();
        patience.spend(9_000 * MILLISECOND, 0);
        assert_eq!(patience.left, 50 * MILLISECOND);
    }
}
