//! What a tenant and each of its workloads have used, read at one moment: plain numbers for whoever shows them.
//!
//! The parts add up to the whole: what no workload of now has used is a line of its own. It must never have more lines than
//! [`MOST`], however many workloads there are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use config::name::PodName;

use super::{Ledger, Row};
use crate::telemetry::Reason;

/// Workloads of one tenant that have a line of their own; the others share one. More than a node is made for.
pub const MOST: usize = 256;

/// What somebody has used, or some of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections accepted.
    pub connections: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Requests begun.
    pub requests: u64,
    /// Requests in flight now.
    pub requests_in_flight: u64,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
    /// TLS handshakes finished as a client.
    pub handshakes_made: u64,
    /// TLS handshakes finished as a server.
    pub handshakes_accepted: u64,
    /// Nanoseconds of the cell's CPU clock.
    pub cpu_nanos: u64,
    /// Live bytes.
    pub heap_bytes: u64,
    /// Refusals by reason, those that are not 0.
    pub refusals: Vec<(Reason, u64)>,
}

/// One line: a workload's, or, without one, that of all else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Whose it is.
    pub workload: Option<PodName>,
    /// What it has used.
    pub figures: Figures,
}

impl Figures {
    /// The whole of a tenant.
    pub fn of_tenant(ledger: &Ledger) -> Self {
        Self {
            connections: read(&ledger.connections),
            connections_open: read(&ledger.connections_open),
            requests: read(&ledger.requests),
            requests_in_flight: read(&ledger.requests_in_flight),
            bytes_received: read(&ledger.bytes_received),
            bytes_sent: read(&ledger.bytes_sent),
            handshakes_made: read(&ledger.costs.handshakes_made),
            handshakes_accepted: read(&ledger.costs.handshakes_accepted),
            cpu_nanos: ledger.cpu_in_all(),
            heap_bytes: read(&ledger.heap_bytes),
            refusals: refusals(|reason| ledger.refusals(reason)),
        }
    }

    /// One workload's part.
    pub fn of_workload(row: &Row) -> Self {
        Self {
            connections: read(&row.connections),
            connections_open: read(&row.connections_open),
            requests: read(&row.requests),
            requests_in_flight: read(&row.requests_in_flight),
            bytes_received: read(&row.bytes_received),
            bytes_sent: read(&row.bytes_sent),
            handshakes_made: read(&row.handshakes_made),
            handshakes_accepted: read(&row.handshakes_accepted),
            cpu_nanos: read(&row.cpu_nanos),
            heap_bytes: row.heap(),
            refusals: refusals(|reason| row.refusals(reason)),
        }
    }

    /// What is left without a part of it.
    fn without(mut self, part: &Self) -> Self {
        let less = |of: &mut u64, part: u64| *of = of.saturating_sub(part);
        less(&mut self.connections, part.connections);
        less(&mut self.connections_open, part.connections_open);
        less(&mut self.requests, part.requests);
        less(&mut self.requests_in_flight, part.requests_in_flight);
        less(&mut self.bytes_received, part.bytes_received);
        less(&mut self.bytes_sent, part.bytes_sent);
        less(&mut self.handshakes_made, part.handshakes_made);
        less(&mut self.handshakes_accepted, part.handshakes_accepted);
        less(&mut self.cpu_nanos, part.cpu_nanos);
        less(&mut self.heap_bytes, part.heap_bytes);
        for (reason, count) in &part.refusals {
            if let Some((_, of)) = self.refusals.iter_mut().find(|(of, _)| of == reason) {
                less(of, *count);
            }
        }
        self.refusals.retain(|(_, count)| *count > 0);
        self
    }
}

/// The lines of one tenant: those of its workloads, then that of all else. `rows` are its own.
pub fn lines<'a>(ledger: &Ledger, rows: impl Iterator<Item = &'a Arc<Row>>) -> Vec<Line> {
    // The parts first: what is counted meanwhile is in the whole, never only in a part.
    let line = |row: &Arc<Row>| Line { workload: Some(row.pod.clone()), figures: Figures::of_workload(row) };
    let mut lines: Vec<Line> = rows.take(MOST).map(line).collect();
    let whole = Figures::of_tenant(ledger);
    let rest = lines.iter().fold(whole, |rest, line| rest.without(&line.figures));
    lines.push(Line { workload: None, figures: rest });
    lines
}

fn refusals(count: impl Fn(Reason) -> u64) -> Vec<(Reason, u64)> {
    let counted = Reason::ALL.iter().map(|reason| (*reason, count(*reason)));
    counted.filter(|(_, count)| *count > 0).collect()
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{ConnectionGuard, Payer, row::tests::row};

    #[test]
    fn lines_add_up_to_the_ledger_and_all_else_has_one_of_its_own() {
        let ledger = Arc::new(Ledger::default());
        let rows = [Arc::new(row("cart")), Arc::new(row("web"))];
        let payer = Payer::new(Arc::clone(&rows[0]));
        let turn = payer.turn();
        let _open = ConnectionGuard::open(&ledger);
        ledger.carried(10, 20);
        ledger.refused(Reason::NoRoute);
        ledger.handshake(ebpf_redirect::Side::Outbound);
        drop(turn);
        ledger.carried(1, 2);
        ledger.refused(Reason::NoRoute);
        ledger.refused(Reason::ConnectionLimit);
        let lines = lines(&ledger, rows.iter());
        let [cart, web, rest] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(cart.workload.as_ref().map(ToString::to_string).as_deref(), Some("shop/cart"));
        let known = Figures { heap_bytes: cart.figures.heap_bytes, ..Figures::default() };
        let wanted = Figures {
            connections: 1,
            connections_open: 1,
            bytes_received: 10,
            bytes_sent: 20,
            handshakes_made: 1,
            refusals: vec![(Reason::NoRoute, 1)],
            ..known
        };
        assert_eq!(cart.figures, wanted);
        assert_eq!(web.figures, Figures::default());
        assert_eq!(rest.workload, None);
        let mut refusals = vec![(Reason::NoRoute, 1), (Reason::ConnectionLimit, 1)];
        refusals.sort();
        let mut rest = rest.figures.clone();
        rest.refusals.sort();
        assert_eq!(rest, Figures { bytes_received: 1, bytes_sent: 2, refusals, ..Figures::default() });
    }

    #[test]
    fn a_part_that_seems_larger_than_the_whole_leaves_nothing() {
        let part = Figures { cpu_nanos: 9, requests: 1, ..Figures::default() };
        let whole = Figures { cpu_nanos: 5, requests: 3, ..Figures::default() };
        assert_eq!(whole.without(&part), Figures { requests: 2, ..Figures::default() });
    }

    #[test]
    fn there_are_never_more_lines_than_the_bound() {
        let rows: Vec<_> = (0..MOST + 10).map(|number| Arc::new(row(&format!("pod-{number}")))).collect();
        assert_eq!(lines(&Ledger::default(), rows.iter()).len(), MOST + 1);
    }
}
