//! One end of a handoff's connection, whatever carries it: a pipe between two threads, or a socket between two processes.
//!
//! Both keep the same promises, which one set of tests asks of both. It must never show which it is.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Post,
    inbox::Admitted,
    pipe::{self, PipeEnd},
    socket::{self, SocketEnd},
};
use crate::telemetry::Reason;

/// An end.
#[derive(Debug)]
pub enum End {
    /// Of a pipe.
    Ring(PipeEnd),
    /// Of a socket pair.
    Socket(SocketEnd),
}

/// What ends a connection from outside.
#[derive(Debug, Clone)]
pub enum Handle {
    /// A pipe.
    Ring(pipe::Handle),
    /// A socket pair.
    Socket(socket::Handle),
}

impl End {
    /// Receiver: says that the connection is taken and its app reached. An error where the opener has gone meanwhile.
    pub fn accept(&self) -> io::Result<()> {
        match self {
            Self::Ring(end) => end.accept(),
            Self::Socket(end) => end.accept(),
        }
    }

    /// Receiver: says no, and why. After [`End::accept`] the connection is cut, and its opener told why.
    pub fn refuse(&self, reason: Reason) {
        match self {
            Self::Ring(end) => end.refuse(reason),
            Self::Socket(end) => end.refuse(reason),
        }
    }

    /// Opener: has the receiver's thread told of bytes by its post. The kernel tells another process.
    pub fn told_by(&mut self, post: &Arc<Post>) {
        if let Self::Ring(end) = self {
            end.told_by(post);
        }
    }

    /// Opener: waits for the receiver's answer.
    pub async fn answered(&self) -> Result<(), Reason> {
        match self {
            Self::Ring(end) => end.answered().await,
            Self::Socket(end) => end.answered().await,
        }
    }

    /// Cuts the connection both ways: the other end fails, once it has read what was written before.
    pub fn reset(&self) {
        match self {
            Self::Ring(end) => end.reset(),
            Self::Socket(end) => end.reset(),
        }
    }

    /// Receiver: it was taken out of an inbox, until it is dropped.
    pub(super) fn admitted(&mut self, admitted: Admitted) {
        match self {
            Self::Ring(end) => end.admitted(admitted),
            Self::Socket(end) => end.admitted(admitted),
        }
    }

    /// What ends it from outside. The opener's must be dropped by the opener's thread.
    pub fn handle(&self) -> Option<Handle> {
        match self {
            Self::Ring(end) => end.handle().map(Handle::Ring),
            Self::Socket(end) => end.handle().map(Handle::Socket),
        }
    }
}

impl Handle {
    /// Ends the connection from outside: refused for this reason, or cut if it was accepted already.
    pub fn abort(&self, reason: Reason) {
        match self {
            Self::Ring(handle) => handle.abort(reason),
            Self::Socket(handle) => handle.abort(reason),
        }
    }
}

impl From<PipeEnd> for End {
    fn from(end: PipeEnd) -> Self {
        Self::Ring(end)
    }
}

impl From<SocketEnd> for End {
    fn from(end: SocketEnd) -> Self {
        Self::Socket(end)
    }
}

impl AsyncRead for End {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ring(end) => Pin::new(end).poll_read(cx, buffer),
            Self::Socket(end) => Pin::new(end).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for End {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Ring(end) => Pin::new(end).poll_write(cx, bytes),
            Self::Socket(end) => Pin::new(end).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Ring(end) => Pin::new(end).poll_write_vectored(cx, slices),
            Self::Socket(end) => Pin::new(end).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Ring(end) => Pin::new(end).poll_shutdown(cx),
            Self::Socket(end) => Pin::new(end).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
