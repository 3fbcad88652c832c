//! The live connections of one tree: what `canopy tree` lists, and what is shut down when the tree has to go.
//!
//! Each connection's entry is a guard, so none outlives its connection. It must never hold more than facts: no
//! buffers, no streams.

use std::{cell::RefCell, net::SocketAddr, os::fd::BorrowedFd, rc::Rc};

use config::name::ServiceName;
use ebpf_redirect::Side;
use slab::Slab;
use tokio::time::Instant;

use crate::sys::sockets::{Registered, Sockets};

/// The live connections of one tree.
#[derive(Debug, Default)]
pub struct Live {
    tree: u64,
    sockets: Sockets,
    entries: RefCell<Slab<Facts>>,
}

/// What is known of a live connection.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Which way it goes.
    pub side: Side,
    /// Who called.
    pub client: SocketAddr,
    /// Where it meant to connect to; `None` until that is known.
    pub destination: Option<SocketAddr>,
    /// The Service that is, with its port.
    pub service: Option<(ServiceName, u16)>,
    /// `tcp`, `http/1.1`, `h2`; empty until that is known.
    pub protocol: &'static str,
    /// When it was accepted.
    pub since: Instant,
    /// Requests on it so far.
    pub requests: u64,
}

/// One live connection. Keep it as long as the connection, and drop it before the socket.
#[derive(Debug)]
pub struct LiveConnection {
    live: Rc<Live>,
    key: usize,
    _socket: Registered,
}

impl Live {
    /// No connections yet, of the tree with this number, in its cell's registry.
    pub fn new(tree: u64, sockets: Sockets) -> Rc<Self> {
        Rc::new(Self { tree, sockets, entries: RefCell::default() })
    }

    /// Takes in a connection that was accepted.
    pub fn open(self: &Rc<Self>, socket: BorrowedFd<'_>, side: Side, client: SocketAddr) -> LiveConnection {
        let facts = Facts {
            side,
            client,
            destination: None,
            service: None,
            protocol: "",
            since: Instant::now(),
            requests: 0,
        };
        let key = self.entries.borrow_mut().insert(facts);
        LiveConnection { live: Rc::clone(self), key, _socket: self.sockets.register(socket, self.tree) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// The oldest of them, at most `limit`.
    pub fn oldest(&self, limit: usize) -> Vec<Facts> {
        let entries = self.entries.borrow();
        let mut facts: Vec<&Facts> = entries.iter().map(|(_, facts)| facts).collect();
        facts.sort_by_key(|facts| facts.since);
        facts.into_iter().take(limit).cloned().collect()
    }

    /// Shuts all of them down.
    pub fn shut_down(&self) -> usize {
        self.sockets.shut_down(Some(self.tree))
    }
}

impl LiveConnection {
    /// Notes where it is going and what it speaks.
    pub fn identified(
        &self,
        client: SocketAddr,
        destination: SocketAddr,
        service: Option<(ServiceName, u16)>,
        protocol: &'static str,
    ) {
        if let Some(facts) = self.live.entries.borrow_mut().get_mut(self.key) {
            (facts.client, facts.destination) = (client, Some(destination));
            (facts.service, facts.protocol) = (service, protocol);
        }
    }

    /// Counts a request on it.
    pub fn request(&self) {
        if let Some(facts) = self.live.entries.borrow_mut().get_mut(self.key) {
            facts.requests += 1;
        }
    }
}

impl Drop for LiveConnection {
    fn drop(&mut self) {
        self.live.entries.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd};

    use super::*;

    #[tokio::test]
    async fn a_connection_is_listed_as_long_as_its_guard_lives() {
        let live = Live::new(7, Sockets::default());
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let client: SocketAddr = "10.0.0.1:4000".parse().unwrap();
        let connection = live.open(socket.as_fd(), Side::Outbound, client);
        connection.identified(client, "10.0.0.2:80".parse().unwrap(), None, "http/1.1");
        connection.request();
        let facts = live.oldest(10);
        assert_eq!((facts.len(), facts[0].requests, facts[0].protocol), (1, 1, "http/1.1"));
        drop(connection);
        assert!(live.is_empty());
    }
}
