//! A timer of the kernel's that comes again and again, in the event loop of the thread that uses it.
//!
//! The event loop's own timers are kept to the millisecond and sorted by how far off they are: one that comes after 100 ms wakes its thread
//! twice, and wakes it once more when it is set again. With hundreds of cells that do nothing, that is most of what there is to
//! do. Nothing here may be used where timers are to be held still, as tests of time-outs do.

use std::{io, sync::Arc, time::Duration};

use rustix::{
    io::{Errno, read},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use super::watch::Watch;

/// Beats until it is dropped.
#[derive(Debug)]
pub struct Beat(Watch);

impl Beat {
    /// The first comes at once, the others each `period` later. Within the event loop that is to wait for them.
    pub fn every(period: Duration) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // Nothing at all would never come.
        let at_once = Timespec { tv_sec: 0, tv_nsec: 1 };
        let it_interval = Timespec::try_from(period).map_err(|_| Errno::INVAL)?;
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value: at_once })?;
        Ok(Self(Watch::new(Arc::new(timer))?))
    }

    /// Waits for the next, and says how many it was: those that passed meanwhile come together.
    pub async fn next(&self) -> io::Result<u64> {
        let mut passed = [0; size_of::<u64>()];
        let take = |timer: std::os::fd::BorrowedFd<'_>| Ok(read(timer, &mut passed).map(drop)?);
        self.0.read(take).await?;
        Ok(u64::from_ne_bytes(passed))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn beats_come_one_by_one_and_those_that_were_missed_come_together() {
        let period = Duration::from_millis(20);
        // Before the timer runs: a busy machine may stop the test between the two.
        let begun = Instant::now();
        let beat = Beat::every(period).unwrap();
        for number in 0..4 {
            assert!(beat.next().await.unwrap() >= 1);
            assert!(begun.elapsed() >= period * number, "{number} after {:?}", begun.elapsed());
        }
        std::thread::sleep(period * 5);
        assert!(beat.next().await.unwrap() >= 4);
    }
}
