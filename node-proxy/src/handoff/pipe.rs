//! A byte pipe between two cells' threads: a bounded ring of bytes each way, and who is to be woken.
//!
//! It ends as a TCP connection does. Dropping an end says that no more bytes come and none are wanted; what was cut must not
//! look complete, so [`PipeEnd::reset`] makes the other end fail after the bytes that came before. Neither end ever waits
//! for the other's thread, takes a lock, or allocates after the pipe was made. A reader that stops stops the writer: at most
//! [`RING_BYTES`] each way are on their way.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicU16,
            Ordering::{AcqRel, Acquire, Release},
            fence,
        },
    },
    task::{Context, Poll},
    thread,
};

use rtrb::{Consumer, Producer, RingBuffer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::way::{DEAF, FINISHED, RESET, Way};
pub(super) use self::way::{REFUSED, refusal};
use super::{
    inbox::Admitted,
    post::{self, Post},
    urn,
};
use crate::{stream::Told, telemetry::Reason};

/// Bytes on their way, each way. Only what is touched is resident.
pub const RING_BYTES: usize = 32 * 1024;

/// A pipe: the end of who opens it, which alone owns its memory, and the end that is handed over.
pub fn pipe(ring_bytes: usize) -> (PipeEnd, PipeEnd) {
    let (to_receiver, from_opener) = RingBuffer::new(ring_bytes);
    let (to_opener, from_receiver) = RingBuffer::new(ring_bytes);
    let shared = Arc::new(Shared::default());
    let mut own = post::own();
    let mut end = |role, outgoing, incoming| {
        let shared = Arc::clone(&shared);
        // The receiver tells the thread that makes the pipe.
        let post = if role == Role::Receiver { own.take() } else { None };
        PipeEnd { remains: Some(Remains { outgoing, incoming, shared }), role, post, admitted: None }
    };
    (end(Role::Opener, to_receiver, from_receiver), end(Role::Receiver, to_opener, from_opener))
}

/// One end of a pipe.
#[derive(Debug)]
pub struct PipeEnd {
    /// `None` only while it is being dropped.
    remains: Option<Remains>,
    role: Role,
    /// Where the other end's thread is told of bytes; `None` where it is woken for each.
    post: Option<Arc<Post>>,
    /// Keeps the receiver's end among those that can be ended from outside.
    admitted: Option<Admitted>,
}

/// One end's halves of the rings.
#[derive(Debug)]
pub(super) struct Remains {
    outgoing: Producer<u8>,
    incoming: Consumer<u8>,
    shared: Arc<Shared>,
}

/// A pipe as seen by who may have to end it without having an end: the supervisor, when the receiver's cell is stuck, and the
/// opener's cell, when what it carries is not permitted any more.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Shared>);

/// That an end was written to.
#[derive(Debug)]
pub(super) struct Note {
    shared: Arc<Shared>,
    from: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Opener,
    Receiver,
}

/// What both ends see. By reference counting only; freed by the opener's thread.
#[derive(Debug, Default)]
struct Shared {
    /// From the opener.
    there: Way,
    /// From the receiver.
    back: Way,
    /// [`UNANSWERED`], [`ACCEPTED`], or [`REFUSED`] and the reason's number.
    answer: AtomicU16,
    /// Why it was cut after it was accepted: [`REFUSED`] and the reason's number.
    why: AtomicU16,
}

const UNANSWERED: u16 = 0;
const ACCEPTED: u16 = 1;

impl Shared {
    fn reset(&self) {
        self.there.end(RESET);
        self.back.end(RESET);
    }

    /// Answers, unless that was done before; the first answer counts.
    fn answer(&self, answer: u16) -> bool {
        let first = self.answer.compare_exchange(UNANSWERED, answer, AcqRel, Acquire).is_ok();
        if first {
            self.back.reader.wake();
        }
        first
    }

    fn refuse(&self, reason: Reason) {
        // Reasons are fewer than 65,534 by far.
        let number = u16::try_from(reason as usize).unwrap_or_default();
        if !self.answer(REFUSED + number) {
            self.why.store(REFUSED + number, Release);
            self.reset();
        }
    }
}

impl PipeEnd {
    /// Receiver: says that the connection is taken and its app reached. An error where the opener has gone meanwhile.
    pub fn accept(&self) -> io::Result<()> {
        let Some(Remains { shared, .. }) = &self.remains else { return Err(gone()) };
        if shared.answer(ACCEPTED) && !shared.there.is(RESET) { Ok(()) } else { Err(gone()) }
    }

    /// Receiver: says no, and why. After [`PipeEnd::accept`] the connection is cut, and its opener told why.
    pub fn refuse(&self, reason: Reason) {
        if let Some(Remains { shared, .. }) = &self.remains {
            shared.refuse(reason);
        }
    }

    /// Opener: has the receiver's thread told of bytes by its post.
    pub fn told_by(&mut self, post: &Arc<Post>) {
        self.post = Some(Arc::clone(post));
    }

    /// Opener: waits for the receiver's answer.
    pub async fn answered(&self) -> Result<(), Reason> {
        poll_fn(|cx| self.poll_answered(cx)).await
    }

    fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let Some(Remains { shared, .. }) = &self.remains else {
            return Poll::Ready(Err(Reason::CellRestarted));
        };
        let read = || match shared.answer.load(Acquire) {
            UNANSWERED => None,
            answer => Some(refusal(answer).map_or(Ok(()), Err)),
        };
        if let Some(answer) = read() {
            return Poll::Ready(answer);
        }
        shared.back.reader.register(cx.waker());
        read().map_or(Poll::Pending, Poll::Ready)
    }

    /// Cuts the connection both ways: the other end fails, once it has read what was written before.
    pub fn reset(&self) {
        if let Some(Remains { shared, .. }) = &self.remains {
            shared.reset();
        }
    }

    /// Receiver: it was taken out of an inbox, until it is dropped.
    pub(super) fn admitted(&mut self, admitted: Admitted) {
        self.admitted = Some(admitted);
    }

    /// What ends it from outside. The opener's must be dropped by the opener's thread.
    pub fn handle(&self) -> Option<Handle> {
        self.remains.as_ref().map(|remains| Handle(Arc::clone(&remains.shared)))
    }

    fn parts(&mut self) -> io::Result<(&mut Producer<u8>, &mut Consumer<u8>, Ways<'_>)> {
        let Some(Remains { outgoing, incoming, shared }) = &mut self.remains else { return Err(gone()) };
        Ok((outgoing, incoming, Ways::of(shared, self.role)))
    }

    /// Has the other end's reader woken: soon, together with others, where its thread has a post.
    fn tell(&self) {
        let Some(Remains { shared, .. }) = &self.remains else { return };
        let way = Ways::of(shared, self.role).outgoing;
        let Some(post) = &self.post else { return way.reader.wake() };
        if !way.noted.swap(true, AcqRel) {
            post::send(post, Note { shared: Arc::clone(shared), from: self.role });
        }
    }

    /// Opener: why the connection was cut, where the receiver said so.
    fn told(&self) -> Option<io::Error> {
        let remains = self.remains.as_ref().filter(|_| self.role == Role::Opener)?;
        refusal(remains.shared.why.load(Acquire)).map(|reason| Told(reason).into())
    }

    fn poll_push(
        &mut self,
        cx: &mut Context<'_>,
        mut push: impl FnMut(&mut Producer<u8>) -> usize,
    ) -> Poll<io::Result<usize>> {
        let (outgoing, _, ways) = self.parts()?;
        for registered in [false, true] {
            if ways.outgoing.is(FINISHED | DEAF | RESET) {
                return Poll::Ready(Err(self.told().unwrap_or_else(gone)));
            }
            let pushed = push(outgoing);
            if pushed > 0 {
                self.tell();
                return Poll::Ready(Ok(pushed));
            }
            if !registered {
                ways.outgoing.writer.register(cx.waker());
            }
        }
        Poll::Pending
    }
}

/// The two directions as one end sees them.
struct Ways<'a> {
    outgoing: &'a Way,
    incoming: &'a Way,
}

impl<'a> Ways<'a> {
    fn of(shared: &'a Shared, role: Role) -> Self {
        let Shared { there, back, .. } = shared;
        match role {
            Role::Opener => Self { outgoing: there, incoming: back },
            Role::Receiver => Self { outgoing: back, incoming: there },
        }
    }
}

impl AsyncRead for PipeEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (_, incoming, ways) = self.parts()?;
        let way = ways.incoming;
        for registered in [false, true] {
            // Before the ring: whatever was written before the end is then seen in it.
            let state = way.state.load(Acquire);
            if take(incoming, buffer) {
                // Not for every few bytes: a writer that waits has filled the ring, and is woken for half of it.
                if incoming.cached_slots() <= incoming.buffer().capacity() / 2 {
                    way.writer.wake();
                }
                return Poll::Ready(Ok(()));
            }
            if state & RESET != 0 {
                let reset = || io::ErrorKind::ConnectionReset.into();
                return Poll::Ready(Err(self.told().unwrap_or_else(reset)));
            }
            if state & FINISHED != 0 {
                return Poll::Ready(Ok(()));
            }
            if !registered {
                way.reader.register(cx.waker());
            }
        }
        Poll::Pending
    }
}

/// Moves bytes out of the ring; `false` where there are none.
fn take(ring: &mut Consumer<u8>, buffer: &mut ReadBuf<'_>) -> bool {
    let wanted = ring.slots().min(buffer.remaining());
    let Ok(chunk) = ring.read_chunk(wanted) else { return false };
    let (first, second) = chunk.as_slices();
    buffer.put_slice(first);
    buffer.put_slice(second);
    chunk.commit_all();
    wanted > 0
}

impl AsyncWrite for PipeEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_push(cx, |ring| ring.push_partial_slice(bytes).0.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.poll_push(cx, |ring| {
            let mut pushed = 0;
            for slice in slices {
                let (taken, rest) = ring.push_partial_slice(slice);
                pushed += taken.len();
                if !rest.is_empty() {
                    break;
                }
            }
            pushed
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (_, _, ways) = self.parts()?;
        ways.outgoing.end(FINISHED);
        Poll::Ready(Ok(()))
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        drop(self.admitted.take());
        let Some(remains) = self.remains.take() else { return };
        let Remains { shared, .. } = &remains;
        let unanswered = shared.answer.load(Acquire) == UNANSWERED;
        if unanswered && self.role == Role::Receiver {
            shared.refuse(Reason::CellRestarted);
        }
        // A task that panics, or is gone before anything was agreed, has not finished anything.
        if unanswered || thread::panicking() {
            shared.reset();
        }
        let ways = Ways::of(shared, self.role);
        // Its own: a task's last reference must not be dropped by another thread.
        drop((ways.incoming.reader.take(), ways.outgoing.writer.take()));
        ways.outgoing.end(FINISHED);
        ways.incoming.end(DEAF);
        if self.role == Role::Opener {
            urn::keep(remains);
        }
    }
}

impl Remains {
    /// Whether nobody else holds any of it.
    pub(super) fn are_free(&self) -> bool {
        let free = self.outgoing.is_abandoned()
            && self.incoming.is_abandoned()
            && Arc::strong_count(&self.shared) == 1;
        // Whatever the other thread did with it has happened by then.
        fence(Acquire);
        free
    }
}

impl Note {
    /// Wakes who waits for bytes.
    pub(super) fn deliver(self) {
        let way = Ways::of(&self.shared, self.from).outgoing;
        // First: bytes that come from now on need a note of their own.
        way.noted.swap(false, AcqRel);
        way.reader.wake();
    }
}

impl Handle {
    /// Ends the connection from outside: refused for this reason, or cut if it was accepted already.
    pub fn abort(&self, reason: Reason) {
        self.0.refuse(reason);
        self.0.reset();
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

mod way;

#[cfg(test)]
mod tests;
