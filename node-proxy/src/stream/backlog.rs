//! What a cell holds for one client's connection, as far as it goes through the relay's own hands: bytes that have come from the client
//! and not gone on, and bytes that are there for the client and that it has not taken.
//!
//! A measure to tell large from small by, never one to account by: what a protocol adds to bodies is forgiven, so that a connection
//! which carries much for long does not pass for one that holds much. It must never count what has left the cell.

use std::cell::Cell;

/// Of one connection. In bytes.
#[derive(Debug, Default)]
pub struct Backlog {
    from_client: Cell<u64>,
    for_client: Cell<u64>,
}

impl Backlog {
    /// So many bytes were read from the client.
    pub fn came(&self, bytes: usize) {
        more(&self.from_client, bytes as u64);
    }

    /// The client begins a request, whose head is of so many bytes, which go on. Where nothing else is under way, nothing that came
    /// before is held any more.
    pub fn asked(&self, is_alone: bool, head: impl FnOnce() -> usize) {
        if is_alone {
            self.from_client.set(0);
        } else {
            less(&self.from_client, head() as u64);
        }
    }

    /// Nothing is under way any more, and the client has taken what there was.
    pub fn is_idle(&self) {
        self.stands(0, 0);
    }

    /// So many bytes of a request's body go on.
    pub fn went_on(&self, bytes: usize) {
        less(&self.from_client, bytes as u64 + FRAME);
    }

    /// So many bytes of a response's body are there for the client, which asks for more of it in frames of its own.
    pub fn is_there(&self, bytes: usize) {
        more(&self.for_client, bytes as u64);
        less(&self.from_client, UPDATES);
    }

    /// So many bytes were written to the client.
    pub fn was_taken(&self, bytes: usize) {
        less(&self.for_client, bytes as u64);
    }

    /// Of opaque bytes: so many that came from the client, and so many for it, have still to be written.
    pub fn stands(&self, from_client: usize, for_client: usize) {
        self.from_client.set(from_client as u64);
        self.for_client.set(for_client as u64);
    }

    /// All that is held.
    pub fn held(&self) -> u64 {
        self.from_client.get() + self.for_client.get()
    }
}

fn more(gauge: &Cell<u64>, bytes: u64) {
    gauge.set(gauge.get().saturating_add(bytes));
}

fn less(gauge: &Cell<u64>, bytes: u64) {
    gauge.set(gauge.get().saturating_sub(bytes));
}

/// Bytes of a frame's head (RFC 9113, 4.1); of a chunk's (RFC 9112, 7.1) about as many.
const FRAME: u64 = 9;

/// Bytes of two WINDOW_UPDATE frames (RFC 9113, 6.9): of the stream and of the connection.
const UPDATES: u64 = 26;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_held_until_it_goes_on_and_what_is_there_until_it_is_taken() {
        let backlog = Backlog::default();
        backlog.came(60_000);
        assert_eq!(backlog.held(), 60_000, "a head that has begun");
        backlog.asked(true, || 0);
        assert_eq!(backlog.held(), 0);
        backlog.came(100_000);
        backlog.went_on(40_000);
        assert_eq!(backlog.held(), 60_000 - FRAME);
        backlog.went_on(1 << 20);
        backlog.is_there(70_000);
        backlog.was_taken(20_000);
        assert_eq!(backlog.held(), 50_000);
        backlog.was_taken(1 << 20);
        assert_eq!(backlog.held(), 0);
        backlog.stands(1, 2);
        backlog.stands(3, 4);
        assert_eq!(backlog.held(), 7);
    }

    #[test]
    fn a_connection_that_has_carried_much_holds_no_more_than_one_that_has_carried_little() {
        let backlog = Backlog::default();
        for _ in 0..100_000 {
            // Beside a stream that never ends: a head of 2,000 bytes, which came as fewer, a body of one frame, an answer, two updates of windows.
            backlog.came(1_900);
            backlog.asked(false, || 2_000);
            backlog.came(1009);
            backlog.went_on(1000);
            backlog.is_there(5000);
            backlog.was_taken(5100);
            backlog.came(26);
        }
        assert!(backlog.held() < 100, "{}", backlog.held());
    }
}
