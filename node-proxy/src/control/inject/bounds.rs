//! Who holds how much of the webhook's port: connections and bytes of questions, in all and by the address that they come from.
//!
//! Who asks is not proven, so nobody is kept out for good: where there is no room, who has been there longest without a question under way
//! makes it. What is held is given back in `Drop`.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    /// Connections.
    pub(super) connections: usize,
    /// Those of one address.
    pub(super) connections_of_one: usize,
    /// Bytes of questions that are being read or answered.
    pub(super) bytes: usize,
    /// Those of one address.
    pub(super) bytes_of_one: usize,
}

/// Who holds how much.
#[derive(Debug)]
pub(super) struct Bounds {
    most: Most,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// In the order in which they came.
    open: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    from: IpAddr,
    bytes: usize,
    is_asking: bool,
    leave: Option<oneshot::Sender<()>>,
}

/// The place of a connection.
#[derive(Debug)]
pub(super) struct Place {
    bounds: Arc<Bounds>,
    number: u64,
}

/// A question under way, and its bytes.
#[derive(Debug)]
pub(super) struct Question<'a>(&'a Place);

impl Bounds {
    pub(super) fn new(most: Most) -> Arc<Self> {
        Arc::new(Self { most, table: Mutex::default() })
    }

    /// A place for who comes from there, and what comes back when it is to leave; `None` if all who are there have a question under way.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<(Place, oneshot::Receiver<()>)> {
        let (from, mut table) = (from.to_canonical(), self.table());
        if table.of(from).count() >= self.most.connections_of_one {
            table.send_away(|held| held.from == from)?;
        } else if table.stay() >= self.most.connections {
            // Of those who have most: one pod that opens many makes room, and not who has a few.
            let crowd = table.crowd()?;
            table.send_away(|held| held.from == crowd).or_else(|| table.send_away(|_| true))?;
        }
        let (leave, left) = oneshot::channel();
        let number = table.next;
        table.next += 1;
        table.open.insert(number, Held { from, bytes: 0, is_asking: false, leave: Some(leave) });
        Some((Place { bounds: Arc::clone(self), number }, left))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Those who are not on their way out, by where they come from.
    fn of(&self, from: IpAddr) -> impl Iterator<Item = &Held> {
        self.open.values().filter(move |held| held.from == from && held.leave.is_some())
    }

    fn stay(&self) -> usize {
        self.open.values().filter(|held| held.leave.is_some()).count()
    }

    /// The address that has most, of those who ask nothing now.
    fn crowd(&self) -> Option<IpAddr> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for held in self.open.values().filter(|held| held.leave.is_some()) {
            *counts.entry(held.from).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(from, _)| from)
    }

    /// Sends the first of them away that asks nothing now.
    fn send_away(&mut self, is_one: impl Fn(&Held) -> bool) -> Option<()> {
        let mut may =
            self.open.values_mut().filter(|held| held.leave.is_some() && !held.is_asking && is_one(held));
        // It may have gone by itself.
        let _ = may.next()?.leave.take()?.send(());
        Some(())
    }
}

impl Place {
    /// Begins a question.
    pub(super) fn ask(&self) -> Question<'_> {
        self.change(|held| held.is_asking = true);
        Question(self)
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.bounds.table().open.get_mut(&self.number) {
            change(held);
        }
    }
}

impl Question<'_> {
    /// Takes room for more bytes; whether there is any.
    pub(super) fn hold(&self, bytes: usize) -> bool {
        let bounds = &self.0.bounds;
        let (most, mut table) = (bounds.most, bounds.table());
        let Some(from) = table.open.get(&self.0.number).map(|held| held.from) else { return false };
        let all: usize = table.open.values().map(|held| held.bytes).sum();
        let own: usize = table.open.values().filter(|held| held.from == from).map(|held| held.bytes).sum();
        let has_room = all + bytes <= most.bytes && own + bytes <= most.bytes_of_one;
        if has_room && let Some(held) = table.open.get_mut(&self.0.number) {
            held.bytes += bytes;
        }
        has_room
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.0.change(|held| (held.is_asking, held.bytes) = (false, 0));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bounds.table().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { connections: 4, connections_of_one: 3, bytes: 100, bytes_of_one: 60 };

    fn from(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn who_has_most_makes_room_for_who_comes_and_nobody_who_asks_is_sent_away() {
        let bounds = Bounds::new(MOST);
        let enter = |last| bounds.enter(from(last));
        let (_other, mut other_left) = enter(2).unwrap();
        let (first, mut first_left) = enter(1).unwrap();
        let (_second, mut second_left) = enter(1).unwrap();
        let (_third, mut third_left) = enter(1).unwrap();
        let asking = first.ask();
        let (_fourth, _left) = enter(1).expect("of its own the first that asks nothing leaves");
        assert!(
            second_left.try_recv().is_ok()
                && first_left.try_recv().is_err()
                && third_left.try_recv().is_err()
        );
        let (_newcomer, _left) = enter(3).expect("of the crowd's the first that asks nothing leaves");
        assert!(third_left.try_recv().is_ok() && other_left.try_recv().is_err());
        drop(asking);
        let (_another, _left) = enter(1).expect("two of it are left, and all are four");
        assert!(first_left.try_recv().is_ok() && other_left.try_recv().is_err());
    }

    #[test]
    fn where_all_have_a_question_under_way_nobody_comes_in_until_one_leaves() {
        let bounds = Bounds::new(Most { connections: 1, ..MOST });
        let (place, _left) = bounds.enter(from(1)).unwrap();
        let asking = place.ask();
        assert!(bounds.enter(from(2)).is_none());
        drop(asking);
        drop(place);
        assert!(bounds.enter(from(2)).is_some());
        assert!(bounds.table().open.is_empty());
    }

    #[test]
    fn bytes_are_bounded_in_all_and_of_each_address_and_given_back_with_the_answer() {
        let bounds = Bounds::new(MOST);
        let (one, _left) = bounds.enter(from(1)).unwrap();
        let (same, _left) = bounds.enter(from(1)).unwrap();
        let (other, _left) = bounds.enter(from(2)).unwrap();
        let (first, second, third) = (one.ask(), same.ask(), other.ask());
        assert!(first.hold(30) && first.hold(30));
        assert!(!second.hold(1), "its address has what it may");
        assert!(third.hold(40) && !third.hold(1), "all have");
        drop(first);
        assert!(second.hold(60) && !third.hold(1));
    }
}
