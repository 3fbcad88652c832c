//! The event loop of the load generator: one thread, one epoll set.
//!
//! Closed loop: a connection sends as soon as it has its answer. Open loop: exchange number k is due at start + k/rate
//! whatever came of those before it, and its latency counts from then; so no answer that is late hides the next.
//! It never counts an exchange that was not answered, and waits for those under way before it ends.

use std::collections::VecDeque;

use rustix::{
    event::{PollFd, PollFlags, epoll, poll},
    time::Timespec,
};

use super::{
    LoadError, LoadReport, LoadSpec, connection::Connection, histogram::Histogram, patience::Patience,
    places::Places,
};
use crate::{
    clock::{self, MILLISECOND, SECOND},
    lab::procfs,
};

mod unserved;

/// Sends the load and says what came of it.
pub(crate) fn run(spec: &LoadSpec) -> Result<LoadReport, LoadError> {
    let mut engine = Engine::new(spec)?;
    engine.open_all()?;
    engine.warm_up()?;
    engine.measure()?;
    engine.drain()?;
    Ok(engine.finish())
}

struct Engine<'a> {
    spec: &'a LoadSpec,
    places: Places,
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Option<Connection>>,
    /// Connections with room for an exchange; as often as they have room.
    idle: VecDeque<usize>,
    dirty: Vec<usize>,
    due: Option<Due>,
    buffer: Vec<u8>,
    done: Vec<u64>,
    latencies: Histogram,
    /// The counted time, as far as it has begun and ended.
    counted: Option<(u64, u64)>,
    /// What is due from then on is not sent any more.
    last_due: u64,
    in_flight: usize,
    report: LoadReport,
}

/// When the next exchange is due.
struct Due {
    start: u64,
    interval: f64,
    next: u64,
}

impl Due {
    fn at(&self) -> u64 {
        self.start + (self.next as f64 * self.interval) as u64
    }
}

impl<'a> Engine<'a> {
    fn new(spec: &'a LoadSpec) -> Result<Self, LoadError> {
        let size = if matches!(spec.exchange, super::Exchange::Bulk { .. }) { 1 << 20 } else { 64 << 10 };
        Ok(Self {
            spec,
            places: Places::open(&spec.manner.places)?,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: (0..spec.connections).map(|_| None).collect(),
            idle: VecDeque::new(),
            dirty: Vec::new(),
            due: None,
            buffer: vec![0; size],
            done: Vec::new(),
            latencies: Histogram::new(),
            counted: None,
            last_due: u64::MAX,
            in_flight: 0,
            report: LoadReport::default(),
        })
    }

    fn open_all(&mut self) -> Result<(), LoadError> {
        for index in 0..self.spec.connections {
            if !self.spec.exchange.is_one_shot() {
                self.open(index)?;
            }
            self.idle.extend(std::iter::repeat_n(index, self.spec.exchange.concurrency()));
        }
        self.due = self.spec.rate.map(|rate| Due { start: clock::now(), interval: 1e9 / rate, next: 0 });
        Ok(())
    }

    fn open(&mut self, index: usize) -> Result<(), LoadError> {
        let connection = self.places.within(index, |target| {
            Connection::open(target.unwrap_or(self.spec.target), &self.spec.exchange)
        })?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &connection, epoll::EventData::new_u64(index as u64), flags)?;
        self.connections[index] = Some(connection);
        self.report.connections_in_all += 1;
        Ok(())
    }

    fn warm_up(&mut self) -> Result<(), LoadError> {
        let end = clock::now() + self.spec.warm_up_ms * MILLISECOND;
        self.run_until(end)
    }

    fn measure(&mut self) -> Result<(), LoadError> {
        let cpu = self.cpu_times();
        let start = clock::now();
        self.latencies.clear();
        self.report.exchanges = 0;
        let end = start + self.spec.measure_ms * MILLISECOND;
        self.counted = Some((start, end));
        self.run_until(end)?;
        let stop = clock::now();
        self.counted = Some((start, stop));
        self.last_due = stop;
        self.report.elapsed_ns = stop - start;
        let (watched, own) = self.cpu_times();
        self.report.watched_cpu_ns = watched.saturating_sub(cpu.0);
        self.report.own_cpu_ns = own.saturating_sub(cpu.1);
        Ok(())
    }

    fn cpu_times(&self) -> (u64, u64) {
        let watched = self.spec.watch.iter().filter_map(|pid| procfs::cpu_ns(*pid).ok()).sum();
        (watched, clock::own_cpu())
    }

    fn run_until(&mut self, end: u64) -> Result<(), LoadError> {
        loop {
            let now = clock::now();
            if now >= end {
                return Ok(());
            }
            self.send_due(now)?;
            let wake = self.next_wake(end);
            self.wait(wake.saturating_sub(clock::now()))?;
        }
    }

    /// When there is something to do even if nothing is received.
    fn next_wake(&self, end: u64) -> u64 {
        match &self.due {
            Some(due) if !self.idle.is_empty() => due.at().min(end),
            _ => end,
        }
    }

    fn send_due(&mut self, now: u64) -> Result<(), LoadError> {
        let ended = self.ended();
        while !self.idle.is_empty() {
            let intended = match &mut self.due {
                None if ended => break,
                None => now,
                Some(due) if due.at() <= now && due.at() < self.last_due => {
                    due.next += 1;
                    due.start + ((due.next - 1) as f64 * due.interval) as u64
                }
                Some(_) => break,
            };
            if let Some(index) = self.idle.pop_front() {
                self.send(index, intended)?;
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            if let Some(Err(e)) = self.connections[index].as_mut().map(Connection::flush) {
                self.failed(index, &e)?;
            }
        }
        self.dirty = dirty;
        Ok(())
    }

    fn send(&mut self, index: usize, intended: u64) -> Result<(), LoadError> {
        if self.connections[index].is_none() {
            self.open(index)?;
        }
        if let Some(connection) = &mut self.connections[index] {
            connection.request(intended);
            self.in_flight += 1;
            if self.dirty.last() != Some(&index) {
                self.dirty.push(index);
            }
        }
        Ok(())
    }

    fn wait(&mut self, nanoseconds: u64) -> Result<(), LoadError> {
        let timeout =
            Timespec { tv_sec: (nanoseconds / SECOND) as i64, tv_nsec: (nanoseconds % SECOND) as i64 };
        if self.due.is_some() {
            // `epoll_wait` counts in whole milliseconds, `ppoll` does not.
            let mut set = [PollFd::new(&self.epoll, PollFlags::IN)];
            match poll(&mut set, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(()),
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        let ready: Vec<(usize, epoll::EventFlags)> =
            match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
                Ok((ready, _)) => ready.iter().map(|e| (e.data.u64() as usize, e.flags)).collect(),
                Err(rustix::io::Errno::INTR) => Vec::new(),
                Err(e) => return Err(e.into()),
            };
        for (index, flags) in ready {
            self.on_event(index, flags)?;
        }
        Ok(())
    }

    fn on_event(&mut self, index: usize, flags: epoll::EventFlags) -> Result<(), LoadError> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let readable =
            flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        let mut done = std::mem::take(&mut self.done);
        let outcome = if readable { connection.receive(&mut self.buffer, &mut done) } else { Ok(()) };
        let outcome = outcome.and_then(|()| connection.flush());
        let now = clock::now();
        for intended in done.drain(..) {
            self.answered(index, intended, now);
        }
        self.done = done;
        if let Err(e) = outcome {
            self.failed(index, &e)?;
        }
        self.send_due(now)
    }

    fn answered(&mut self, index: usize, intended: u64, now: u64) {
        self.in_flight -= 1;
        self.report.exchanges_in_all += 1;
        if self.counts(intended, now) {
            self.count(now.saturating_sub(intended));
        }
        if self.spec.exchange.is_one_shot() {
            self.connections[index] = None;
        }
        self.idle.push_back(index);
    }

    /// Open loop: what was due in the counted time. Closed loop: what was answered in it.
    fn counts(&self, intended: u64, now: u64) -> bool {
        let moment = if self.due.is_some() { intended } else { now };
        self.counted.is_some_and(|(start, end)| (start..end).contains(&moment))
    }

    /// Counts the failure and goes on with a fresh connection; gives up after too many.
    fn failed(&mut self, index: usize, error: &LoadError) -> Result<(), LoadError> {
        self.report.errors += 1;
        self.report.first_error.get_or_insert_with(|| error.to_string());
        if let Some(connection) = self.connections[index].take() {
            self.in_flight -= connection.in_flight;
        }
        self.idle.retain(|i| *i != index);
        if self.report.errors < MOST_ERRORS && !self.ended() {
            if !self.spec.exchange.is_one_shot() {
                self.open(index)?;
            }
            self.idle.extend(std::iter::repeat_n(index, self.spec.exchange.concurrency()));
        }
        Ok(())
    }

    /// Whether the counted time is over.
    fn ended(&self) -> bool {
        self.report.elapsed_ns > 0
    }

    /// Exchanges that were due in the counted time and could not be sent, for want of a free connection.
    fn overdue(&self) -> u64 {
        let Some(due) = &self.due else { return 0 };
        ((self.last_due.saturating_sub(due.at())) as f64 / due.interval).ceil() as u64
    }

    /// Sends what was due and waits for what is under way; what is not answered then is an error.
    fn drain(&mut self) -> Result<(), LoadError> {
        if let Some(longest) = self.unserved_after() {
            return self.count_unserved(longest);
        }
        let mut patience = Patience::new(DRAIN_MS * MILLISECOND, clock::now());
        while (self.in_flight > 0 || self.overdue() > 0) && patience.lasts(clock::now()) {
            self.send_due(clock::now())?;
            self.wait(MILLISECOND)?;
        }
        let late = self.in_flight as u64 + self.overdue();
        if late > 0 {
            self.report.errors += late;
            self.report.first_error.get_or_insert_with(|| LoadError::Late(DRAIN_MS).to_string());
        }
        Ok(())
    }

    fn finish(mut self) -> LoadReport {
        self.report.p50_ns = self.latencies.quantile(0.5);
        self.report.p99_ns = self.latencies.quantile(0.99);
        self.report.p90_ns = self.latencies.quantile(0.9);
        self.report.p999_ns = self.latencies.quantile(0.999);
        self.report.latencies = self.latencies.filled();
        self.report
    }
}

/// A run with so many failures is void anyway.
const MOST_ERRORS: u64 = 1_000;
/// How long answers may take to come after the counted time, while the machine runs.
const DRAIN_MS: u64 = 2_000;

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::load::Exchange;

    /// Echoes on one connection, and does nothing for `pause` after its first `before` bytes.
    fn echo_with_a_pause(before: usize, pause: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let (mut buffer, mut seen, mut paused) = ([0; 64], 0, false);
            while let Ok(count @ 1..) = peer.read(&mut buffer) {
                seen += count;
                if seen >= before && !paused {
                    thread::sleep(pause);
                    paused = true;
                }
                peer.write_all(&buffer[..count]).unwrap();
            }
        });
        address
    }

    fn spec(target: SocketAddr, rate: Option<f64>) -> LoadSpec {
        LoadSpec {
            cpu: 0,
            target,
            exchange: Exchange::Echo { bytes: 8 },
            connections: 1,
            rate,
            warm_up_ms: 20,
            measure_ms: 400,
            watch: Vec::new(),
            manner: crate::load::Manner::default(),
        }
    }

    #[test]
    fn a_pause_of_the_server_is_seen_by_all_that_was_due_meanwhile() {
        let pause = Duration::from_millis(280);
        let report = run(&spec(echo_with_a_pause(8 * 60, pause), Some(500.0))).unwrap();
        // From about 100 ms on, 280 of the 400 ms stand still: seven in ten exchanges wait.
        assert_eq!(report.errors, 0, "{report:?}");
        assert!((190..=210).contains(&report.exchanges), "{report:?}");
        assert!(report.p99_ns > 150 * MILLISECOND, "{report:?}");
        assert!(report.p50_ns > 20 * MILLISECOND, "{report:?}");
    }

    #[test]
    fn in_a_closed_loop_a_pause_is_one_slow_exchange() {
        let pause = Duration::from_millis(280);
        let report = run(&spec(echo_with_a_pause(8 * 60, pause), None)).unwrap();
        // Nothing is due while the one connection waits: however slow the machine, the pause is one exchange of many.
        assert_eq!(report.errors, 0, "{report:?}");
        assert!(report.p50_ns < 140 * MILLISECOND, "{report:?}");
    }

    #[test]
    fn a_server_that_never_answers_is_an_error_for_all_that_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let report = run(&spec(listener.local_addr().unwrap(), Some(100.0))).unwrap();
        assert!((38..=44).contains(&report.errors), "{report:?}");
        assert_eq!(report.exchanges, 0);
    }
}
