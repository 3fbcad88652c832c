//! `role:backend SPEC`: the server behind the tcp cases. One thread; an echo port and a port that sends bytes.
//!
//! On the second, 8 bytes (little end first) ask for so many bytes, which come from a file in memory by sendfile, so
//! that the server's own copying is not what is measured. It never waits on one connection.

use std::{
    ffi::OsString,
    fs::File,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::epoll::{self, EventFlags},
    fs::{MemfdFlags, memfd_create, sendfile},
    io::Errno,
    net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send},
};
use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// Where to listen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackendSpec {
    pub cpu: usize,
    pub echo: SocketAddr,
    pub source: SocketAddr,
}

pub(super) fn serve(arguments: &[OsString]) -> Result<(), BenchError> {
    let spec: BackendSpec = super::parse(arguments)?;
    super::pin(spec.cpu)?;
    Server::new(&spec)?.run().map_err(|e| BenchError::os("serve", e))
}

struct Server {
    epoll: OwnedFd,
    listeners: [TcpListener; 2],
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    content: File,
    buffer: Vec<u8>,
}

struct Peer {
    socket: OwnedFd,
    work: Work,
}

enum Work {
    /// What could not be echoed yet.
    Echo(Vec<u8>),
    /// The part of a request that has come, and the bytes still to be sent.
    Source { asked: Vec<u8>, missing: usize },
}

impl Server {
    fn new(spec: &BackendSpec) -> Result<Self, BenchError> {
        let listen =
            |a: SocketAddr| TcpListener::bind(a).map_err(|e| BenchError::io(format!("listen on {a}"), e));
        let listeners = [listen(spec.echo)?, listen(spec.source)?];
        let os = |e| BenchError::os("set up the backend", e);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(os)?;
        for (index, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true).map_err(|e| BenchError::io("set up the backend", e))?;
            rustix::net::listen(listener, 4096).map_err(os)?;
            epoll::add(&epoll, listener, epoll::EventData::new_u64(index as u64), EventFlags::IN)
                .map_err(os)?;
        }
        let mut content = File::from(memfd_create("bench-source", MemfdFlags::CLOEXEC).map_err(os)?);
        content.write_all(&vec![b'x'; CONTENT]).map_err(|e| BenchError::io("fill the source", e))?;
        Ok(Self { epoll, listeners, peers: Vec::new(), free: Vec::new(), content, buffer: vec![0; 64 << 10] })
    }

    fn run(&mut self) -> Result<(), Errno> {
        loop {
            let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
            let ready: Vec<(usize, bool)> = match epoll::wait(&self.epoll, &mut events, None) {
                Ok((ready, _)) => ready
                    .iter()
                    .map(|e| (e.data.u64() as usize, { e.flags }.contains(EventFlags::RDHUP)))
                    .collect(),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e),
            };
            for (index, ended) in ready {
                if index < 2 {
                    self.accept(index)?;
                } else if !self.turn(index - 2, ended) {
                    self.peers[index - 2] = None;
                    self.free.push(index - 2);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<(), Errno> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match accept_with(self.listeners[listener].as_fd(), flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(e) => return Err(e),
            };
            // A peer that is gone already fails here; its first turn ends it.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
            let work = match listener {
                0 => Work::Echo(Vec::new()),
                _ => Work::Source { asked: Vec::new(), missing: 0 },
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            let data = epoll::EventData::new_u64(index as u64 + 2);
            epoll::add(
                &self.epoll,
                &socket,
                data,
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            )?;
            self.peers[index] = Some(Peer { socket, work });
        }
    }

    /// Does what can be done now; says whether the peer stays.
    fn turn(&mut self, index: usize, ended: bool) -> bool {
        let Some(peer) = &mut self.peers[index] else { return true };
        match &mut peer.work {
            Work::Echo(unsent) => echo(&peer.socket, unsent, &mut self.buffer, ended),
            Work::Source { asked, missing } => source(&peer.socket, asked, missing, &self.content),
        }
    }
}

const CONTENT: usize = 1 << 20;

fn echo(socket: &OwnedFd, unsent: &mut Vec<u8>, buffer: &mut [u8], ended: bool) -> bool {
    loop {
        if !unsent.is_empty() {
            match send(socket, unsent, SendFlags::NOSIGNAL) {
                Ok(count) => drop(unsent.drain(..count)),
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
            continue;
        }
        let count = match recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, 0)) => return false,
            Ok((_, count)) => count,
            Err(e) => return e == Errno::AGAIN,
        };
        match send(socket, &buffer[..count], SendFlags::NOSIGNAL) {
            Ok(sent) => unsent.extend_from_slice(&buffer[sent..count]),
            Err(Errno::AGAIN) => unsent.extend_from_slice(&buffer[..count]),
            Err(_) => return false,
        }
        // The end that came together with the last bytes has no event of its own.
        if count < buffer.len() && unsent.is_empty() && !ended {
            return true;
        }
    }
}

fn source(socket: &OwnedFd, asked: &mut Vec<u8>, missing: &mut usize, content: &File) -> bool {
    loop {
        if *missing > 0 {
            let offset = CONTENT - (*missing).min(CONTENT);
            let mut at = offset as u64;
            match sendfile(socket, content, Some(&mut at), CONTENT - offset) {
                Ok(count) => *missing -= count,
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
            continue;
        }
        let mut part = [0; 8];
        let wanted = 8 - asked.len();
        match recv(socket, &mut part[..wanted], RecvFlags::empty()) {
            Ok((_, 0)) => return false,
            Ok((_, count)) => asked.extend_from_slice(&part[..count]),
            Err(e) => return e == Errno::AGAIN,
        }
        if let Ok(word) = <[u8; 8]>::try_from(asked.as_slice()) {
            *missing = usize::try_from(u64::from_le_bytes(word)).unwrap_or(0).min(MOST);
            asked.clear();
        }
    }
}

/// No request may ask for more at a time.
const MOST: usize = 1 << 30;
