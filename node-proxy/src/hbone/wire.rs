//! The TLS connection under a tunnel's HTTP/2, shared by HTTP/2 and the task that drives it.
//!
//! HTTP/2 writes frame by frame, and flushes after each; here they gather until the driver's turn is over, so that a turn
//! costs one TLS record and one system call, not one per frame. Bulk goes to TLS as it is, as many records at once as TLS has room
//! for. It must never hold more than a record's bytes back.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::{ReadAhead, Streams};
use crate::tenancy::Taken;

/// The most that one TLS record carries (RFC 8446, 5.1).
const RECORD: usize = 16 << 10;
/// What is kept for the next turn: most messages are small.
const KEPT: usize = 2 << 10;
/// Slices that are handed on together: a frame is two, its head and its payload.
const SLICES: usize = 4;

/// A TLS connection; clones share it.
#[derive(Clone)]
pub struct Wire(Rc<Inner>);

struct Inner {
    io: RefCell<Io>,
    failure: RefCell<Option<rustls::Error>>,
    /// Reads that brought something.
    heard: Cell<u64>,
    /// The socket's place in the cell's share, where the cell made it. After the socket: it is dropped later.
    _taken: Option<Taken>,
}

struct Io {
    tls: TlsStream<ReadAhead>,
    gathered: Vec<u8>,
    /// How much of it has gone.
    gone: usize,
}

impl Wire {
    /// Of an established connection; `taken` is held as long as its socket.
    pub fn new(tls: TlsStream<ReadAhead>, taken: Option<Taken>) -> Self {
        let io = Io { tls, gathered: Vec::new(), gone: 0 };
        Self(Rc::new(Inner {
            io: RefCell::new(io),
            failure: RefCell::default(),
            heard: Cell::new(0),
            _taken: taken,
        }))
    }

    /// Sends what has gathered. To be called when HTTP/2 has been polled.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.io.borrow_mut();
        let sent = io.poll_send(cx);
        if let Poll::Ready(Err(_)) = &sent
            && let Some(said) = io.last_words()
        {
            self.0.failure.replace(Some(said));
        }
        self.note(sent)
    }

    /// Keeps no room where there is no stream: most tunnels are idle most of the time.
    pub fn rest_without(&self, streams: &Streams) {
        if streams.count() == 0 {
            self.rest();
        }
    }

    /// Keeps no room that nothing is in: to be called now and then, since what needs it takes it again.
    pub fn rest(&self) {
        let mut io = self.0.io.borrow_mut();
        if io.gathered.is_empty() && io.gathered.capacity() > 0 {
            io.gathered = Vec::new();
        }
        io.tls.get_mut().0.rest();
    }

    /// Why TLS failed, where it did: HTTP/2 does not pass that on.
    pub fn failure(&self) -> Option<rustls::Error> {
        self.0.failure.borrow().clone()
    }

    /// Whether bytes wait here that the socket has not taken.
    pub fn is_unsent(&self) -> bool {
        let io = self.0.io.borrow();
        let tls = match &io.tls {
            TlsStream::Client(tls) => tls.get_ref().1.wants_write(),
            TlsStream::Server(tls) => tls.get_ref().1.wants_write(),
        };
        tls || io.gone < io.gathered.len()
    }

    /// How often something has come from the peer.
    pub fn heard(&self) -> u64 {
        self.0.heard.get()
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>())
        {
            self.0.failure.replace(Some(error.clone()));
        }
        result
    }
}

/// Awaits a handshake of HTTP/2 over a wire, and sends what it writes.
pub async fn sending<F: Future>(wire: &Wire, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| {
        let done = work.as_mut().poll(cx);
        // A failure is the handshake's, too: it reads from the same wire.
        let _sent = wire.poll_send(cx);
        done
    })
    .await
}

impl Io {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.gathered.len() {
            let written = ready!(Pin::new(&mut self.tls).poll_write(cx, &self.gathered[self.gone..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += written;
        }
        // Also where nothing has gathered: of what was written directly, TLS keeps what the socket did not take at once.
        ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        self.gone = 0;
        if self.gathered.capacity() > KEPT {
            self.gathered = Vec::new();
        } else {
            self.gathered.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// What the peer has said of a failure before it closed. A peer that refuses a certificate closes at once, so that what is
    /// sent next fails before its alert was read.
    fn last_words(&mut self) -> Option<rustls::Error> {
        let TlsStream::Client(tls) = &mut self.tls else { return None };
        let (socket, session) = tls.get_mut();
        let mut unread = socket.unread();
        while session.read_tls(&mut unread).is_ok_and(|read| read > 0) {
            if let Err(error) = session.process_new_packets() {
                return Some(error);
            }
        }
        None
    }

    /// Hands what is as large as a record to TLS, after what has gathered: to gather it, too, would only copy it.
    fn poll_pass(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.gathered.len() - self.gone;
            let mut all = [IoSlice::new(&[]); SLICES + 1];
            all[0] = IoSlice::new(&self.gathered[self.gone..]);
            for (place, slice) in all[1..].iter_mut().zip(slices) {
                *place = IoSlice::new(slice);
            }
            let written = ready!(Pin::new(&mut self.tls).poll_write_vectored(cx, &all))?;
            if written > waiting {
                self.gathered.clear();
                self.gone = 0;
                return Poll::Ready(Ok(written - waiting));
            }
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += written;
        }
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        if wanted >= RECORD {
            return self.poll_pass(cx, slices);
        }
        if self.gathered.len() >= RECORD {
            ready!(self.poll_send(cx))?;
        }
        let room = RECORD - self.gathered.len();
        self.gathered.reserve(wanted.min(room).max(if self.gathered.is_empty() { KEPT } else { 0 }));
        let mut taken = 0;
        for slice in slices {
            let part = slice.len().min(room - taken);
            self.gathered.extend_from_slice(&slice[..part]);
            taken += part;
        }
        Poll::Ready(Ok(taken))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0.io.borrow_mut().tls).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.0.heard.set(self.0.heard.get() + 1);
        }
        self.note(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = self.0.io.borrow_mut().poll_gather(cx, slices);
        self.note(taken)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing yet: [`Wire::poll_send`] does it, once for all that gathers in a turn.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.io.borrow_mut();
        ready!(io.poll_send(cx))?;
        Pin::new(&mut io.tls).poll_shutdown(cx)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
