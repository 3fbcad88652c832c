//! What works for a tenant beside the cell that serves it now, and what has worked for it: cells that were given up or have had to
//! make room, and the thread that passes messages on to a process. What they use of the CPU is the tenant's.
//!
//! It must never count anything twice: a cell that follows another goes on with what that one's ledger said, and only what is more
//! than that is put down here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::forest::lane::{Clock, Lane};

/// Of one tenant.
#[derive(Debug, Default)]
pub(super) struct Past {
    formers: Vec<Former>,
    /// Of those that have ended, in the daemon's process.
    ended: Duration,
    /// Of those that have ended, what no ledger of theirs has said to a successor.
    beside: Duration,
}

/// A cell that serves no more.
#[derive(Debug)]
struct Former {
    clock: Arc<Clock>,
    /// The CPU time of its process, in nanoseconds, where it has one.
    process: Option<Arc<AtomicU64>>,
    /// What its ledger said when it began.
    before: Duration,
    /// How much of its own its successor's ledger has gone on with; none as long as it has no successor.
    counted: Option<Duration>,
    /// Whether it is in the books of another keeper of the tenant.
    elsewhere: bool,
}

impl Past {
    /// A cell serves no more, that began when its ledger said `before`.
    pub(super) fn leaves(&mut self, lane: &Lane, before: Duration) {
        let process = lane.process.as_ref().map(|process| Arc::clone(&process.used));
        let clock = Arc::clone(&lane.clock);
        self.formers.push(Former { clock, process, before, counted: None, elsewhere: false });
    }

    /// A ledger goes on with what that of the last cell said: `said`.
    pub(super) fn succeeded(&mut self, said: Duration) {
        for former in self.formers.iter_mut().filter(|former| former.counted.is_none()) {
            former.counted = Some(said.saturating_sub(former.before));
        }
    }

    /// What another keeper of the same tenant goes on with, whose ledger begins with what this one's said. Its cell, if it still has
    /// one, began with `before`.
    pub(super) fn for_successor(&self, cell: Option<(&Lane, Duration)>, said: Duration) -> Self {
        let former = |former: &Former| Former {
            clock: Arc::clone(&former.clock),
            process: former.process.clone(),
            before: former.before,
            counted: former.counted,
            elsewhere: true,
        };
        let mut past = Self {
            formers: self.formers.iter().map(former).collect(),
            ended: Duration::ZERO,
            beside: self.beside,
        };
        if let Some((lane, before)) = cell {
            past.leaves(lane, before);
        }
        past.formers.iter_mut().for_each(|former| former.elsewhere = true);
        past.succeeded(said);
        past
    }

    /// Lets go of those that have ended, and keeps what they have used.
    pub(super) fn settle(&mut self) {
        let has_ended = |former: &mut Former| former.counted.is_some() && former.clock.has_ended();
        for former in self.formers.extract_if(.., has_ended) {
            self.beside += former.beside();
            self.ended += former.here();
        }
    }

    /// CPU time that is in no ledger of a cell, with that of the present one's warden, if it has one.
    pub(super) fn beside(&self, present: Option<&Lane>) -> Duration {
        let warden =
            present.filter(|lane| lane.is_process()).map_or(Duration::ZERO, |lane| lane.clock.used());
        self.beside + warden + self.formers.iter().map(Former::beside).sum::<Duration>()
    }

    /// CPU time of the daemon's process that those have used that have ended, and the clocks of the others.
    pub(super) fn here(&self) -> (Duration, impl Iterator<Item = &Arc<Clock>>) {
        let own = self.formers.iter().filter(|former| !former.elsewhere);
        (self.ended, own.map(|former| &former.clock))
    }
}

impl Former {
    fn here(&self) -> Duration {
        if self.elsewhere { Duration::ZERO } else { self.clock.used() }
    }

    fn beside(&self) -> Duration {
        let here = self.clock.used();
        match (self.counted, &self.process) {
            // Its own ledger still is the tenant's, and says all but what its warden has used.
            (None, None) => Duration::ZERO,
            (None, Some(_)) => here,
            (Some(counted), None) => here.saturating_sub(counted),
            (Some(counted), Some(process)) => {
                let process = Duration::from_nanos(process.load(Relaxed));
                here + process.saturating_sub(counted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::{
        forest::lane::{Apart, Ending},
        sys::clock,
    };

    const BURNT: Duration = Duration::from_millis(60);

    /// A lane that has used so much, and ends when the sender is dropped.
    fn lane(process: Option<Apart>) -> (Lane, mpsc::Sender<()>) {
        let (stop, stopped) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let clock = Arc::new(Clock::default());
        let its = Arc::clone(&clock);
        let thread = thread::spawn(move || {
            let _running = its.begins();
            while clock::own_cpu() < BURNT {
                std::hint::spin_loop();
            }
            tell.send(()).unwrap();
            let _ = stopped.recv();
            Ok(Ending::Finished)
        });
        told.recv().unwrap();
        (Lane { thread, id: Arc::default(), clock, process }, stop)
    }

    /// Its clock may go on a little while it waits.
    fn is_about(found: Duration, wanted: Duration) -> bool {
        (wanted..wanted + BURNT / 2).contains(&found)
    }

    #[test]
    fn what_a_cell_uses_after_its_successor_has_taken_up_its_ledger_is_put_down_and_nothing_twice() {
        let (lane, stop) = lane(None);
        let (mut past, before) = (Past::default(), Duration::from_secs(5));
        assert_eq!(past.beside(Some(&lane)), Duration::ZERO, "a thread says itself what it uses");
        past.leaves(&lane, before);
        assert_eq!(past.beside(None), Duration::ZERO, "its ledger still is the tenant's");
        past.succeeded(before + BURNT / 3);
        let rest = BURNT - BURNT / 3;
        assert!(is_about(past.beside(None), rest), "{:?}", past.beside(None));
        assert_eq!(past.here().1.count(), 1);
        drop(stop);
        lane.thread.join().unwrap().unwrap();
        past.settle();
        past.succeeded(Duration::from_secs(9));
        assert!(past.formers.is_empty() && is_about(past.beside(None), rest), "{past:?}");
        assert!(is_about(past.here().0, BURNT), "{past:?}");
    }

    #[test]
    fn a_processs_time_is_its_ledgers_to_say_and_that_of_its_warden_is_put_down_beside_it() {
        let apart = Apart::default();
        let (lane, _stop) = lane(Some(apart.clone()));
        let mut past = Past::default();
        assert!(is_about(past.beside(Some(&lane)), BURNT));
        let second = Duration::from_secs(1);
        apart.used.store(u64::try_from(second.as_nanos()).unwrap(), Relaxed);
        past.leaves(&lane, Duration::ZERO);
        assert!(is_about(past.beside(None), BURNT));
        past.succeeded(second / 2);
        assert!(is_about(past.beside(None), BURNT + second / 2));
        let (ended, clocks) = past.here();
        let here = ended + clocks.map(|clock| clock.used()).sum::<Duration>();
        assert!(is_about(here, BURNT), "what a process uses is none of the daemon's own: {here:?}");
    }

    #[test]
    fn what_two_keepers_of_a_tenant_know_of_is_on_its_counter_and_once_in_the_balance() {
        let (lane, _stop) = lane(None);
        let mut past = Past::default();
        let next = past.for_successor(Some((&lane, Duration::ZERO)), BURNT / 3);
        assert!(is_about(next.beside(None), BURNT - BURNT / 3));
        past.leaves(&lane, Duration::ZERO);
        let last = past.for_successor(None, BURNT / 2);
        assert!(is_about(last.beside(None), BURNT - BURNT / 2));
        assert_eq!((past.here().1.count(), next.here().1.count(), last.here().1.count()), (1, 0, 0));
    }
}
