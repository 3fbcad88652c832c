//! What was not served in time, for load of which that is a figure and no failure: a victim's, whose neighbour takes
//! all there is.
//!
//! Nothing that was due goes uncounted: it was served in time, or it counts with the longest time that is waited for.

use super::{Engine, LoadError};
use crate::clock::{self, MILLISECOND};

impl Engine<'_> {
    /// After how long an exchange counts as unserved, where that is no failure.
    pub(super) fn unserved_after(&self) -> Option<u64> {
        self.spec.manner.unserved_ms.map(|ms| ms * MILLISECOND)
    }

    /// Counts an exchange that was answered and belongs to the counted time.
    pub(super) fn count(&mut self, latency: u64) {
        match self.unserved_after() {
            Some(longest) if latency > longest => self.miss(1, longest),
            _ => {
                self.report.exchanges += 1;
                self.latencies.record(latency);
            }
        }
    }

    /// Waits for the answers under way, sends nothing more, and counts what is left.
    pub(super) fn count_unserved(&mut self, longest: u64) -> Result<(), LoadError> {
        // What was due before the counted time and is still to be sent is not of it.
        let most = self.due.as_ref().map_or(0, |due| (self.report.elapsed_ns as f64 / due.interval) as u64);
        let unsent = self.overdue().min(most);
        self.last_due = 0;
        let end = clock::now() + longest;
        while self.in_flight > 0 && clock::now() < end {
            self.wait(MILLISECOND)?;
        }
        self.miss(unsent + self.in_flight as u64, longest);
        Ok(())
    }

    fn miss(&mut self, exchanges: u64, longest: u64) {
        self.report.unserved += exchanges;
        for _ in 0..exchanges {
            self.latencies.record(longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener},
        thread,
        time::Duration,
    };

    use crate::load::{Exchange, LoadSpec, Manner, engine::run};

    /// Echoes 8 bytes at a time on one connection, each after a pause.
    fn slow_echo(pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut buffer = [0; 8];
            while peer.read_exact(&mut buffer).is_ok() {
                thread::sleep(pause);
                if peer.write_all(&buffer).is_err() {
                    return;
                }
            }
        });
        address
    }

    fn spec(target: SocketAddr, unserved_ms: u64) -> LoadSpec {
        LoadSpec {
            cpu: 0,
            target,
            exchange: Exchange::Echo { bytes: 8 },
            connections: 1,
            rate: Some(100.0),
            warm_up_ms: 0,
            measure_ms: 500,
            watch: Vec::new(),
            manner: Manner { unserved_ms: Some(unserved_ms), ..Manner::default() },
        }
    }

    #[test]
    fn what_a_slow_server_leaves_unserved_counts_with_the_longest_time_and_is_no_error() {
        // One answer in 40 ms of 100 a second: a quarter or less can be sent at all.
        let report = run(&spec(slow_echo(Duration::from_millis(40)), 1_000)).unwrap();
        assert_eq!(report.errors, 0, "{report:?}");
        assert!((1..=15).contains(&report.exchanges), "{report:?}");
        assert!((48..=52).contains(&(report.exchanges + report.unserved)), "{report:?}");
        assert!(report.p50_ns > 900_000_000, "{report:?}");
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_served() {
        let report = run(&spec(slow_echo(Duration::from_millis(60)), 20)).unwrap();
        assert_eq!((report.exchanges, report.errors), (0, 0), "{report:?}");
        assert!(report.unserved > 40, "{report:?}");
    }
}
