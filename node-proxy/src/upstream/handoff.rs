//! Opening a handoff: the caller's side of the way to another tenant's cell on this node.
//!
//! Whoever opens many at a time waits here, in its own cell and on its own time, so that one tenant's burst takes only its share of a
//! receiver's inbox. It must never wait in, or for a lock of, anybody else's cell.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use super::UpstreamError;
use crate::{
    handoff::{Line, Opening, pipe},
    policy::Permit,
    stream::Stream,
    telemetry::Reason,
};

/// Openings of one cell that may wait for one tree at a time: an eighth of a receiver's inbox.
const AT_A_TIME: usize = 32;

/// How many openings to each tree wait for an answer.
#[derive(Debug, Default)]
pub struct Calls(RefCell<HashMap<u64, Rc<Semaphore>>>);

impl Calls {
    /// Forgets trees; openings that wait go on.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    fn to(&self, tree: u64) -> Rc<Semaphore> {
        let mut trees = self.0.borrow_mut();
        Rc::clone(trees.entry(tree).or_insert_with(|| Rc::new(Semaphore::new(AT_A_TIME))))
    }
}

/// Opens a connection along a line, and waits for the receiver's answer.
pub(super) async fn open(
    calls: &Calls,
    permit: &Permit,
    line: &Line,
    address: SocketAddr,
    patience: Duration,
) -> Result<Stream, UpstreamError> {
    let answered = timeout(patience, async {
        let calls = calls.to(line.tree);
        let _turn = calls.acquire().await;
        let (mut near, far) = pipe::pipe(pipe::RING_BYTES);
        near.told_by(line.inbox.post());
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
        Ok(Ok(near)) => Ok(Stream::from(near)),
        Ok(Err(reason)) => Err(UpstreamError::Declined { address, reason }),
        Err(_elapsed) => Err(UpstreamError::Timeout { address, after: patience }),
    }
}
