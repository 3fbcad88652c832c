//! The neighbours that a cell's process knows by number, and nothing else of them.

use std::sync::{Arc, Weak};

use crate::handoff::Inbox;

/// Numbers of the cells that the process is told of.
#[derive(Debug, Default)]
pub(super) struct Cells {
    known: Vec<(Weak<Inbox>, u64)>,
    last: u64,
}

impl Cells {
    /// That of the cell behind an inbox.
    pub(super) fn number(&mut self, inbox: &Arc<Inbox>) -> u64 {
        self.known.retain(|(known, _)| known.strong_count() > 0);
        let is_it = |(known, _): &&(Weak<Inbox>, u64)| known.as_ptr() == Arc::as_ptr(inbox);
        if let Some((_, number)) = self.known.iter().find(is_it) {
            return *number;
        }
        self.last += 1;
        self.known.push((Arc::downgrade(inbox), self.last));
        self.last
    }
}
