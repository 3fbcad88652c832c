//! The monotonic clock in nanoseconds, one and the same for every process of a run.
//!
//! Never used for wall time: results carry a date of their own.

use std::{thread, time::Duration};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn now() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CPU time this process has used, in nanoseconds.
pub(crate) fn own_cpu() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// Seconds since 1970, for the date of a run.
pub(crate) fn wall_seconds() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime)) / SECOND
}

/// Calls `ready` every 5 ms until it says yes or `limit` has passed; says whether it did.
pub(crate) fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let end = now() + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX / 2);
    loop {
        if ready() {
            return true;
        }
        if now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// One second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// One millisecond.
pub(crate) const MILLISECOND: u64 = 1_000_000;

fn nanoseconds(t: Timespec) -> u64 {
    u64::try_from(t.tv_sec).unwrap_or(0) * SECOND + u64::try_from(t.tv_nsec).unwrap_or(0)
}
