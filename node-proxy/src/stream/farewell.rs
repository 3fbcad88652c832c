//! How long a peer is waited for that was asked to end a connection, has nothing under way on it, and says nothing.
//!
//! HTTP/2 asks the peer whether it has heard of the end before it ends, so that no request on its way is lost. A peer that is gone
//! without a word never answers. Whoever is heard, or had something under way, is left to HTTP/2's own end: what is under way, and
//! the last bytes of what was, must never be cut here.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// The end of one connection, from when its peer was asked.
#[derive(Debug)]
pub struct Farewell {
    timer: Pin<Box<Sleep>>,
    first: Signs,
    /// It is HTTP/2's own.
    is_left: bool,
}

/// What is known of a connection at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signs {
    /// Something is under way on it.
    pub busy: bool,
    /// How often its peer was heard.
    pub heard: u64,
}

impl Farewell {
    /// Begins now; the peer may be silent for so long.
    pub fn begin(silence: Duration, signs: Signs) -> Self {
        Self { timer: Box::pin(sleep(silence)), first: signs, is_left: signs.busy }
    }

    /// Ready when nothing was under way and nothing was heard from the beginning on, for so long.
    pub fn poll(&mut self, signs: Signs, cx: &mut Context<'_>) -> Poll<()> {
        self.is_left |= signs != self.first;
        if self.is_left { Poll::Pending } else { self.timer.as_mut().poll(cx) }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, rc::Rc};

    use tokio::time::Instant;

    use super::*;

    /// Seconds until it ends one whose signs change so after a second.
    async fn ends_after(first: Signs, then: Signs) -> Option<u64> {
        let (begun, signs) = (Instant::now(), Rc::new(Cell::new(first)));
        let mut farewell = Farewell::begin(Duration::from_secs(2), first);
        let changing = async {
            sleep(Duration::from_secs(1)).await;
            signs.set(then);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = poll_fn(|cx| farewell.poll(signs.get(), cx)) => Some(begun.elapsed().as_secs()),
            () = changing => None,
            () = sleep(Duration::from_secs(600)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_idle_peer_is_waited_for_once_and_one_that_is_heard_or_has_work_is_left_alone() {
        let idle = Signs { busy: false, heard: 7 };
        let busy = Signs { busy: true, ..idle };
        assert_eq!(ends_after(idle, idle).await, Some(2));
        assert_eq!(ends_after(idle, Signs { heard: 8, ..idle }).await, None, "it was heard");
        assert_eq!(ends_after(idle, busy).await, None, "it has work");
        assert_eq!(ends_after(busy, idle).await, None, "its last bytes may still be on their way");
    }
}
