//! The state of one direction of a pipe: how it has ended, and who waits for it. And how reasons are told.
//!
//! It must never hold bytes: those are the ring's.

use std::sync::atomic::{
    AtomicBool, AtomicU8,
    Ordering::{AcqRel, Acquire},
};

use atomic_waker::AtomicWaker;

use crate::telemetry::Reason;

/// One direction. On a cache line of its own, or the two directions' threads would slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Way {
    /// [`FINISHED`], [`DEAF`] and [`RESET`]. Bits are only ever added.
    pub(super) state: AtomicU8,
    /// A note of bytes is on its way.
    pub(super) noted: AtomicBool,
    /// The task that waits for bytes.
    pub(super) reader: AtomicWaker,
    /// The task that waits for room.
    pub(super) writer: AtomicWaker,
}

/// The writer will write no more.
pub(super) const FINISHED: u8 = 1;
/// The reader will read no more.
pub(super) const DEAF: u8 = 2;
/// It was cut: what was read is not the whole.
pub(super) const RESET: u8 = 4;

/// From this number on, an answer is a reason's.
pub(in crate::handoff) const REFUSED: u16 = 2;

/// The reason that was given, if one was.
pub(in crate::handoff) fn refusal(answer: u16) -> Option<Reason> {
    let refused = answer.checked_sub(REFUSED)?;
    Some(Reason::ALL.get(usize::from(refused)).copied().unwrap_or(Reason::CellRestarted))
}

impl Way {
    pub(super) fn is(&self, state: u8) -> bool {
        self.state.load(Acquire) & state != 0
    }

    /// Adds to the state and wakes who may wait for what will not come.
    pub(super) fn end(&self, state: u8) {
        self.state.fetch_or(state, AcqRel);
        self.reader.wake();
        self.writer.wake();
    }
}
