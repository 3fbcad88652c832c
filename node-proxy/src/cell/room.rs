//! Room within the cell's share of descriptors: who gets it, and what gives way.
//!
//! Nothing in use is ever closed for what is new; idle connections are, before anything is refused. What is asked for here is
//! refused at once or within a few turns of the loop: there is no queue.

use tokio::task::yield_now;

use super::Cell;
use crate::tenancy::Taken;

/// Turns of the loop that a connection whose driver is a task of its own needs to close.
const TURNS: usize = 8;

impl Cell {
    /// A place for one more accepted connection; `None` where the cell holds as many as it may.
    pub fn seat(&self) -> Option<Taken> {
        self.share.seat()
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
        self.give_way();
        self.tell_share();
    }

    /// Has the ledger say what the cell may have and what it has.
    pub fn tell_share(&self) {
        self.ledger.share(self.share.bound(), self.share.held());
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
