//! One connection of the load generator: a non-blocking socket, what is still to be sent, and a protocol.
//!
//! It never blocks and never reads again after a short read: events are edge-triggered, and one is to come.

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with},
};

use super::{Exchange, LoadError, http1::Http1, http2::Http2, raw::Raw};
use crate::{clock, lab::backends::CALL};

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    protocol: Protocol,
    out: Vec<u8>,
    sent: usize,
    /// Exchanges sent and not answered.
    pub in_flight: usize,
}

#[derive(Debug)]
enum Protocol {
    Http1(Http1),
    Http2(Http2),
    Raw(Raw),
    Discard(Raw),
}

impl Connection {
    /// Starts to connect; what is requested meanwhile is sent when the connection stands.
    pub(crate) fn open(target: SocketAddr, exchange: &Exchange) -> Result<Self, LoadError> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(e) => return Err(e.into()),
        }
        let mut out = Vec::new();
        let protocol = match exchange {
            Exchange::Http1 { path, body } => Protocol::Http1(Http1::new(path, *body)),
            Exchange::Routes { count, body } => {
                // Anywhere among them, so that connections do not walk through them side by side.
                Protocol::Http1(Http1::spread(*count, clock::now() as usize, *body))
            }
            Exchange::Http2 { path, body, .. } => Protocol::Http2(Http2::new(path, *body, &mut out)),
            Exchange::Grpc { body, .. } => Protocol::Http2(Http2::grpc(CALL, *body, &mut out)),
            Exchange::Echo { bytes } | Exchange::Connect { bytes } => Protocol::Raw(Raw::echo(*bytes)),
            Exchange::Bulk { bytes } => Protocol::Discard(Raw::bulk(*bytes)),
        };
        Ok(Self { socket, protocol, out, sent: 0, in_flight: 0 })
    }

    /// Queues one more request; `flush` sends it.
    pub(crate) fn request(&mut self, intended: u64) {
        self.in_flight += 1;
        match &mut self.protocol {
            Protocol::Http1(p) => p.request(intended, &mut self.out),
            Protocol::Http2(p) => p.request(intended, &mut self.out),
            Protocol::Raw(p) | Protocol::Discard(p) => p.request(intended, &mut self.out),
        }
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) -> Result<(), LoadError> {
        while self.sent < self.out.len() {
            match send(&self.socket, &self.out[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads what is there; the intended send times of the exchanges that this completes go to `done`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8], done: &mut Vec<u64>) -> Result<(), LoadError> {
        let before = done.len();
        let flags =
            if matches!(self.protocol, Protocol::Discard(_)) { RecvFlags::TRUNC } else { RecvFlags::empty() };
        loop {
            let count = match recv(&self.socket, &mut *buffer, flags) {
                Ok((_, 0)) => return Err(LoadError::Closed),
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => break,
                Err(e) => return Err(e.into()),
            };
            match &mut self.protocol {
                Protocol::Http1(p) => p.received(&buffer[..count], done)?,
                Protocol::Http2(p) => p.received(&buffer[..count], &mut self.out, done)?,
                Protocol::Raw(p) | Protocol::Discard(p) => p.received(count, done)?,
            }
            if count < buffer.len() {
                break;
            }
        }
        self.in_flight -= done.len() - before;
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A plain blocking GET with a deadline; for readiness only, never for measuring.
pub(crate) fn is_answering(target: SocketAddr, path: &str, limit: std::time::Duration) -> bool {
    use std::io::{Read, Write};
    let attempt = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&target, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: web.bench\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    attempt().unwrap_or(false)
}
