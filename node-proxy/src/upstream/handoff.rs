//! Opening a handoff: the caller's side of the way to another tenant's cell on this node.
//!
//! Whoever opens many at a time waits here, in its own cell and on its own time, so that one tenant's burst takes only its share of a
//! receiver's inbox. It must never wait in, or for a lock of, anybody else's cell.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use super::UpstreamError;
use crate::{
    handoff::{End, Inbox, Line, Opening},
    policy::Permit,
    telemetry::Reason,
};

/// Openings of one cell that may wait for one tree at a time, so that an app that does not answer keeps only some of them.
const TO_A_TREE: usize = 32;
/// And for all trees of one receiver: a quarter of its inbox.
const TO_A_CELL: usize = 64;

/// How many openings wait for an answer, by who is to give it.
#[derive(Debug, Default)]
pub struct Calls {
    trees: RefCell<HashMap<u64, Rc<Semaphore>>>,
    /// By address.
    cells: RefCell<HashMap<*const Inbox, Receiver>>,
}

#[derive(Debug)]
struct Receiver {
    /// Keeps its address from being anybody else's.
    inbox: Weak<Inbox>,
    turns: Rc<Semaphore>,
}

impl Calls {
    /// Forgets trees, and receivers that are gone; openings that wait go on, and count on.
    pub fn clear(&self) {
        self.trees.borrow_mut().clear();
        self.cells.borrow_mut().retain(|_, receiver| receiver.inbox.strong_count() > 0);
    }

    fn to_tree(&self, tree: u64) -> Rc<Semaphore> {
        let mut trees = self.trees.borrow_mut();
        Rc::clone(trees.entry(tree).or_insert_with(|| Rc::new(Semaphore::new(TO_A_TREE))))
    }

    fn to_cell(&self, inbox: &Arc<Inbox>) -> Rc<Semaphore> {
        let mut cells = self.cells.borrow_mut();
        let new = || Receiver { inbox: Arc::downgrade(inbox), turns: Rc::new(Semaphore::new(TO_A_CELL)) };
        Rc::clone(&cells.entry(Arc::as_ptr(inbox)).or_insert_with(new).turns)
    }
}

/// Opens a connection along a line, and waits for the receiver's answer.
pub(super) async fn open(
    calls: &Calls,
    permit: &Permit,
    line: &Line,
    address: SocketAddr,
    patience: Duration,
) -> Result<End, UpstreamError> {
    let answered = timeout(patience, async {
        let (tree, cell) = (calls.to_tree(line.tree), calls.to_cell(&line.inbox));
        let _turns = (tree.acquire().await, cell.acquire().await);
        let (near, far) = line.inbox.connection().map_err(|turned| turned.reason)?;
        line.inbox
            .offer(Opening {
                pipe: far,
                source: Arc::clone(&permit.tree.workload),
                client: permit.origin.client,
                destination: address,
                tree: line.tree,
            })
            .map_err(|turned| turned.reason)?;
        near.answered().await?;
        Ok::<_, Reason>(near)
    });
    match answered.await {
        Ok(Ok(near)) => Ok(near),
        Ok(Err(reason)) => Err(UpstreamError::Declined { address, reason }),
        Err(_elapsed) => Err(UpstreamError::Timeout { address, after: patience }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_receiver_counts_for_all_its_pods_together_and_on_every_board() {
        let (calls, receiver, other) = (Calls::default(), Arc::default(), Arc::default());
        let (first, second) = (calls.to_cell(&receiver), calls.to_cell(&receiver));
        let waiting: Vec<_> = std::iter::from_fn(|| first.try_acquire().ok()).collect();
        assert_eq!((waiting.len(), second.available_permits()), (TO_A_CELL, 0));
        calls.clear();
        assert_eq!(calls.to_cell(&receiver).available_permits(), 0);
        assert_eq!(calls.to_cell(&other).available_permits(), TO_A_CELL);
        drop(receiver);
        calls.clear();
        assert_eq!(calls.cells.borrow().len(), 1);
    }
}
