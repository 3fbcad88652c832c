//! One CONNECT stream of a tunnel, as bytes both ways.
//!
//! Flow control is the back-pressure: what has not been read here is not given back as window, and what the peer does not take is
//! not taken from the writer. A stream that was cut ends in RST_STREAM, never in END_STREAM.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream, server::SendResponse};
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::telemetry::Reason;

/// Bytes of one DATA frame: other streams of the connection need not wait for more.
const FRAME: usize = 64 << 10;
/// Streams of which the other side's end is awaited after ours, per connection.
const LINGERING: usize = 256;

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
        Self { role, sending, received: Some(received), chunk: Bytes::new(), owed: 0, ending, open }
    }

    /// The streams of its connection, which know whether that is about to end.
    pub fn siblings(&self) -> Rc<Streams> {
        Rc::clone(&self.open.0)
    }

    /// Tells the client that its target was reached.
    pub fn accept(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.sending, Sending::Gone) {
            Sending::Unanswered(unanswered) => {
                let (mut respond, answer) = *unanswered;
                self.sending = Sending::Open(respond.send_response(answer, false).map_err(broken)?);
            }
            answered => self.sending = answered,
        }
        Ok(())
    }

    /// Ends it with this reason when it is dropped: as a status, where it was not answered yet.
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
            self.open.0.linger(received);
        }
    }

    fn cut(&mut self) {
        let code = match self.role {
            Role::Client => h2::Reason::CANCEL,
            // RFC 9113, 8.5: the connection to the target failed.
            Role::Server => h2::Reason::CONNECT_ERROR,
        };
        match &mut self.sending {
            Sending::Open(send) | Sending::Finished(send) => send.send_reset(code),
            Sending::Unanswered(unanswered) => unanswered.0.send_reset(code),
            Sending::Gone => {}
        }
    }

    fn refused(&mut self, reason: Reason) {
        match &mut self.sending {
            Sending::Unanswered(unanswered) => {
                let mut answer = Response::new(());
                *answer.status_mut() = super::status(reason);
                if unanswered.0.send_response(answer, true).is_err() {
                    self.cut();
                }
            }
            _ => self.cut(),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.owed += self.chunk.len();
        self.settle();
        match self.ending.get() {
            Ending::Close => self.close(),
            Ending::Cut => self.cut(),
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
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(error))),
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
        let Sending::Open(send) = &mut self.get_mut().sending else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = bytes.len().min(FRAME);
        send.reserve_capacity(wanted);
        let mut capacity = send.capacity();
        while capacity == 0 {
            capacity = match ready!(send.poll_capacity(cx)) {
                Some(Ok(capacity)) => capacity,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let length = wanted.min(capacity);
        send.send_data(Bytes::copy_from_slice(&bytes[..length]), false).map_err(broken)?;
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
                Poll::Ready(ended.map_err(broken))
            }
            other => {
                this.sending = other;
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// As sockets fail: who reads it need not know what carried it.
fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("role", &self.role).finish_non_exhaustive()
    }
}

/// The streams of one connection, as those see it who use it and who drives it.
#[derive(Default)]
pub struct Streams {
    open: Cell<usize>,
    /// Closed on our side; the peer has not ended them yet.
    lingering: RefCell<Vec<(RecvStream, u8)>>,
    driver: RefCell<Option<Waker>>,
    ending: Cell<bool>,
}

/// One open stream; counted until dropped.
#[derive(Debug)]
pub struct Open(Rc<Streams>);

impl Streams {
    /// Counts one more.
    pub fn open(self: &Rc<Self>) -> Open {
        self.open.set(self.open.get() + 1);
        Open(Rc::clone(self))
    }

    /// Says that the peer wants the connection to end.
    pub fn end(&self) {
        self.ending.set(true);
    }

    /// Whether the peer wants the connection to end: what is idle on it is to be closed.
    pub fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// How many the connection has.
    pub fn count(&self) -> usize {
        self.open.get() + self.lingering.borrow().len()
    }

    /// Discards what still comes of streams that are closed on our side. For the connection's driver, at each turn.
    pub fn poll_lingering(&self, cx: &mut Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        match &mut *driver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        drop(driver);
        let mut lingering = self.lingering.borrow_mut();
        if !lingering.is_empty() {
            lingering.retain_mut(|(received, _)| discard(received, cx));
        }
    }

    /// Gives up streams whose other side has not ended them for a whole period.
    pub fn age(&self) {
        self.lingering.borrow_mut().retain_mut(|(_, age)| {
            *age += 1;
            *age <= 2
        });
    }

    fn linger(&self, received: RecvStream) {
        let mut lingering = self.lingering.borrow_mut();
        if lingering.len() < LINGERING {
            lingering.push((received, 0));
        }
        drop(lingering);
        self.wake();
    }

    /// Gives the driver a turn.
    pub fn wake(&self) {
        let driver = self.driver.borrow();
        if let Some(driver) = &*driver {
            driver.wake_by_ref();
        }
    }
}

/// Whether more is to be expected.
fn discard(received: &mut RecvStream, cx: &mut Context<'_>) -> bool {
    loop {
        match received.poll_data(cx) {
            Poll::Ready(Some(Ok(bytes))) => drop(received.flow_control().release_capacity(bytes.len())),
            Poll::Ready(Some(Err(_)) | None) => return false,
            Poll::Pending => return true,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            // Who drives the connection may have waited for that.
            self.0.wake();
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("open", &self.open.get()).finish_non_exhaustive()
    }
}
