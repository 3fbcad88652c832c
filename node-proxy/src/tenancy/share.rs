//! A cell's share of the process's descriptors: so many connections that it accepted, and as many sockets with which it connects
//! itself, to endpoints, apps and tunnels.
//!
//! The bound may change while the cell runs: what is there stays, and nothing new is taken until enough has gone. Must never
//! cost more than a counter.

use std::{cell::Cell, rc::Rc};

use config::model::Budget;

use super::permits::number;

/// The share of one cell, and what is taken of it.
#[derive(Debug)]
pub struct Share {
    bound: Cell<usize>,
    /// Where the tenant's budget says less.
    budget: Cell<(usize, usize)>,
    seats: Rc<Cell<usize>>,
    sockets: Rc<Cell<usize>>,
    mirrors: Rc<Cell<usize>>,
}

/// One that is taken; given back when dropped. Whoever holds a socket holds this as long.
#[derive(Debug)]
pub struct Taken(Rc<Cell<usize>>);

/// Of the share's sockets, the part that mirrors leave to everything else: all but one in so many.
const MIRRORS: usize = 4;

impl Share {
    /// So many of each.
    pub fn new(bound: usize) -> Self {
        let budget = Cell::new((usize::MAX, usize::MAX));
        let (bound, seats) = (Cell::new(bound), Rc::default());
        Self { bound, budget, seats, sockets: Rc::default(), mirrors: Rc::default() }
    }

    /// Keeps to a budget, too: of connections, and of descriptors, of which each may have two.
    pub fn follow(&self, budget: &Budget) {
        let each = number(budget.descriptors) / 2;
        self.budget.set((number(budget.connections).min(each), each));
    }

    fn most_seats(&self) -> usize {
        self.bound.get().min(self.budget.get().0)
    }

    fn most_sockets(&self) -> usize {
        self.bound.get().min(self.budget.get().1)
    }

    /// Changes the bound.
    pub fn change(&self, bound: usize) {
        self.bound.set(bound);
    }

    /// How many of each there may be.
    pub fn bound(&self) -> usize {
        self.bound.get()
    }

    /// As many as there are of whichever there are more.
    pub fn held(&self) -> usize {
        self.seats.get().max(self.sockets.get())
    }

    /// Sockets to elsewhere.
    pub fn sockets(&self) -> usize {
        self.sockets.get()
    }

    /// Mirrors under way.
    pub fn mirrors(&self) -> usize {
        self.mirrors.get()
    }

    /// One more connection that was accepted; `None` where there are as many as there may be.
    pub fn seat(&self) -> Option<Taken> {
        Taken::of(&self.seats, self.most_seats())
    }

    /// Whether there are as many connections that were accepted as there may be.
    pub fn is_full(&self) -> bool {
        self.seats.get() >= self.most_seats()
    }

    /// One more connection than the tenant's budget lets in; `None` where the share itself has no place.
    pub fn extra_seat(&self) -> Option<Taken> {
        Taken::of(&self.seats, self.bound.get())
    }

    /// One more socket to elsewhere; `None` where there are as many as there may be.
    pub fn socket(&self) -> Option<Taken> {
        Taken::of(&self.sockets, self.most_sockets())
    }

    /// One more mirror; `None` where mirrors have their quarter of the sockets, or a quarter is all that is left, with those that
    /// are idle. A request is never refused because of copies of others.
    pub fn mirror(&self, idle: usize) -> Option<Taken> {
        let most = self.most_sockets() / MIRRORS;
        let busy = self.sockets.get().saturating_sub(idle);
        let is_room = busy < self.most_sockets() - most;
        if is_room { Taken::of(&self.mirrors, most) } else { None }
    }

    /// Sockets that have to go before there is room for one more.
    pub fn surplus(&self) -> usize {
        (self.sockets.get() + 1).saturating_sub(self.most_sockets())
    }
}

impl Taken {
    pub(super) fn of(taken: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        (taken.get() < most).then(|| {
            taken.set(taken.get() + 1);
            Self(Rc::clone(taken))
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_and_sockets_are_bounded_apart_and_come_back() {
        let share = Share::new(2);
        let seats: Vec<_> = (0..3).map_while(|_| share.seat()).collect();
        let sockets: Vec<_> = (0..3).map_while(|_| share.socket()).collect();
        assert_eq!((seats.len(), sockets.len(), share.surplus()), (2, 2, 1));
        drop(seats);
        assert!(share.seat().is_some() && share.socket().is_none());
        drop(sockets);
        assert_eq!((share.held(), share.surplus()), (0, 0));
    }

    #[test]
    fn a_share_that_shrinks_takes_nothing_new_until_enough_has_gone() {
        let share = Share::new(4);
        let mut held: Vec<_> = (0..4).map_while(|_| share.seat()).collect();
        share.change(2);
        while held.len() >= 2 {
            assert!(share.seat().is_none(), "{} of 2", held.len());
            held.pop();
        }
        assert!(share.seat().is_some());
    }

    #[test]
    fn a_budget_bounds_connections_and_by_its_descriptors_both() {
        let share = Share::new(10);
        share.follow(&Budget { connections: Some(3), descriptors: Some(16), ..Budget::default() });
        let taken = |share: &Share| {
            let seats: Vec<_> = (0..20).map_while(|_| share.seat()).collect();
            let sockets: Vec<_> = (0..20).map_while(|_| share.socket()).collect();
            (seats.len(), sockets.len())
        };
        assert_eq!(taken(&share), (3, 8));
        share.follow(&Budget { descriptors: Some(8), ..Budget::default() });
        assert_eq!(taken(&share), (4, 4));
        share.follow(&Budget { connections: Some(50), ..Budget::default() });
        assert_eq!(taken(&share), (10, 10), "no budget is more than the share");
    }

    #[test]
    fn mirrors_have_a_quarter_and_none_of_the_last_quarter() {
        let share = Share::new(8);
        let mirrors: Vec<_> = (0..8).map_while(|_| share.mirror(0)).collect();
        assert_eq!(mirrors.len(), 2);
        drop(mirrors);
        let _sockets: Vec<_> = (0..6).map_while(|_| share.socket()).collect();
        assert!(share.mirror(0).is_none() && share.mirror(1).is_some());
        assert_eq!(share.mirrors(), 0);
    }
}
