//! A handoff's connection between two processes: the two ends of a Unix socket pair, which behave as those of a [pipe](super::pipe).
//!
//! The cells hold the ends themselves: no thread of anybody else's carries the bytes, and the kernel's buffers hold what is on
//! its way. As in a pipe, what was cut never looks complete: a connection that ends without having said so was cut, whatever became
//! of the process at the other end. Nothing here may wait for that process, nor believe what it sends.

use std::{
    cell::OnceCell,
    io::{self, IoSlice},
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, socketpair,
    sockopt::{socket_domain, socket_type},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::shared::Handle;
use self::{
    shared::{LAST_BUFFER, Role, Shared, TAKEN, number},
    spill::Spill,
    wire::{MOST, Word},
};
use super::inbox::Admitted;
use crate::{stream::Told, sys::watch::Watch, telemetry::Reason};

mod shared;
mod spill;
mod wire;

/// Packets that are on their way at most: the kernel's own part of the smallest is some 500 bytes.
const MOST_PACKETS: usize = 1024;

/// A connection: the end of who opens it, and the end that is handed over.
pub fn pair() -> io::Result<(SocketEnd, SocketEnd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((SocketEnd::new(near, Role::Opener), SocketEnd::new(far, Role::Receiver)))
}

/// One end.
#[derive(Debug)]
pub struct SocketEnd {
    /// `None` only while it is being dropped or passed on.
    shared: Option<Arc<Shared>>,
    /// In the event loop of the thread that uses it first, which is the only one.
    watch: OnceCell<Watch>,
    incoming: Incoming,
    /// Bytes that came in a packet with others, and were not asked for yet.
    spill: Spill,
    /// That the end of what this end writes was said.
    finished: bool,
    /// Keeps the receiver's end among those that can be ended from outside.
    admitted: Option<Admitted>,
}

/// How the other end's bytes have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Incoming {
    Open,
    Finished,
    Cut,
}

impl SocketEnd {
    fn new(socket: OwnedFd, role: Role) -> Self {
        Self {
            shared: Some(Arc::new(Shared::new(socket, role))),
            watch: OnceCell::new(),
            incoming: Incoming::Open,
            spill: Spill::default(),
            finished: false,
            admitted: None,
        }
    }

    /// The receiver's end, as it came from another process. An error where it cannot be one.
    pub fn receiver(socket: OwnedFd) -> io::Result<Self> {
        let is_ours =
            socket_domain(&socket)? == AddressFamily::UNIX && socket_type(&socket)? == SocketType::SEQPACKET;
        if is_ours { Ok(Self::new(socket, Role::Receiver)) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Gives the socket away, unanswered; `None` where it is in use here.
    pub fn into_descriptor(mut self) -> Option<OwnedFd> {
        let shared = self.shared.take()?;
        match Arc::try_unwrap(shared) {
            Ok(shared) => Arc::into_inner(shared.socket),
            Err(used) => {
                self.shared = Some(used);
                None
            }
        }
    }

    /// Receiver: says that the connection is taken and its app reached. An error where the opener has gone meanwhile.
    pub fn accept(&self) -> io::Result<()> {
        let shared = self.shared.as_ref().ok_or_else(gone)?;
        if !shared.answer(TAKEN) || shared.is_cut() {
            return Err(gone());
        }
        Word::Taken.say(shared.fd()).map_err(|_| gone())
    }

    /// Receiver: says no, and why. After [`accept`](Self::accept) the connection is cut, and its opener told why.
    pub fn refuse(&self, reason: Reason) {
        if let Some(shared) = &self.shared {
            shared.refuse(reason);
        }
    }

    /// Opener: waits for the receiver's answer.
    pub async fn answered(&self) -> Result<(), Reason> {
        let lost = Reason::CellRestarted;
        let shared = self.shared.as_ref().ok_or(lost)?;
        loop {
            if let Some(answer) = shared.answered() {
                return answer;
            }
            let watch = self.watch().map_err(|_| lost)?;
            let word = watch.read(|socket| wire::read(socket, &mut [0; 64], &mut [])).await;
            let answer = match word {
                Ok(Word::Taken) => TAKEN,
                Ok(Word::Refused(reason)) => number(reason),
                // Whatever else: there is nobody who could carry it.
                _ => number(lost),
            };
            shared.answer(answer);
        }
    }

    /// Cuts the connection both ways: the other end fails, once it has read what was written before.
    pub fn reset(&self) {
        if let Some(shared) = &self.shared {
            shared.cut(None);
        }
    }

    /// Receiver: it was taken out of an inbox, until it is dropped.
    pub(super) fn admitted(&mut self, admitted: Admitted) {
        self.admitted = Some(admitted);
    }

    /// What ends it from outside.
    pub fn handle(&self) -> Option<Handle> {
        self.shared.as_ref().map(|shared| Handle(Arc::clone(shared)))
    }

    fn watch(&self) -> io::Result<&Watch> {
        if let Some(watch) = self.watch.get() {
            return Ok(watch);
        }
        let shared = self.shared.as_ref().ok_or_else(gone)?;
        let watch = Watch::new(Arc::clone(&shared.socket))?;
        Ok(self.watch.get_or_init(|| watch))
    }

    /// Opener: why the connection was cut, where the receiver said so, or it was cut here.
    fn told(&self) -> Option<io::Error> {
        let shared = self.shared.as_ref().filter(|shared| shared.role == Role::Opener)?;
        shared.why().map(|reason| Told(reason).into())
    }

    /// Takes in a word that came in the place of bytes.
    fn hear(&mut self, word: Word) {
        let Some(shared) = &self.shared else { return };
        let is_opener = shared.role == Role::Opener;
        match word {
            Word::End => self.incoming = Incoming::Finished,
            Word::Taken if is_opener && shared.answer(TAKEN) => {}
            Word::Cut(reason) => {
                if let Some(reason) = reason.filter(|_| is_opener) {
                    shared.was_told(reason);
                }
                self.incoming = Incoming::Cut;
            }
            Word::Refused(reason) if is_opener => {
                shared.answer(number(reason));
                self.incoming = Incoming::Cut;
            }
            Word::Bytes(_) | Word::Taken | Word::Refused(_) | Word::Gone | Word::Nonsense => {
                self.incoming = Incoming::Cut;
            }
        }
    }

    /// The other end is gone, and may have said why after bytes that nobody has read yet: they are taken in, and it.
    fn hear_the_rest(&mut self) {
        let Some(shared) = self.shared.clone() else { return };
        // What the kernel holds, and no more, should who is gone be there after all.
        for _ in 0..MOST_PACKETS {
            if self.incoming != Incoming::Open || self.spill.waiting() > 2 * LAST_BUFFER {
                return;
            }
            match wire::read(shared.fd(), &mut [], self.spill.room()) {
                Ok(Word::Bytes(count)) => self.spill.filled(count),
                Ok(word) => self.hear(word),
                Err(_) => return,
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let shared = self.shared.as_ref().ok_or_else(gone)?;
        if self.finished || shared.is_cut() || self.incoming == Incoming::Cut {
            return Poll::Ready(Err(self.told().unwrap_or_else(gone)));
        }
        let sent = ready!(self.watch()?.poll_write(cx, |socket| wire::write(socket, slices)));
        Poll::Ready(sent.map_err(|_| {
            self.hear_the_rest();
            self.told().unwrap_or_else(gone)
        }))
    }
}

impl AsyncRead for SocketEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.spill.pour(buffer) {
                return Poll::Ready(Ok(()));
            }
            match this.incoming {
                Incoming::Open => {}
                Incoming::Finished => return Poll::Ready(Ok(())),
                Incoming::Cut => {
                    let reset = || io::ErrorKind::ConnectionReset.into();
                    return Poll::Ready(Err(this.told().unwrap_or_else(reset)));
                }
            }
            this.watch()?;
            let Some(watch) = this.watch.get() else { continue };
            let room = buffer.initialize_unfilled();
            let wanted = room.len();
            let spill: &mut [u8] = if wanted < MOST { this.spill.room() } else { &mut [] };
            match ready!(watch.poll_read(cx, |socket| wire::read(socket, room, spill))) {
                Ok(Word::Bytes(count)) => {
                    buffer.advance(count.min(wanted));
                    this.spill.filled(count.saturating_sub(wanted));
                    return Poll::Ready(Ok(()));
                }
                Ok(word) => this.hear(word),
                Err(_) => this.incoming = Incoming::Cut,
            }
        }
    }
}

impl AsyncWrite for SocketEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.finished {
            // Who is gone need not be told.
            drop(ready!(this.watch()?.poll_write(cx, |socket| Word::End.say(socket))));
            this.finished = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SocketEnd {
    fn drop(&mut self) {
        drop(self.admitted.take());
        let Some(shared) = self.shared.take() else { return };
        let unanswered = shared.answered().is_none();
        if unanswered && shared.role == Role::Receiver {
            shared.refuse(Reason::CellRestarted);
        }
        // A task that panics, or is gone before anything was agreed, has not finished anything.
        if unanswered || thread::panicking() {
            shared.cut(None);
        } else if !shared.is_cut() {
            // Who still has a handle keeps the socket, but not the connection.
            shared.leave(if self.finished { None } else { Some(Word::End) });
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

#[cfg(test)]
mod tests;
