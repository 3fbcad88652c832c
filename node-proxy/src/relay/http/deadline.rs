//! When a response has to be complete, whether its client takes it or not.
//!
//! Hyper asks for no more of a body while its client takes nothing, so a body cannot watch its own time. Who polls hyper does: the
//! task of an HTTP/1.1 connection, or of an HTTP/2 stream. It ends what it polls, and what is dropped with that is the body, its
//! endpoint's connection with it. It must never outlive its response: the next of the same connection has a time of its own.

use std::{
    cell::{Cell as Slot, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::{Rc, Weak},
    task::{Context, Poll},
};

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use super::session::Session;
use crate::{telemetry::Reason, tenancy::meter};

/// A response's; held by its body until that is complete.
#[derive(Debug)]
pub(super) struct Deadline {
    sleep: RefCell<Pin<Box<Sleep>>>,
    reason: Reason,
    /// The body was asked for more, and the endpoint had nothing.
    starved: Slot<bool>,
    over: Slot<bool>,
}

/// The deadline of the response that a task carries now, if there is one.
#[derive(Debug, Default)]
pub(super) struct Current(Weak<Deadline>);

/// Hyper's executor for the streams of an HTTP/2 connection: each ends at its deadline.
#[derive(Debug, Clone)]
pub(super) struct Streams(pub(super) Rc<Session>);

impl Deadline {
    /// Current from now on by whoever polls what this is called in.
    pub(super) fn begin(session: &Session, at: Instant, reason: Reason) -> Rc<Self> {
        let sleep = RefCell::new(Box::pin(sleep_until(at)));
        let deadline = Rc::new(Self { sleep, reason, starved: Slot::new(false), over: Slot::new(false) });
        session.deadline.replace(Rc::downgrade(&deadline));
        deadline
    }

    /// Whether the endpoint had nothing when it was last asked.
    pub(super) fn starved(&self, starved: bool) {
        self.starved.set(starved);
    }

    /// Whether it was not kept, why, and whether the endpoint is to blame for that.
    pub(super) fn is_over(&self) -> Option<(Reason, bool)> {
        self.over.get().then(|| (self.reason, self.starved.get()))
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let passed = self.sleep.borrow_mut().as_mut().poll(context);
        self.over.set(passed.is_ready());
        passed
    }
}

impl Current {
    /// Whether the time is over of what was polled just now.
    pub(super) fn poll(&mut self, session: &Session, context: &mut Context<'_>) -> Poll<()> {
        let begun = session.deadline.take();
        if begun.strong_count() > 0 {
            self.0 = begun;
        }
        match self.0.upgrade() {
            Some(deadline) => deadline.poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let session = Rc::clone(&self.0);
        drop(meter::spawn(async move {
            let (mut stream, mut watched) = (pin!(stream), Current::default());
            poll_fn(|context| match stream.as_mut().poll(context) {
                Poll::Pending => watched.poll(&session, context),
                Poll::Ready(()) => Poll::Ready(()),
            })
            .await;
        }));
    }
}
