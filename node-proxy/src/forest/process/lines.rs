//! How other cells are reached from a cell's process: all by one courier, told apart by number.

use std::{collections::HashMap, sync::Arc};

use crate::{
    forest::wire::LineTold,
    handoff::{Inbox, Line, courier::Courier},
};

/// How other cells are reached from here.
pub(super) struct Switchboard {
    courier: Courier,
    cells: HashMap<u64, Arc<Inbox>>,
}

impl Switchboard {
    /// All of them by this one.
    pub(super) fn new(courier: Courier) -> Self {
        Self { courier, cells: HashMap::new() }
    }

    /// Lines of a new board. A cell that was on the last one is behind the inbox that it was behind.
    pub(super) fn connect(&mut self, lines: Vec<LineTold>) -> Vec<Line> {
        let mut before = std::mem::take(&mut self.cells);
        let line = |LineTold { workload, tree, cell }| {
            let inbox = self.cells.entry(cell).or_insert_with(|| {
                before.remove(&cell).unwrap_or_else(|| Arc::new(Inbox::elsewhere(self.courier.clone())))
            });
            Line { workload: Arc::new(workload), tree, inbox: Arc::clone(inbox) }
        };
        lines.into_iter().map(line).collect()
    }
}
