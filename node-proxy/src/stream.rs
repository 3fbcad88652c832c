//! A connection made of bytes, whatever carries it: a TCP socket, or one of the deliveries between cells and nodes.
//!
//! Everything after capture runs over it: detection, relays, the pool. The enum is matched, never boxed, so that a TCP
//! connection pays one predictable branch per call. A stream that was cut short must never look complete at its other end:
//! [`Stream::reset`] says so, whatever the carrier.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    handoff::{End, Handle},
    hbone::{Streams, Tunnel, fields::TraceId},
    sys::socket,
    telemetry::Reason,
    tenancy::Taken,
};

pub use self::{
    backlog::Backlog,
    outflow::Outflow,
    told::{Told, told},
};

mod backlog;
pub mod farewell;
mod outflow;
mod told;

/// A connection, by what carries it.
///
/// A further carrier is a further variant; the compiler then names every place that has to know: it must half-close on
/// `poll_shutdown`, end in a reset after [`Stream::reset`], and be refusable until [`Stream::accept`].
#[derive(Debug)]
pub enum Stream {
    /// A socket, with its place in the cell's share where the cell made it; what was accepted has a seat instead.
    Tcp(TcpStream, Option<Taken>),
    /// A pipe to another cell; or, to one in another process, a socket, with its place as above. Boxed, so that a socket does not
    /// pay for its size.
    Handoff(Box<End>, Option<Taken>),
    /// A stream of a tunnel. Boxed, so that a socket does not pay for its size.
    Tunnel(Box<Tunnel>),
}

impl Stream {
    /// Tells who opened it that its far end was reached: policy has permitted it, and the app's socket is connected.
    ///
    /// Nothing to a socket, which the kernel has accepted already. Must come before anything is read or written.
    pub fn accept(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(..) => Ok(()),
            Self::Handoff(pipe, _) => pipe.accept(),
            Self::Tunnel(stream) => stream.accept(),
        }
    }

    /// Ends it with this reason when it is dropped. A carrier that can say why does, as far as it can; a socket is reset.
    pub fn refuse(&self, reason: Reason) {
        match self {
            Self::Tcp(stream, _) => socket::reset(stream),
            Self::Handoff(pipe, _) => pipe.refuse(reason),
            Self::Tunnel(stream) => stream.refuse(reason),
        }
    }

    /// Makes it end in a failure when it is dropped, so that the other end does not take what it has for the whole.
    pub fn reset(&self) {
        match self {
            Self::Tcp(stream, _) => socket::reset(stream),
            Self::Handoff(pipe, _) => pipe.reset(),
            Self::Tunnel(stream) => stream.reset(),
        }
    }

    /// The socket that carries it alone; `None` where there is no such socket.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(stream, _) => Some(stream.as_fd()),
            Self::Handoff(..) => None,
            Self::Tunnel(_) => None,
        }
    }

    /// The socket that carries it alone, for what only sockets can.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream, _) => Some(stream),
            Self::Handoff(..) | Self::Tunnel(_) => None,
        }
    }

    /// What ends the pipe that carries it; `None` where there is no such pipe.
    pub fn pipe(&self) -> Option<Handle> {
        match self {
            Self::Handoff(pipe, _) => pipe.handle(),
            Self::Tcp(..) | Self::Tunnel(_) => None,
        }
    }

    /// The tunnel that carries it, with others, and may be asked by its peer to end.
    pub fn tunnel(&self) -> Option<Rc<Streams>> {
        match self {
            Self::Tcp(..) | Self::Handoff(..) => None,
            Self::Tunnel(stream) => Some(stream.siblings()),
        }
    }

    /// The trace that the stream of a tunnel is part of.
    pub fn trace(&self) -> Option<TraceId> {
        match self {
            Self::Tcp(..) | Self::Handoff(..) => None,
            Self::Tunnel(stream) => stream.trace(),
        }
    }

    /// The local address of its socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream, _) => stream.local_addr().ok(),
            Self::Handoff(..) => None,
            Self::Tunnel(_) => None,
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream, None)
    }
}

impl From<(TcpStream, Taken)> for Stream {
    fn from((stream, taken): (TcpStream, Taken)) -> Self {
        Self::Tcp(stream, Some(taken))
    }
}

impl From<End> for Stream {
    fn from(end: End) -> Self {
        Self::Handoff(Box::new(end), None)
    }
}

impl From<(End, Option<Taken>)> for Stream {
    fn from((end, taken): (End, Option<Taken>)) -> Self {
        Self::Handoff(Box::new(end), taken)
    }
}

impl From<Tunnel> for Stream {
    fn from(stream: Tunnel) -> Self {
        Self::Tunnel(Box::new(stream))
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_read(cx, buffer),
            Self::Handoff(pipe, _) => Pin::new(&mut **pipe).poll_read(cx, buffer),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            Self::Handoff(pipe, _) => Pin::new(&mut **pipe).poll_write(cx, bytes),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Handoff(pipe, _) => Pin::new(&mut **pipe).poll_write_vectored(cx, slices),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream, _) => stream.is_write_vectored(),
            Self::Handoff(pipe, _) => pipe.is_write_vectored(),
            Self::Tunnel(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_flush(cx),
            Self::Handoff(pipe, _) => Pin::new(&mut **pipe).poll_flush(cx),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    /// Ends the sending side; what the other end still sends can be read.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Self::Handoff(pipe, _) => Pin::new(&mut **pipe).poll_shutdown(cx),
            Self::Tunnel(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

/// [Resets](Stream::reset) a stream when dropped, so that a task which is ended half-way does not look like a proper end.
#[derive(Debug)]
pub struct ResetOnDrop<'a> {
    stream: &'a Stream,
    armed: bool,
}

impl<'a> ResetOnDrop<'a> {
    /// Watches over `stream`.
    pub fn new(stream: &'a Stream) -> Self {
        Self { stream, armed: true }
    }

    /// Leaves the stream as it is.
    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.stream.reset();
        }
    }
}
