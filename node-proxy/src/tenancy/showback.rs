//! What each tenant has used in each hour: rows for whoever divides a bill. Pure: who reads ledgers and files is elsewhere.
//!
//! Rows of the same hour and tenant add up, so that a daemon that was started anew goes on with the hour that the one before
//! left open. What is kept here is bounded; a file keeps all.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Rows that are kept: of a hundred tenants, those of a week.
const ROWS: usize = 17_000;
const HOUR: u64 = 3600;

/// One tenant's hour, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// When it began, in seconds since the epoch.
    pub hour: u64,
    /// A Tenant's name, or `ns/NAMESPACE`.
    pub tenant: String,
    /// Seconds of it for which the daemon watched.
    pub seconds: f64,
    /// What was used in it.
    #[serde(flatten)]
    pub used: Amounts,
    /// Memory over time: bytes times seconds.
    pub memory_byte_seconds: f64,
    /// Memory at its most.
    pub memory_peak_bytes: u64,
}

/// Amounts that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Amounts {
    /// CPU seconds in the program.
    pub cpu_user_seconds: f64,
    /// CPU seconds in the kernel.
    pub cpu_system_seconds: f64,
    /// Seconds for which the tenant was held back.
    pub throttled_seconds: f64,
    /// Connections accepted.
    pub connections: u64,
    /// Requests begun.
    pub requests: u64,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
    /// TLS handshakes, both ways.
    pub handshakes: u64,
    /// Connections and requests refused or ended early.
    pub refused: u64,
}

/// What a tenant has used in all, and has now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    /// Since its ledger began.
    pub total: Amounts,
    /// Memory now.
    pub memory_bytes: u64,
}

/// The rows of the last days.
#[derive(Debug, Default)]
pub struct Book {
    closed: VecDeque<Hour>,
    open: BTreeMap<String, Hour>,
    last: BTreeMap<String, Reading>,
    at: Option<f64>,
}

impl Book {
    /// Takes up a row of an earlier daemon.
    pub fn remember(&mut self, row: Hour) {
        if self.closed.len() >= ROWS {
            self.closed.pop_front();
        }
        self.closed.push_back(row);
    }

    /// Takes up what all tenants have used by `at`, in seconds since the epoch; gives the rows of an hour that is over.
    pub fn read(&mut self, at: f64, readings: impl Iterator<Item = (String, Reading)>) -> Vec<Hour> {
        let hour = at as u64 / HOUR * HOUR;
        // A clock that was set back or far ahead measures nothing.
        let seconds = self.at.replace(at).map_or(0.0, |before| at - before);
        let seconds = if (0.0..HOUR as f64).contains(&seconds) { seconds } else { 0.0 };
        let over = if self.open.values().any(|row| row.hour != hour) { self.close() } else { Vec::new() };
        let mut now = BTreeMap::new();
        for (tenant, reading) in readings {
            let before = self.last.get(&tenant).copied().unwrap_or_default();
            let row = self.open.entry(tenant.clone()).or_insert_with(|| Hour {
                hour,
                tenant: tenant.clone(),
                ..Hour::default()
            });
            row.used.add(&reading.total.since(&before.total));
            row.seconds += seconds;
            row.memory_byte_seconds += reading.memory_bytes as f64 * seconds;
            row.memory_peak_bytes = row.memory_peak_bytes.max(reading.memory_bytes);
            now.insert(tenant, reading);
        }
        self.last = now;
        over
    }

    /// Closes what is open, and gives its rows.
    pub fn close(&mut self) -> Vec<Hour> {
        let rows: Vec<Hour> = std::mem::take(&mut self.open).into_values().collect();
        rows.iter().for_each(|row| self.remember(row.clone()));
        rows
    }

    /// Rows from the hour of `since` on, that of now among them, by hour and tenant; of one tenant or of all.
    pub fn since(&self, since: u64, tenant: Option<&str>) -> Vec<Hour> {
        let mut rows: BTreeMap<(u64, &str), Hour> = BTreeMap::new();
        let from = since / HOUR * HOUR;
        let is_wanted = |row: &&Hour| row.hour >= from && tenant.is_none_or(|tenant| tenant == row.tenant);
        for row in self.closed.iter().chain(self.open.values()).filter(is_wanted) {
            rows.entry((row.hour, &row.tenant)).and_modify(|sum| sum.add(row)).or_insert_with(|| row.clone());
        }
        rows.into_values().collect()
    }
}

impl Hour {
    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.used.add(&other.used);
        self.memory_byte_seconds += other.memory_byte_seconds;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
    }

    /// Memory over its time, on average.
    pub fn memory_bytes(&self) -> f64 {
        if self.seconds > 0.0 { self.memory_byte_seconds / self.seconds } else { 0.0 }
    }
}

impl Amounts {
    fn add(&mut self, other: &Self) {
        // What a cell in a process of its own says may be any number.
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        self.cpu_user_seconds += other.cpu_user_seconds;
        self.cpu_system_seconds += other.cpu_system_seconds;
        self.throttled_seconds += other.throttled_seconds;
        add(&mut self.connections, other.connections);
        add(&mut self.requests, other.requests);
        add(&mut self.bytes_received, other.bytes_received);
        add(&mut self.bytes_sent, other.bytes_sent);
        add(&mut self.handshakes, other.handshakes);
        add(&mut self.refused, other.refused);
    }

    /// What came since an earlier total. A ledger that began anew, since its tenant had left the node, has all of it since.
    fn since(&self, before: &Self) -> Self {
        if self.cpu_user_seconds + self.cpu_system_seconds
            < before.cpu_user_seconds + before.cpu_system_seconds
        {
            return *self;
        }
        Self {
            cpu_user_seconds: (self.cpu_user_seconds - before.cpu_user_seconds).max(0.0),
            cpu_system_seconds: (self.cpu_system_seconds - before.cpu_system_seconds).max(0.0),
            throttled_seconds: (self.throttled_seconds - before.throttled_seconds).max(0.0),
            connections: self.connections.saturating_sub(before.connections),
            requests: self.requests.saturating_sub(before.requests),
            bytes_received: self.bytes_received.saturating_sub(before.bytes_received),
            bytes_sent: self.bytes_sent.saturating_sub(before.bytes_sent),
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(requests: u64, cpu: f64, memory_bytes: u64) -> Reading {
        Reading { total: Amounts { requests, cpu_user_seconds: cpu, ..Amounts::default() }, memory_bytes }
    }

    fn read(book: &mut Book, at: f64, requests: u64, memory: u64) -> Vec<Hour> {
        book.read(at, [("shop".to_owned(), reading(requests, requests as f64, memory))].into_iter())
    }

    #[test]
    fn what_is_used_is_in_the_row_of_its_hour_and_an_hour_that_is_over_is_given_once() {
        let mut book = Book::default();
        assert!(read(&mut book, 7200.0, 5, 100).is_empty());
        assert!(read(&mut book, 7210.0, 15, 300).is_empty());
        let over = read(&mut book, 10_801.0, 16, 100);
        assert_eq!(over.len(), 1);
        assert_eq!((over[0].hour, over[0].used.requests, over[0].memory_peak_bytes), (7200, 15, 300));
        assert_eq!((over[0].seconds, over[0].memory_bytes()), (10.0, 300.0));
        assert!(read(&mut book, 10_811.0, 18, 100).is_empty());
        let hours = |since| {
            book.since(since, None).into_iter().map(|row| (row.hour, row.used.requests)).collect::<Vec<_>>()
        };
        assert_eq!(hours(0), [(7200, 15), (10_800, 3)]);
        assert_eq!(hours(10_900), [(10_800, 3)], "from the hour on that it is in");
        assert!(book.since(0, Some("bank")).is_empty());
    }

    #[test]
    fn parts_of_one_hour_add_up_and_a_ledger_that_began_anew_loses_nothing() {
        let mut book = Book::default();
        read(&mut book, 7200.0, 5, 100);
        let left = book.close();
        let mut next = Book::default();
        left.into_iter().for_each(|row| next.remember(row));
        read(&mut next, 7300.0, 7, 500);
        read(&mut next, 7310.0, 2, 100);
        let rows = next.since(0, None);
        assert_eq!((rows.len(), rows[0].used.requests, rows[0].memory_peak_bytes), (1, 5 + 7 + 2, 500));
    }

    #[test]
    fn only_so_many_rows_are_kept_and_a_clock_that_jumps_measures_nothing() {
        let mut book = Book::default();
        (0..ROWS as u64 + 5).for_each(|hour| book.remember(Hour { hour: hour * HOUR, ..Hour::default() }));
        assert_eq!(book.since(0, None).len(), ROWS);
        assert_eq!(book.since(0, None)[0].hour, 5 * HOUR);
        let mut book = Book::default();
        read(&mut book, 7200.0, 1, 1);
        read(&mut book, 7100.0, 2, 1);
        read(&mut book, 1e9, 3, 1);
        assert!(book.since(0, None).iter().all(|row| row.seconds == 0.0));
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        let used = Amounts { requests: 3, cpu_user_seconds: 0.5, ..Amounts::default() };
        let row = Hour { hour: 7200, tenant: "shop".to_owned(), used, ..Hour::default() };
        let line = serde_json::to_string(&row).unwrap();
        assert!(line.contains("\"requests\":3"), "{line}");
        assert_eq!(serde_json::from_str::<Hour>(&line).unwrap(), row);
    }
}
