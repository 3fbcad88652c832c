//! `role:web SPEC`: an HTTP/1.1 server of one thread in many pods: every request gets the same short answer.
//!
//! One process for all of them, so that what is measured is not the switching between a hundred servers. It knows GET
//! without a body, and nothing else.

use std::{
    ffi::OsString,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::epoll::{self, EventFlags},
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::BenchError,
    lab::backends::SMALL,
    load::{Place, Places},
};

/// Where to listen: in each pod at the address to dial there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WebSpec {
    pub cpu: usize,
    pub places: Vec<Place>,
}

pub(super) fn serve(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: WebSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    let mut server = Server::new(&spec)?;
    writeln!(std::io::stdout(), "{SERVING}").map_err(|e| BenchError::io("say that it serves", e))?;
    server.run().map_err(|e| BenchError::os("serve", e))
}

/// What it says when it listens everywhere.
pub(crate) const SERVING: &str = "serving";

struct Server {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    answer: Vec<u8>,
}

struct Peer {
    socket: OwnedFd,
    /// How much of an empty line has come.
    ended: usize,
}

impl Server {
    fn new(spec: &WebSpec) -> Result<Self, BenchError> {
        let os = |e| BenchError::os("set up the server", e);
        let places = Places::open(&spec.places).map_err(os)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os)?;
        let mut listeners = Vec::new();
        for index in 0..spec.places.len() {
            let listener = places.within(index, |address| Ok(listen(address)?));
            let listener = listener.map_err(|e| BenchError::Load(e.to_string()))?;
            epoll::add(&epoll, &listener, epoll::EventData::new_u64(index as u64), EventFlags::IN)
                .map_err(os)?;
            listeners.push(listener);
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {SMALL}\r\n\r\n");
        let answer = [head.as_bytes(), &[b'x'; SMALL]].concat();
        Ok(Self { epoll, listeners, peers: Vec::new(), free: Vec::new(), answer })
    }

    fn run(&mut self) -> Result<(), Errno> {
        loop {
            let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
            let ready: Vec<usize> = match epoll::wait(&self.epoll, &mut events, None) {
                Ok((ready, _)) => ready.iter().map(|e| e.data.u64() as usize).collect(),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e),
            };
            let listeners = self.listeners.len();
            for index in ready {
                if index < listeners {
                    self.accept(index)?;
                } else if !self.turn(index - listeners) {
                    self.peers[index - listeners] = None;
                    self.free.push(index - listeners);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<(), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match accept_with(self.listeners[listener].as_fd(), flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return Ok(()),
            Err(e) => return Err(e),
        };
        // A peer that is gone already fails here; its first turn ends it.
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        let index = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        let data = epoll::EventData::new_u64((index + self.listeners.len()) as u64);
        epoll::add(&self.epoll, &socket, data, EventFlags::IN)?;
        self.peers[index] = Some(Peer { socket, ended: 0 });
        Ok(())
    }

    /// Answers what has come; says whether the peer stays.
    fn turn(&mut self, index: usize) -> bool {
        let Some(peer) = &mut self.peers[index] else { return true };
        let mut buffer = [0; 16 << 10];
        let count = match recv(&peer.socket, &mut buffer, RecvFlags::empty()) {
            Ok((_, 0)) => return false,
            Ok((_, count)) => count,
            Err(e) => return e == Errno::AGAIN,
        };
        let requests = heads(&mut peer.ended, &buffer[..count]);
        let whole = Ok(self.answer.len());
        (0..requests).all(|_| send(&peer.socket, &self.answer, SendFlags::NOSIGNAL) == whole)
    }
}

fn listen(address: Option<SocketAddr>) -> Result<TcpListener, Errno> {
    let made = TcpListener::bind(address.ok_or(Errno::INVAL)?).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let listener = made.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    rustix::net::listen(&listener, 1024)?;
    Ok(listener)
}

/// How many heads of requests end in these bytes.
fn heads(ended: &mut usize, bytes: &[u8]) -> usize {
    let mut heads = 0;
    for byte in bytes {
        *ended = match (*byte, *ended) {
            (b'\r', 2) => 3,
            (b'\r', _) => 1,
            (b'\n', 1) => 2,
            (b'\n', 3) => {
                heads += 1;
                0
            }
            _ => 0,
        };
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_counted_however_they_are_cut() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n";
        for cut in 0..bytes.len() {
            let mut ended = 0;
            let count = heads(&mut ended, &bytes[..cut]) + heads(&mut ended, &bytes[cut..]);
            assert_eq!(count, 2, "cut at {cut}");
        }
        assert_eq!(heads(&mut 0, b"a\r\r\n\n\r\nb"), 0);
    }
}
