//! How long a peer is waited for that was asked to end a connection and has nothing under way on it.
//!
//! HTTP/2 asks the peer whether it has heard of the end before it ends, so that no request on its way is lost. A peer that is gone
//! without a word never answers, and one may talk of other things for ever. Who had something under way is left to HTTP/2's own
//! end: what is under way, and the last bytes of what was, must never be cut here.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// The end of one connection, from when its peer was asked.
#[derive(Debug)]
pub struct Farewell {
    timer: Pin<Box<Sleep>>,
    patience: Patience,
    /// Whatever is said until then.
    last: Instant,
    /// At the last look.
    heard: u64,
    /// It is HTTP/2's own.
    is_left: bool,
}

/// How long a peer is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// That says nothing.
    pub silent: Duration,
    /// In all, of one that says something: what comes may be a request that is long in coming.
    pub talking: Duration,
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
    /// Begins now.
    pub fn begin(patience: Patience, signs: Signs) -> Self {
        let timer = Box::pin(sleep(patience.silent));
        let last = Instant::now() + patience.talking;
        Self { timer, patience, last, heard: signs.heard, is_left: signs.busy }
    }

    /// Ready when nothing was under way from the beginning on, and nothing is heard any more or enough was. To be polled whenever
    /// something has come.
    pub fn poll(&mut self, signs: Signs, cx: &mut Context<'_>) -> Poll<()> {
        self.is_left |= signs.busy;
        if self.is_left {
            return Poll::Pending;
        }
        if self.heard != signs.heard {
            self.heard = signs.heard;
            self.timer.as_mut().reset(self.last.min(Instant::now() + self.patience.silent));
        }
        self.timer.as_mut().poll(cx)
    }
}

/// What serves one connection, and how it comes to its end.
#[derive(Debug)]
pub struct Served<C, Ask, IsToEnd, Look> {
    /// Serves it while it is polled.
    pub connection: C,
    /// Has its peer asked to let go of it.
    pub ask: Ask,
    /// Whether that is to be done.
    pub is_to_end: IsToEnd,
    /// What is known of it now.
    pub signs: Look,
}

impl<C, Ask, IsToEnd, Look> Served<C, Ask, IsToEnd, Look>
where
    C: Future,
    Ask: Fn(Pin<&mut C>),
    IsToEnd: Fn() -> bool,
    Look: Fn() -> Signs,
{
    /// Serves it to its end; `None` where its peer was asked for that, and waited for in vain.
    pub async fn run(self, patience: Patience) -> Option<C::Output> {
        let Self { connection, ask, is_to_end, signs } = self;
        let (mut connection, mut farewell) = (pin!(connection), None);
        poll_fn(|cx| {
            loop {
                if farewell.is_none() && is_to_end() {
                    farewell = Some(Farewell::begin(patience, signs()));
                    ask(connection.as_mut());
                }
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                match &mut farewell {
                    Some(farewell) => return farewell.poll(signs(), cx).map(|()| None),
                    // A request has just found that no further one is permitted.
                    None if is_to_end() => {}
                    None => return Poll::Pending,
                }
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    const IDLE: Signs = Signs { busy: false, heard: 7 };
    const BUSY: Signs = Signs { busy: true, ..IDLE };

    /// Seconds until it ends one that has these signs at first, and then those of each further second.
    async fn ends_after(first: Signs, then: impl IntoIterator<Item = Signs>) -> Option<u64> {
        let (begun, signs) = (Instant::now(), Rc::new(Cell::new(first)));
        let patience = Patience { silent: Duration::from_secs(2), talking: Duration::from_secs(10) };
        let mut farewell = Farewell::begin(patience, first);
        let looks = async {
            for next in then {
                sleep(Duration::from_secs(1)).await;
                signs.set(next);
                if poll_fn(|cx| Poll::Ready(farewell.poll(signs.get(), cx))).await.is_ready() {
                    return;
                }
            }
            poll_fn(|cx| farewell.poll(signs.get(), cx)).await;
        };
        let ended = tokio::time::timeout(Duration::from_secs(600), looks).await;
        ended.ok().map(|()| begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_idle_peer_is_waited_for_once_and_one_that_has_work_is_left_alone() {
        assert_eq!(ends_after(IDLE, []).await, Some(2));
        assert_eq!(ends_after(IDLE, [BUSY, IDLE]).await, None, "it has work");
        assert_eq!(ends_after(BUSY, [IDLE]).await, None, "its last bytes may still be on their way");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_heard_is_waited_for_anew_but_not_for_ever() {
        let heard = |heard| Signs { heard, ..IDLE };
        assert_eq!(ends_after(IDLE, [heard(8)]).await, Some(3));
        assert_eq!(ends_after(IDLE, (8..600).map(heard)).await, Some(10), "it never says what it is asked");
        let late = (8..16).map(heard).chain([Signs { heard: 16, busy: true }]);
        assert_eq!(ends_after(IDLE, late).await, None, "a request was on its way");
    }
}
