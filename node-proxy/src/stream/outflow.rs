//! Whether the other end of a connection takes what it is sent, and who waits until it does.
//!
//! Where a cell holds more memory than it is to, nothing more is taken from a sender for a receiver that has not taken what there is
//! for it. It must never change a byte, nor keep anybody waiting for an end that takes what it is sent.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll, Waker},
};

/// What was noted of one end.
#[derive(Debug, Default)]
pub struct Outflow {
    /// It would not take all that there was for it.
    stalled: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Outflow {
    /// Notes what became of a write. One that has gone may be followed by one that does not, so who waits looks again.
    pub fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        if self.stalled.replace(written.is_pending()) && written.is_ready() {
            self.wake();
        }
        written
    }

    /// Whether something is left that it has not taken.
    pub fn is_stalled(&self) -> bool {
        self.stalled.get()
    }

    /// Ready when it takes what it is sent. `paused` is told of the first who waits.
    pub fn poll_taken(&self, cx: &mut Context<'_>, paused: impl FnOnce()) -> Poll<()> {
        if !self.stalled.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            paused();
        }
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    #[cold]
    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn who_sends_to_an_end_that_takes_nothing_waits_and_is_woken_once_when_it_does() {
        let (outflow, paused) = (Outflow::default(), Cell::new(0));
        let woken = [Arc::<Woken>::default(), Arc::default()];
        let poll = |who: usize| {
            let waker = Arc::clone(&woken[who]).into();
            outflow.poll_taken(&mut Context::from_waker(&waker), || paused.set(paused.get() + 1))
        };
        let times = || [0, 1].map(|who: usize| woken[who].0.load(Relaxed));
        assert!(poll(0).is_ready(), "nothing was written yet");
        assert!(outflow.note(Poll::<()>::Pending).is_pending() && outflow.is_stalled());
        assert!(poll(0).is_pending() && poll(0).is_pending() && poll(1).is_pending());
        assert_eq!((paused.get(), times()), (1, [0, 0]));
        assert!(outflow.note(Poll::<()>::Pending).is_pending());
        assert_eq!(times(), [0, 0], "it still takes nothing");
        assert!(outflow.note(Poll::Ready(())).is_ready() && !outflow.is_stalled());
        assert_eq!(times(), [1, 1]);
        assert!(poll(0).is_ready());
        assert!(outflow.note(Poll::Ready(())).is_ready());
        assert_eq!((paused.get(), times()), (1, [1, 1]), "nobody waits any more");
    }
}
