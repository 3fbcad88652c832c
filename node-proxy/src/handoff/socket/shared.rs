//! What an end of a socket pair and whoever may end it from outside share: the socket, the answer, and why it was cut.
//!
//! Any thread may say a last word here; none ever waits to do so.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU16,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
};

use rustix::net::{Shutdown, shutdown, sockopt::set_socket_send_buffer_size};

use super::{
    super::pipe::{REFUSED, refusal},
    wire::Word,
};
use crate::{sys::packets::refuse_descriptors, telemetry::Reason};

/// What the kernel keeps on its way, each way: it counts twice what it is told here, and its own overhead with the bytes. Some
/// seven full packets; a writer that was stopped goes on when a quarter is left.
const BUFFER: usize = 64 * 1024;
/// From the end of a connection on: room for the last word, however full it is.
pub(super) const LAST_BUFFER: usize = 2 * BUFFER;

/// What ends it from outside.
#[derive(Debug, Clone)]
pub struct Handle(pub(super) Arc<Shared>);

/// Whose end it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Opener,
    Receiver,
}

/// What an end and who may end it share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) socket: Arc<OwnedFd>,
    pub(super) role: Role,
    /// As a pipe's: [`UNANSWERED`], [`TAKEN`], or a refusal.
    answer: AtomicU16,
    /// Opener: why it was cut after it was accepted.
    why: AtomicU16,
    /// It was cut at this end.
    cut: AtomicBool,
}

pub(super) const UNANSWERED: u16 = 0;
pub(super) const TAKEN: u16 = 1;

impl Shared {
    pub(super) fn new(socket: OwnedFd, role: Role) -> Self {
        let _ = set_socket_send_buffer_size(&socket, BUFFER);
        refuse_descriptors(socket.as_fd());
        Self {
            socket: Arc::new(socket),
            role,
            answer: AtomicU16::new(UNANSWERED),
            why: AtomicU16::new(UNANSWERED),
            cut: AtomicBool::new(false),
        }
    }

    /// What was answered so far.
    pub(super) fn answered(&self) -> Option<Result<(), Reason>> {
        match self.answer.load(Acquire) {
            UNANSWERED => None,
            answer => Some(refusal(answer).map_or(Ok(()), Err)),
        }
    }

    /// Opener: why it was cut after it was accepted, where that is known.
    pub(super) fn why(&self) -> Option<Reason> {
        refusal(self.why.load(Acquire))
    }

    /// Opener: the receiver said why it cut it.
    pub(super) fn was_told(&self, reason: Reason) {
        self.why.store(number(reason), Release);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Answers, unless that was done before; the first answer counts.
    pub(super) fn answer(&self, answer: u16) -> bool {
        self.answer.compare_exchange(UNANSWERED, answer, AcqRel, Acquire).is_ok()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Acquire)
    }

    /// Says the last of all, and hears no more. A word that cannot be said is one more way to say that it was cut.
    pub(super) fn leave(&self, last: Option<Word>) {
        if let Some(last) = last {
            let _ = set_socket_send_buffer_size(self.fd(), LAST_BUFFER);
            drop(last.say(self.fd()));
        }
        let _ = shutdown(self.fd(), Shutdown::Both);
    }

    pub(super) fn cut(&self, reason: Option<Reason>) {
        if !self.cut.swap(true, AcqRel) {
            self.leave(Some(Word::Cut(reason)));
        }
    }

    pub(super) fn refuse(&self, reason: Reason) {
        if self.answer(number(reason)) {
            match self.role {
                Role::Receiver => drop(Word::Refused(reason).say(self.fd())),
                // Nobody has to be told but who waits here.
                Role::Opener => self.cut(None),
            }
            return;
        }
        self.was_told(reason);
        self.cut(Some(reason).filter(|_| self.role == Role::Receiver));
    }
}

pub(super) fn number(reason: Reason) -> u16 {
    // Reasons are fewer than 65,534 by far.
    REFUSED + u16::try_from(reason as usize).unwrap_or_default()
}

impl Handle {
    /// Ends the connection from outside: refused for this reason, or cut if it was accepted already.
    pub fn abort(&self, reason: Reason) {
        self.0.refuse(reason);
        self.0.cut(None);
    }
}
