//! How long a peer is waited for that was asked to end a connection, has nothing under way on it, and says nothing.
//!
//! HTTP/2 asks the peer whether it has heard of the end before it ends, so that no request on its way is lost. A peer that is gone
//! without a word, or does not listen while it is idle, never answers. What is under way must never be ended by it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// The end of one connection, from when its peer was asked.
#[derive(Debug)]
pub struct Farewell {
    timer: Pin<Box<Sleep>>,
    silence: Duration,
    last: Signs,
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
        Self { timer: Box::pin(sleep(silence)), silence, last: signs }
    }

    /// Ready when nothing was under way and nothing was heard for so long.
    pub fn poll(&mut self, signs: Signs, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let last = std::mem::replace(&mut self.last, signs);
            if last == signs && !signs.busy {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(Instant::now() + self.silence);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, rc::Rc};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_waited_for_once_and_one_that_is_heard_or_has_work_longer() {
        let signs = Rc::new(Cell::new(Signs { busy: false, heard: 7 }));
        let said = |signs: &Rc<Cell<Signs>>| {
            let signs = Rc::clone(signs);
            let mut farewell = Farewell::begin(Duration::from_secs(2), signs.get());
            async move {
                let begun = Instant::now();
                poll_fn(|cx| farewell.poll(signs.get(), cx)).await;
                begun.elapsed().as_secs()
            }
        };
        assert_eq!(said(&signs).await, 2);
        let later = async |after: u64, next: Signs| {
            sleep(Duration::from_secs(after)).await;
            signs.set(next);
        };
        let heard = later(1, Signs { busy: false, heard: 8 });
        assert_eq!(tokio::join!(said(&signs), heard).0, 4);
        signs.set(Signs { busy: true, heard: 8 });
        let done = later(21, Signs { busy: false, heard: 8 });
        assert_eq!(tokio::join!(said(&signs), done).0, 24, "a whole silence after its work");
    }
}
