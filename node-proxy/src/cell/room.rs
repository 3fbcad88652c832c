//! Room within the cell's share of descriptors: who gets it, and what gives way.
//!
//! Nothing in use is ever closed for what is new; idle connections are, before anything is refused. What is asked for here is
//! refused at once or within a few turns of the loop: there is no queue.

use std::{fmt, rc::Rc, sync::atomic::Ordering::Relaxed};

use config::model::{Budget, Probe};
use ebpf_redirect::{Origin, Side};
use tokio::{task::yield_now, time::Instant};

use super::Cell;
use crate::{
    capture::Tree,
    telemetry::Reason,
    tenancy::{Place, Refused, Taken},
};

/// A place for one accepted connection: in the cell's share, and among its workload's.
#[derive(Debug)]
pub struct Seat {
    _in_cell: Taken,
    _by: By,
    // The last: what is shown counts what has been given back.
    _shown: Shown,
}

/// Has the doors show that something has changed, at the end.
struct Shown {
    cell: Rc<Cell>,
    tree: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.cell.show_room(self.tree);
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shown").field(&self.tree).finish()
    }
}

/// By what the budget lets it in.
#[derive(Debug)]
enum By {
    Workload { _place: Place<u64> },
    Probe { _taken: Taken },
}

/// Turns of the loop that a connection whose driver is a task of its own needs to close.
const TURNS: usize = 8;

impl Cell {
    /// A place for one more accepted connection of a tree; or why there is none.
    pub fn seat(self: &Rc<Self>, tree: u64) -> Result<Seat, Refused> {
        let full = Refused { reason: Reason::ConnectionLimit, retry_after: None };
        let in_cell = self.share.seat().ok_or(full)?;
        Ok(self.seated(in_cell, By::Workload { _place: self.permits.connection(tree)? }, tree))
    }

    /// A place for one that the node itself may have begun, to ask a pod what it declared that it may be asked; `None` where it has
    /// not, or there are many.
    pub fn probe_seat(self: &Rc<Self>, side: Side, tree: &Tree, origin: Origin) -> Option<Seat> {
        let taken = self.probe(side, tree, origin)?;
        Some(self.seated(self.share.extra_seat()?, By::Probe { _taken: taken }, tree.id))
    }

    fn seated(self: &Rc<Self>, in_cell: Taken, by: By, tree: u64) -> Seat {
        self.show_room(tree);
        Seat { _in_cell: in_cell, _by: by, _shown: Shown { cell: Rc::clone(self), tree } }
    }

    /// Has the doors show whether there is room: the cell's, and that of a tree.
    fn show_room(&self, tree: u64) {
        self.ledger.door.set_full(self.share.is_full());
        if self.permits.counts_workloads()
            && let Some(payer) = self.payers.of(tree)
        {
            payer.row().door.set_full(self.permits.is_full(tree));
        }
    }

    /// As bounds have changed.
    fn show_all_room(&self) {
        self.ledger.door.set_full(self.share.is_full());
        self.payers.each(|tree, row| row.door.set_full(self.permits.is_full(tree)));
    }

    /// The same, of a request on such a connection.
    pub fn probe(&self, side: Side, tree: &Tree, origin: Origin) -> Option<Taken> {
        let snapshot = self.snapshot.borrow();
        let is_from_node =
            side == Side::Inbound && snapshot.directory.node_addresses.contains(&origin.client.ip());
        let is_asked = |probe: &Probe| probe.port == origin.destination.port();
        if !is_from_node || !snapshot.now(&tree.workload).probes.iter().any(is_asked) {
            return None;
        }
        self.permits.probe(Instant::now())
    }

    /// Keeps to this budget from now on. What is there stays, but for idle connections that it has no room for.
    pub(super) fn keep_to(&self, budget: &Budget) {
        if self.snapshot.borrow().budget == *budget {
            return;
        }
        self.permits.follow(budget, Instant::now());
        self.share.follow(budget);
        self.show_all_room();
        self.give_way();
    }

    /// A place for one more socket to elsewhere. Where there is none, idle connections give way.
    pub async fn socket(&self) -> Option<Taken> {
        if let Some(taken) = self.share.socket() {
            return Some(taken);
        }
        if !self.give_way() {
            return None;
        }
        for _ in 0..TURNS {
            if let Some(taken) = self.share.socket() {
                return Some(taken);
            }
            yield_now().await;
        }
        None
    }

    /// A place for one more copy of a request.
    pub fn mirror(&self) -> Option<Taken> {
        self.share.mirror(self.pool.idle_sockets())
    }

    /// Holds so many connections from now on, each way: those above that stay, but for idle ones.
    pub fn change_share(&self, connections: usize) {
        self.share.change(connections);
        self.show_all_room();
        self.give_way();
        self.tell_share();
    }

    /// Has the ledger say what the cell may have and what it has, and how often its bytes had to wait.
    pub fn tell_share(&self) {
        self.ledger.paced(self.permits.take_waits());
        self.ledger.share(self.share.bound(), self.share.held());
    }

    /// Has the ledger say what its thread has spent, and its sockets hold; and each workload's row its part.
    pub fn tell_costs(&self) {
        let costs = &self.ledger.costs;
        self.payers.beat(costs);
        let mut next = self.payers.socket().get();
        costs.socket_bytes.store(self.sockets.memory(&mut next), Relaxed);
        self.payers.socket().set(next);
    }

    /// Closes what is idle, until there is room for one more socket. Whether anything was.
    fn give_way(&self) -> bool {
        let surplus = self.share.surplus();
        if surplus == 0 {
            return false;
        }
        let closed = self.pool.give_way(surplus);
        if closed >= surplus {
            return true;
        }
        // What is kept within a tunnel keeps the tunnel.
        let tunnelled = self.pool.leave_tunnels();
        closed + tunnelled + self.tunnels.give_way(surplus - closed) > 0
    }
}
