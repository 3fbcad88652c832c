//! The wish that a tree's connections end: each finishes what it is doing and begins nothing new.
//!
//! Said once and never taken back. It must never end anything by force: that is the supervisor's, later.

use std::cell::Cell;

use tokio::sync::Notify;

/// Whether connections should come to an end.
#[derive(Debug, Default)]
pub struct Closing {
    begun: Cell<bool>,
    waiting: Notify,
}

impl Closing {
    /// Says that they should.
    pub fn begin(&self) {
        self.begun.set(true);
        self.waiting.notify_waiters();
    }

    /// Whether it was said.
    pub fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Waits until it is said; at once if it was.
    pub async fn begun(&self) {
        // One thread: nothing can be said between the question and the first poll of the answer's waiter.
        if !self.begun.get() {
            self.waiting.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told_and_whoever_comes_later_does_not_wait() {
        let closing = Closing::default();
        let (told, ()) = tokio::join!(
            async {
                closing.begun().await;
                closing.has_begun()
            },
            async {
                tokio::task::yield_now().await;
                closing.begin();
            }
        );
        assert!(told);
        closing.begun().await;
    }
}
