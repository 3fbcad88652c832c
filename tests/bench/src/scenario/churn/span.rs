//! The time in which changes are made, or none are, and what the proxy used in it.
//!
//! It begins before the victim's counted time and ends after it. Changes are due at fixed times, whatever came of those before.

use std::{thread, time::Duration};

use super::{CHANGES, edit};
use crate::{
    clock::{self, SECOND},
    error::BenchError,
    lab::procfs::Ran,
    role::Witnessed,
    subject::{Edit, Following},
};

/// What was done and used.
#[derive(Debug, Default)]
pub(super) struct Span {
    pub(super) elapsed_ns: u64,
    pub(super) cpu_ns: u64,
    /// Of the control plane's messages to the proxy.
    pub(super) bytes: u64,
    /// Changes that the control plane was told.
    pub(super) changes: u64,
    /// Those that were broken, counted or not.
    pub(super) broken: u64,
    /// Numbers of those that can be seen, and when each was begun to be told.
    pub(super) marks: Vec<(u64, u64)>,
}

/// From when each change that can be seen was told to the first answer that showed it.
#[derive(Debug, Default)]
pub(super) struct Effective {
    pub(super) took_ns: Vec<u64>,
    /// Those that no answer showed.
    pub(super) never: u64,
}

impl Span {
    /// Makes changes for so long, if any are to be made; and a few more that are not counted, while the load ends.
    pub(super) fn pass(subject: &mut Following, churns: bool, lasts_ms: u64) -> Result<Self, BenchError> {
        let mut span = Self::default();
        let turns = lasts_ms * CHANGES / 1_000;
        let (ran, sent, begun) = (ran(subject)?, subject.totals()?.sent, clock::now());
        for turn in 0..turns {
            sleep_until(begun + turn * SECOND / CHANGES);
            if churns {
                span.change(subject)?;
            }
        }
        sleep_until(begun + turns * SECOND / CHANGES);
        span.elapsed_ns = clock::now() - begun;
        span.cpu_ns = self::ran(subject)?.since(&ran);
        span.bytes = subject.totals()?.sent - sent;
        let mut uncounted = Self::default();
        for turn in (turns..turns + FURTHER).filter(|_| churns) {
            sleep_until(begun + turn * SECOND / CHANGES);
            uncounted.change(subject)?;
        }
        span.broken += uncounted.broken;
        Ok(span)
    }

    fn change(&mut self, subject: &mut Following) -> Result<(), BenchError> {
        let number = subject.take_number();
        let edit = edit(number);
        if let Some(told) = subject.tell(edit)? {
            self.changes += 1;
            self.broken += u64::from(matches!(edit, Edit::Broken { .. }));
            if edit == Edit::Mark(number) {
                self.marks.push((number, told));
            }
        }
        Ok(())
    }

    /// When its changes were seen. Who has seen a later one has seen those before.
    pub(super) fn effective(&self, witnessed: &Witnessed) -> Effective {
        let mut effective = Effective::default();
        for (number, told) in &self.marks {
            match witnessed.seen.iter().find(|(seen, _)| seen >= number) {
                Some((_, at)) => effective.took_ns.push(at.saturating_sub(*told)),
                None => effective.never += 1,
            }
        }
        effective
    }
}

fn ran(subject: &Following) -> Result<Ran, BenchError> {
    Ran::of(subject.pid()).map_err(|e| BenchError::io("read how long the proxy has run", e))
}

fn sleep_until(at: u64) {
    thread::sleep(Duration::from_nanos(at.saturating_sub(clock::now())));
}

/// Changes that are made after the counted ones, until the load has ended.
const FURTHER: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_obeyed_when_it_or_a_later_one_is_seen() {
        let span =
            Span { marks: vec![(10, 1_000), (12, 2_000), (14, 3_000), (16, 4_000)], ..Span::default() };
        let seen = vec![(8, 500), (10, 1_400), (14, 3_900)];
        let effective = span.effective(&Witnessed { seen, ..Witnessed::default() });
        assert_eq!((effective.took_ns, effective.never), (vec![400, 1_900, 900], 1));
    }
}
