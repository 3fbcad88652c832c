//! The switchboard as the supervisor keeps it: the board of now, and those of the past until no cell holds them.
//!
//! Boards are made and dropped here, by one thread, so that no cell pays for one.

use std::{collections::BTreeSet, sync::Arc};

use config::name::PodName;

use crate::handoff::{Board, Line};

/// The board of now, and the last ones.
#[derive(Debug, Default)]
pub(super) struct Switchboard {
    now: Arc<Board>,
    old: Vec<Arc<Board>>,
}

impl Switchboard {
    /// Makes a new board where the one of now does not say this.
    pub(super) fn set(&mut self, lines: Vec<Line>, absent: BTreeSet<PodName>) {
        self.old.retain(|board| Arc::strong_count(board) > 1);
        if !self.now.says(&lines, &absent) {
            let next = Arc::new(Board::new(self.now.version + 1, lines, absent));
            self.old.push(std::mem::replace(&mut self.now, next));
        }
    }

    /// The board of now.
    pub(super) fn board(&self) -> &Arc<Board> {
        &self.now
    }
}
