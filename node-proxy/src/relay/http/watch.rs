//! The client's side of an HTTP/1.1 connection, watched for heads that arrive too slowly.
//!
//! Costs nothing while heads arrive whole: a timer runs only between the first byte of a head and its last. A connection on which
//! nothing was begun may be idle for as long as it likes.

use std::{
    cell::Cell as Slot,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cell::Live;

/// Where in its life the connection is.
#[derive(Debug)]
pub(super) struct Watch {
    /// The connection, which knows whether the client takes all that hyper has to send.
    live: Rc<Live>,
    /// A request is being answered.
    busy: Slot<bool>,
    /// Bytes have come that no request was made of yet.
    begun: Slot<bool>,
    /// Reads that brought something of a head.
    heard: Slot<u64>,
    /// An answer was begun that will not be complete.
    short: Slot<bool>,
    /// Hyper has answered bytes of which it could not make a request, and that answer was not sent.
    withheld: Slot<Option<StatusCode>>,
}

/// A stream that tells its [`Watch`] of bytes. What hyper answers where it could not read a request has no reason in
/// it, and hyper offers no way to add one: so that answer is withheld, and `server1` gives its own.
#[derive(Debug)]
pub(super) struct Watched<IO> {
    pub(super) io: IO,
    pub(super) watch: Rc<Watch>,
}

/// A request is being answered until this is dropped.
#[derive(Debug)]
pub(super) struct Busy(Rc<Watch>);

impl Watch {
    /// Of this connection.
    pub(super) fn of(live: Rc<Live>) -> Self {
        Self {
            live,
            busy: Slot::default(),
            begun: Slot::default(),
            heard: Slot::default(),
            short: Slot::default(),
            withheld: Slot::default(),
        }
    }

    /// A head is complete.
    pub(super) fn request(self: &Rc<Self>) -> Busy {
        self.begun.set(false);
        self.busy.set(true);
        self.live.backlog.asked(true, || 0);
        Busy(Rc::clone(self))
    }

    /// Whether a head has begun and not ended.
    pub(super) fn is_waiting_for_head(&self) -> bool {
        self.begun.get() && !self.busy.get()
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.get()
    }

    /// How often something of a head has come.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// Whether the client would miss something of an answer if the connection ended now. A body may have no length but its
    /// connection's, so a proper end would make what there is of it look whole.
    pub(super) fn is_cut_short(&self) -> bool {
        self.busy.get() || self.short.get() || self.live.outflow.is_stalled()
    }

    /// The status that hyper wanted to answer by itself, had it not been [withheld](Watched).
    pub(super) fn withheld(&self) -> Option<StatusCode> {
        self.withheld.get()
    }

    /// Where in these bytes an answer begins that hyper makes without having a request.
    fn own_answer(&self, bytes: &[u8]) -> Option<(usize, StatusCode)> {
        if !self.is_waiting_for_head() {
            return None;
        }
        OWN_ANSWERS.iter().find_map(|(answer, status)| {
            bytes.ends_with(answer).then(|| (bytes.len() - answer.len(), *status))
        })
    }
}

impl Busy {
    /// What is answered will not be complete.
    pub(super) fn cut_short(&self) {
        self.0.short.set(true);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(false);
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.watch.live.backlog.came(buffer.filled().len() - before);
        if buffer.filled().len() > before && !self.watch.busy.get() {
            self.watch.begun.set(true);
            self.watch.heard.set(self.watch.heard.get() + 1);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = match self.watch.own_answer(bytes) {
            Some((0, status)) => {
                self.watch.withheld.set(Some(status));
                return Poll::Ready(Ok(bytes.len()));
            }
            Some((before, _)) => &bytes[..before],
            None => bytes,
        };
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch.live.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.withheld.get().is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices {
            return self.poll_write(context, only);
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.watch.live.wrote(written)
    }
}

/// Hyper's own answers, byte for byte (the test of what can be read in two ways fails when a new version changes them).
const OWN_ANSWERS: [(&[u8], StatusCode); 3] = [
    (b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", StatusCode::BAD_REQUEST),
    (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    ),
    (
        b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        StatusCode::URI_TOO_LONG,
    ),
];
