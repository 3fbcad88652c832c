//! One CONNECT stream of a tunnel, as bytes both ways.
//!
//! Flow control is the back-pressure: what has not been read here is not given back as window, and what the peer does not take is
//! not taken from the writer. A stream that was cut ends in RST_STREAM, never in END_STREAM.

use std::{
    cell::Cell,
    fmt, io,
    ops::RangeInclusive,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Open, Streams, fields::TraceId};
use crate::{stream::Told, telemetry::Reason};

/// Bytes of one DATA frame: other streams of the connection need not wait for more.
const FRAME: usize = 64 << 10;
/// How a stream is reset whose caller may not have it any more. HTTP/2 has no word of its own for that; this is the nearest, and
/// who does not know it takes it for any other reset.
pub const DENIED: h2::Reason = h2::Reason::INADEQUATE_SECURITY;

/// Which end of the tunnel this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It opened the stream.
    Client,
    /// It accepted the stream.
    Server,
}

/// One stream.
pub struct Tunnel {
    role: Role,
    sending: Sending,
    received: Option<RecvStream>,
    /// Received, and not read yet.
    chunk: Bytes,
    /// Bytes of the chunk that were read, and whose window is not given back yet.
    owed: usize,
    ending: Cell<Ending>,
    open: Open,
    /// What its CONNECT said that it is part of.
    trace: Option<TraceId>,
}

enum Sending {
    /// It was asked for and not answered; this is the answer if all goes well.
    Unanswered(Box<(SendResponse<Bytes>, Response<()>)>),
    Open(SendStream<Bytes>),
    Finished(SendStream<Bytes>),
    Gone,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Close,
    Cut,
    Refuse(Reason),
}

impl Tunnel {
    /// A stream that was opened and answered.
    pub fn opened(send: SendStream<Bytes>, received: RecvStream, open: Open) -> Self {
        Self::new(Role::Client, Sending::Open(send), received, open)
    }

    /// A stream that is asked for, and what [`Tunnel::accept`] answers.
    pub fn asked(
        respond: SendResponse<Bytes>,
        answer: Response<()>,
        received: RecvStream,
        open: Open,
    ) -> Self {
        Self::new(Role::Server, Sending::Unanswered(Box::new((respond, answer))), received, open)
    }

    fn new(role: Role, sending: Sending, received: RecvStream, open: Open) -> Self {
        let ending = Cell::new(Ending::Close);
        let (received, chunk) = (Some(received), Bytes::new());
        Self { role, sending, received, chunk, owed: 0, ending, open, trace: None }
    }

    /// The same, of which it is known that it is part of this trace.
    pub fn part_of(mut self, trace: TraceId) -> Self {
        self.trace = Some(trace);
        self
    }

    /// The trace that it is part of.
    pub fn trace(&self) -> Option<TraceId> {
        self.trace
    }

    /// The streams of its connection, which know whether that is about to end.
    pub fn siblings(&self) -> Rc<Streams> {
        Rc::clone(self.open.streams())
    }

    /// Tells the client that its target was reached.
    pub fn accept(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.sending, Sending::Gone) {
            Sending::Unanswered(unanswered) => {
                let (mut respond, answer) = *unanswered;
                let sent = respond.send_response(answer, false);
                self.sending = Sending::Open(sent.map_err(|error| self.broken(error))?);
            }
            answered => self.sending = answered,
        }
        Ok(())
    }

    /// What has been received already, where so many bytes of it are in one piece. It counts as read when more is asked for: who
    /// takes it has nowhere to put it before.
    ///
    /// `None` where there is less, or nothing, or an end: that is for a read to say.
    pub fn take_chunk(&mut self, cx: &mut Context<'_>, size: RangeInclusive<usize>) -> Option<Bytes> {
        if self.chunk.is_empty() {
            self.settle();
            if let Poll::Ready(Some(Ok(chunk))) = self.received.as_mut()?.poll_data(cx) {
                self.chunk = chunk;
            }
        }
        if self.chunk.len() < *size.start() {
            return None;
        }
        let taken = self.chunk.split_to(self.chunk.len().min(*size.end()));
        self.owed += taken.len();
        if self.chunk.is_empty() {
            self.chunk = Bytes::new();
        }
        Some(taken)
    }

    /// How many bytes can be [sent](Self::send) at once now; never 0. They are reserved until they are, or are
    /// [given up](Self::forgo_room).
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_room_for(FRAME, cx)
    }

    /// Leaves the connection's window to its other streams.
    pub fn forgo_room(&mut self) {
        if let Sending::Open(send) = &mut self.sending {
            send.reserve_capacity(0);
        }
    }

    /// Sends bytes for which there is room.
    pub fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let Sending::Open(send) = &mut self.sending else { return Err(io::ErrorKind::BrokenPipe.into()) };
        send.send_data(bytes, false).map_err(|_closed| self.closed())
    }

    fn poll_room_for(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Sending::Open(send) = &mut self.sending else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        send.reserve_capacity(wanted);
        let mut capacity = send.capacity();
        while capacity == 0 {
            capacity = match ready!(send.poll_capacity(cx)) {
                Some(Ok(capacity)) => capacity,
                Some(Err(error)) => return Poll::Ready(Err(self.broken(error))),
                None => return Poll::Ready(Err(self.closed())),
            };
        }
        Poll::Ready(Ok(wanted.min(capacity)))
    }

    /// Ends it with this reason when it is dropped: as a status, where it was not answered yet; else as far as a reset tells.
    pub fn refuse(&self, reason: Reason) {
        self.ending.set(Ending::Refuse(reason));
    }

    /// Ends it with RST_STREAM when it is dropped.
    pub fn reset(&self) {
        self.ending.set(Ending::Cut);
    }

    /// Gives back the window of what was read.
    fn settle(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if let Some(received) = &mut self.received
            && owed > 0
        {
            // It fails only where the stream is gone.
            drop(received.flow_control().release_capacity(owed));
        }
    }

    /// As a socket closes: our end of the data is said, the other's is awaited, by who drives the connection.
    fn close(&mut self) {
        match std::mem::replace(&mut self.sending, Sending::Gone) {
            Sending::Open(mut send) => drop(send.send_data(Bytes::new(), true)),
            Sending::Finished(_) => {}
            // Nobody has said what became of it.
            Sending::Unanswered(mut unanswered) => return unanswered.0.send_reset(h2::Reason::CANCEL),
            Sending::Gone => return,
        }
        if let Some(received) = self.received.take().filter(|received| !received.is_end_stream()) {
            self.open.streams().linger(received);
        }
    }

    fn cut(&mut self, because: Option<Reason>) {
        let is_denial = because.is_some_and(|reason| super::status(reason) == StatusCode::UNAUTHORIZED);
        let code = match self.role {
            Role::Client => h2::Reason::CANCEL,
            Role::Server if is_denial => DENIED,
            // RFC 9113, 8.5: the connection to the target failed.
            Role::Server => h2::Reason::CONNECT_ERROR,
        };
        match &mut self.sending {
            Sending::Open(send) | Sending::Finished(send) => send.send_reset(code),
            Sending::Unanswered(unanswered) => unanswered.0.send_reset(code),
            Sending::Gone => {}
        }
    }

    /// As sockets fail: who reads it need not know what carried it, and is told why where that is known.
    fn broken(&self, error: h2::Error) -> io::Error {
        if let Some(reason) = self.open.streams().cut_because() {
            return Told(reason).into();
        }
        if self.role == Role::Client && error.is_remote() && error.reason() == Some(DENIED) {
            return Told(Reason::PeerDenied).into();
        }
        if error.is_io() {
            return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
        }
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }

    /// Why the stream takes no bytes any more.
    fn closed(&mut self) -> io::Error {
        let mut nobody = Context::from_waker(Waker::noop());
        let reset = match &mut self.sending {
            Sending::Open(send) | Sending::Finished(send) => send.poll_reset(&mut nobody),
            Sending::Unanswered(_) | Sending::Gone => Poll::Pending,
        };
        match (self.open.streams().cut_because(), reset) {
            (Some(reason), _) => Told(reason).into(),
            (None, Poll::Ready(Ok(DENIED))) if self.role == Role::Client => Told(Reason::PeerDenied).into(),
            (None, Poll::Ready(Err(error))) => self.broken(error),
            (None, _) => io::ErrorKind::BrokenPipe.into(),
        }
    }

    fn refused(&mut self, reason: Reason) {
        match &mut self.sending {
            Sending::Unanswered(unanswered) => {
                let mut answer = Response::new(());
                *answer.status_mut() = super::status(reason);
                if unanswered.0.send_response(answer, true).is_err() {
                    self.cut(Some(reason));
                }
            }
            _ => self.cut(Some(reason)),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.owed += self.chunk.len();
        self.settle();
        match self.ending.get() {
            Ending::Close => self.close(),
            Ending::Cut => self.cut(None),
            Ending::Refuse(reason) => self.refused(reason),
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        while buffer.remaining() > 0 {
            if this.chunk.is_empty() {
                let Some(received) = &mut this.received else { break };
                match received.poll_data(cx) {
                    Poll::Ready(Some(Ok(chunk))) => this.chunk = chunk,
                    Poll::Ready(None) => break,
                    // What came before is handed out first; the error comes again.
                    Poll::Ready(Some(Err(_))) | Poll::Pending if buffer.filled().len() > before => break,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(this.broken(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            let length = this.chunk.len().min(buffer.remaining());
            buffer.put_slice(&this.chunk[..length]);
            this.chunk.advance(length);
            this.owed += length;
            if this.chunk.is_empty() {
                // Lets go of the connection's buffer that it is a part of.
                this.chunk = Bytes::new();
                this.settle();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let length = ready!(this.poll_room_for(bytes.len().min(FRAME), cx))?;
        this.send(Bytes::copy_from_slice(&bytes[..length]))?;
        Poll::Ready(Ok(length))
    }

    /// Who drives the connection sends what is queued at its next turn.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match std::mem::replace(&mut this.sending, Sending::Gone) {
            Sending::Open(mut send) => {
                let ended = send.send_data(Bytes::new(), true);
                this.sending = Sending::Finished(send);
                Poll::Ready(ended.map_err(|error| this.broken(error)))
            }
            other => {
                this.sending = other;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("role", &self.role).finish_non_exhaustive()
    }
}
