//! The client's side of an HTTP/2 connection: whether a client is heard while it is to let go of its connection, and takes what it
//! is sent.
//!
//! Costs one comparison per read or write. It must never change a byte.

use std::{
    cell::Cell as Slot,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cell::Live;

/// A stream, and what is noted of its other end.
#[derive(Debug)]
pub(super) struct Heard<IO> {
    pub(super) io: IO,
    pub(super) hearing: Rc<Hearing>,
}

/// What was noted of a client.
#[derive(Debug)]
pub(super) struct Hearing {
    /// Reads that brought something.
    often: Slot<u64>,
    /// Its connection, which knows whether it takes all that there is for it.
    live: Rc<Live>,
}

impl Hearing {
    /// Of this connection's client.
    pub(super) fn of(live: Rc<Live>) -> Self {
        Self { often: Slot::default(), live }
    }

    /// How often something has come.
    pub(super) fn often(&self) -> u64 {
        self.often.get()
    }

    /// Whether something is left that it has not taken.
    pub(super) fn is_stalled(&self) -> bool {
        self.live.outflow.is_stalled()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.hearing.live.backlog.came(buffer.filled().len() - before);
        if buffer.filled().len() > before {
            self.hearing.often.set(self.hearing.often.get() + 1);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.hearing.live.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.hearing.live.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
