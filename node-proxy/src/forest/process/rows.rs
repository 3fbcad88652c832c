//! What each workload of a cell in a process of its own has used, as the process tells it: what is news, some of them at a time.
//!
//! It must never keep a row alive: a workload's row goes with its last connection.

use std::sync::{Arc, Weak};

use crate::{
    forest::wire::{RowTold, Said},
    tenancy::{Row, figures::MOST},
};

/// Rows in a frame: as many as fit in a packet whatever they say.
const IN_A_FRAME: usize = 16;

/// The rows of one process, as they were told last.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<(u64, Weak<Row>, Vec<u64>)>);

impl Rows {
    /// A tree's connections pay into this row, which begins with what the daemon knows.
    pub(super) fn open(&mut self, tree: u64, row: &Arc<Row>) {
        self.0.push((tree, Arc::downgrade(row), row.words()));
    }

    /// What has changed since it was told. Of more than the daemon shows, some are left out.
    pub(super) fn news(&mut self) -> Vec<Said> {
        self.0.retain(|(_, row, _)| row.strong_count() > 0);
        let news = self.0.iter_mut().take(MOST).filter_map(|(tree, row, told)| {
            let words = row.upgrade()?.words();
            let is_news = words != *told;
            told.clone_from(&words);
            is_news.then_some(RowTold { tree: *tree, words })
        });
        let news: Vec<RowTold> = news.collect();
        news.chunks(IN_A_FRAME).map(|some| Said::Rows(some.to_vec())).collect()
    }
}

/// Takes over what a process says of the rows of its trees. Of a tree that it does not have it has nothing to say.
pub(super) fn hear(told: Vec<RowTold>, row_of: impl Fn(u64) -> Option<Arc<Row>>) {
    for RowTold { tree, words } in told {
        if let Some(row) = row_of(tree) {
            row.hear(&words);
        }
    }
}

#[cfg(test)]
mod tests {
    use config::name::{Name, Namespace, PodName, TenantId};

    use super::*;
    use crate::{forest::wire, sys::packets};

    fn row() -> Arc<Row> {
        let namespace = Namespace::try_from("shop").unwrap();
        let pod = PodName::new(namespace.clone(), Name::try_from("cart").unwrap());
        Arc::new(Row::new(TenantId::Namespace(namespace), pod))
    }

    #[test]
    fn what_has_changed_is_told_once_and_a_row_that_is_gone_is_forgotten() {
        let (mut rows, one, other) = (Rows::default(), row(), row());
        rows.open(1, &one);
        rows.open(2, &other);
        assert_eq!(rows.news().len(), 0, "the daemon knows how they began");
        other.carried(3, 4);
        let news = rows.news();
        let [Said::Rows(told)] = &news[..] else { panic!("{news:?}") };
        assert_eq!(told, &[RowTold { tree: 2, words: other.words() }]);
        let (here, stranger) = (row(), RowTold { tree: 7, words: vec![9; 90] });
        hear([&told[..], &[stranger]].concat(), |tree| (tree == 2).then(|| Arc::clone(&here)));
        assert_eq!(here.words(), other.words(), "nothing is said of another's tree");
        assert_eq!(rows.news().len(), 0);
        drop(other);
        assert_eq!((rows.news().len(), rows.0.len()), (0, 1));
    }

    #[test]
    fn rows_fit_in_packets_whatever_they_say_and_however_many_there_are() {
        let all: Vec<_> = (0..MOST + 9).map(|_| row()).collect();
        let mut rows = Rows::default();
        all.iter().for_each(|row| rows.open(u64::MAX, row));
        let words = vec![u64::MAX; row().words().len()];
        all.iter().for_each(|row| row.hear(&words));
        let news = rows.news();
        assert_eq!(news.len(), MOST / IN_A_FRAME);
        assert!(news.iter().all(|said| wire::encode(said).len() <= packets::BYTES));
    }
}
