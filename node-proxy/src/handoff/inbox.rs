//! Where a receiver's cell takes handed-off connections from: a bounded queue that nobody waits for.
//!
//! Whoever finds it full is refused at once. The supervisor can close it from outside and end what its cell had taken, so that a
//! stuck cell keeps no caller waiting.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;
use slab::Slab;

use super::{
    End, Handle, Opening, Post,
    courier::Courier,
    pipe::{self, RING_BYTES},
    socket,
};
use crate::telemetry::Reason;

/// Openings that may wait for a cell. A cell takes them all at its next turn; one that leaves so many unread is busy beyond
/// help, and more would only keep callers waiting.
const WAITING: usize = 256;

/// The inbox of one cell. Any thread may put into it; one task takes out.
pub struct Inbox {
    queue: ArrayQueue<Opening>,
    taker: AtomicWaker,
    /// Where its cell is told of bytes.
    post: Arc<Post>,
    closed: AtomicBool,
    /// What was taken and lives. Written by the cell; read by others only when it is given up, so its lock is never
    /// waited for.
    taken: Mutex<Slab<Handle>>,
    /// The cell is another process: who takes openings there.
    courier: Option<Courier>,
}

/// An opening that was not taken in, and why.
#[derive(Debug)]
pub struct Turned {
    /// Why.
    pub reason: Reason,
}

/// Notes that a connection was taken out of an inbox; dropping it says that it has ended.
#[derive(Debug)]
pub(super) struct Admitted {
    inbox: Arc<Inbox>,
    key: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            queue: ArrayQueue::new(WAITING),
            taker: AtomicWaker::new(),
            post: Arc::default(),
            closed: AtomicBool::new(false),
            taken: Mutex::default(),
            courier: None,
        }
    }
}

impl Inbox {
    /// That of a cell in another process.
    pub fn elsewhere(courier: Courier) -> Self {
        // Nothing waits in it: what waits for that cell is in the courier's socket.
        Self { queue: ArrayQueue::new(1), courier: Some(courier), ..Self::default() }
    }

    /// Whether its cell is another process, and connections to it are sockets.
    pub fn is_elsewhere(&self) -> bool {
        self.courier.is_some()
    }

    /// A connection to whoever is behind it: the end of who opens it, and the end to [offer](Self::offer).
    pub fn connection(&self) -> Result<(End, End), Turned> {
        if self.courier.is_some() {
            let (near, far) = socket::pair().map_err(|_| Turned { reason: Reason::HandoffFull })?;
            return Ok((near.into(), far.into()));
        }
        let (mut near, far) = pipe::pipe(RING_BYTES);
        near.told_by(&self.post);
        Ok((near.into(), far.into()))
    }

    /// Puts an opening in. It may still be refused later; that is what its pipe will say.
    pub fn offer(&self, opening: Opening) -> Result<(), Turned> {
        let turned = |reason| Err(Turned { reason });
        if self.closed.load(SeqCst) {
            opening.refuse(Reason::CellRestarted);
            return turned(Reason::CellRestarted);
        }
        if let Some(courier) = &self.courier {
            return courier.send(opening).or_else(turned);
        }
        if let Err(opening) = self.queue.push(opening) {
            opening.refuse(Reason::HandoffFull);
            return turned(Reason::HandoffFull);
        }
        self.taker.wake();
        // It may have been closed, and emptied, in between.
        if self.closed.load(SeqCst) {
            self.refuse_waiting(Reason::CellRestarted);
        }
        Ok(())
    }

    /// The next opening. For one task of the receiver's cell.
    pub async fn next(&self) -> Opening {
        poll_fn(|cx| {
            if let Some(opening) = self.queue.pop() {
                return Poll::Ready(opening);
            }
            self.taker.register(cx.waker());
            self.queue.pop().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Notes a connection that was taken out, so that it can be ended when the cell is stuck.
    pub fn admit(self: &Arc<Self>, pipe: &mut End) {
        let Some(handle) = pipe.handle() else { return };
        let key = self.taken().insert(handle);
        pipe.admitted(Admitted { inbox: Arc::clone(self), key });
        // It may have been closed since the opening was taken out.
        if self.closed.load(SeqCst) {
            pipe.refuse(Reason::CellRestarted);
        }
    }

    /// Ends it for good, with all that waits in it and all that was taken out of it: the cell behind it is gone.
    pub fn close(&self, reason: Reason) -> usize {
        self.closed.store(true, SeqCst);
        let waiting = self.refuse_waiting(reason);
        let taken = self.taken();
        taken.iter().for_each(|(_, handle)| handle.abort(reason));
        waiting + taken.len()
    }

    /// Where the cell behind it is told of bytes.
    pub fn post(&self) -> &Arc<Post> {
        &self.post
    }

    /// Openings that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn refuse_waiting(&self, reason: Reason) -> usize {
        std::iter::from_fn(|| self.queue.pop()).map(|opening| opening.refuse(reason)).count()
    }

    fn taken(&self) -> MutexGuard<'_, Slab<Handle>> {
        // A panic while it was held cannot leave the slab half changed: no code of ours runs in between.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        drop(self.inbox.taken().try_remove(self.key));
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbox({} waiting)", self.waiting())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::handoff::pipe::{PipeEnd, pipe};

    fn opening(pipe: PipeEnd) -> Opening {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let source = Arc::new(crate::handoff::tests::workload());
        Opening { pipe: pipe.into(), source, client: anywhere, destination: anywhere, tree: 1 }
    }

    #[tokio::test]
    async fn a_full_inbox_turns_callers_away_at_once_and_takes_them_again_when_it_was_read() {
        let inbox = Inbox::default();
        let mut callers: Vec<PipeEnd> = Vec::new();
        let refused = loop {
            let (near, far) = pipe(64);
            match inbox.offer(opening(far)) {
                Ok(()) => callers.push(near),
                Err(turned) => break turned.reason,
            }
        };
        assert_eq!((refused, callers.len()), (Reason::HandoffFull, WAITING));
        drop(inbox.next().await);
        assert_eq!(callers[0].answered().await, Err(Reason::CellRestarted));
        assert!(inbox.offer(opening(pipe(64).1)).is_ok());
    }

    #[tokio::test]
    async fn closing_an_inbox_answers_those_that_wait_and_cuts_those_that_were_taken() {
        let inbox = Arc::new(Inbox::default());
        let ((waits, far), (taken, far_too)) = (pipe(64), pipe(64));
        inbox.offer(opening(far_too)).unwrap();
        let mut opening_taken = inbox.next().await;
        inbox.admit(&mut opening_taken.pipe);
        opening_taken.pipe.accept().unwrap();
        inbox.offer(opening(far)).unwrap();
        assert_eq!(inbox.close(Reason::CellRestarted), 2);
        assert_eq!(waits.answered().await, Err(Reason::CellRestarted));
        taken.answered().await.unwrap();
        let mut taken = taken;
        let error = tokio::io::AsyncReadExt::read(&mut taken, &mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let late = inbox.offer(opening(pipe(64).1)).unwrap_err();
        assert_eq!(late.reason, Reason::CellRestarted);
        drop(opening_taken);
        assert!(inbox.taken().is_empty());
    }

    #[tokio::test]
    async fn what_a_cell_takes_after_it_was_given_up_is_refused() {
        let inbox = Arc::new(Inbox::default());
        let (near, far) = pipe(64);
        inbox.offer(opening(far)).unwrap();
        let mut taken = inbox.next().await;
        inbox.close(Reason::CellRestarted);
        inbox.admit(&mut taken.pipe);
        assert_eq!(near.answered().await, Err(Reason::CellRestarted));
        assert!(taken.pipe.accept().is_err());
    }
}
