//! The rows of one tree: one for each lane that serves it, and what they say together.
//!
//! A row is written by one cell alone; so each lane has its own, and nobody else's is ever written here.

use std::{collections::BTreeMap, sync::Arc};

use config::model::Workload;

use crate::tenancy::Row;

/// The rows of one tree.
#[derive(Debug)]
pub(super) struct Rows {
    first: Arc<Row>,
    /// Of further lanes, by their number.
    further: BTreeMap<u32, Arc<Row>>,
    /// What all say together, once there are several.
    whole: Arc<Row>,
}

impl Rows {
    /// Of a tree that nobody serves yet.
    pub(super) fn new(workload: &Workload) -> Self {
        let row = || Arc::new(Row::new(workload.tenant.clone(), workload.pod.clone()));
        Self { first: row(), further: BTreeMap::new(), whole: row() }
    }

    /// That of the first lane.
    pub(super) fn first(&self) -> &Arc<Row> {
        &self.first
    }

    /// One for the cell that follows another, which may still write what it wrote.
    pub(super) fn follow_first(&mut self) -> &Arc<Row> {
        self.first = Arc::new(Row::continued(&self.first));
        &self.first
    }

    /// One for a further lane that begins. It goes on where an earlier one of the same number ended.
    pub(super) fn begin(&mut self, lane: u32) -> Arc<Row> {
        let new = || Row::new(self.first.tenant.clone(), self.first.pod.clone());
        let row = Arc::new(self.further.get(&lane).map_or_else(new, |earlier| Row::continued(earlier)));
        self.further.insert(lane, Arc::clone(&row));
        row
    }

    /// What all of them say.
    pub(super) fn shown(&self) -> &Arc<Row> {
        if self.further.is_empty() {
            return &self.first;
        }
        let all: Vec<&Row> =
            std::iter::once(&self.first).chain(self.further.values()).map(|row| &**row).collect();
        self.whole.add_up(&all);
        &self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_stay_when_a_lane_ends_and_when_another_takes_its_number() {
        let mut rows = Rows::new(&crate::handoff::tests::workload());
        rows.first().carried(1, 10);
        assert!(Arc::ptr_eq(rows.shown(), rows.first()), "one lane needs no sum");
        rows.begin(1).carried(2, 20);
        rows.begin(2).carried(4, 40);
        rows.begin(1).carried(8, 80);
        rows.follow_first().carried(16, 160);
        let shown = rows.shown();
        let bytes = [&shown.bytes_received, &shown.bytes_sent]
            .map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(bytes, [31, 310]);
    }
}
