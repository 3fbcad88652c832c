//! `expect: 100-continue`, end to end: the client is told to go on when the endpoint says so, not before.
//!
//! Hyper's server sends the 100 when the body is first polled, so the body is not polled until the endpoint's 100 is there. An
//! endpoint that knows nothing of 100 says nothing: after [`PATIENCE`] the body is sent regardless (RFC 9110, 10.1.1).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use http::{Request, StatusCode};
use tokio::time::Sleep;

use crate::upstream::pool::Upload;

/// Keeps a body back.
#[derive(Debug)]
pub(super) struct Gate {
    shared: Arc<Shared>,
    patience: Pin<Box<Sleep>>,
}

/// Opens a gate. Atomic because hyper may call back from anywhere; here it is always the same thread.
#[derive(Debug, Clone)]
pub(super) struct Opener(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: AtomicBool,
    waiting: AtomicWaker,
}

impl Gate {
    /// A closed gate, and what opens it.
    pub(super) fn closed() -> (Self, Opener) {
        let shared = Arc::new(Shared::default());
        let patience = Box::pin(tokio::time::sleep(PATIENCE));
        (Self { shared: Arc::clone(&shared), patience }, Opener(shared))
    }

    pub(super) fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.waiting.register(context.waker());
        if self.shared.open.load(Relaxed) {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(context)
    }
}

impl Opener {
    /// Opens the gate when the endpoint answers the request with a 100.
    pub(super) fn watch(self, request: &mut Request<Upload>) {
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                self.0.open.store(true, Relaxed);
                self.0.waiting.wake();
            }
        });
    }
}

/// How long an endpoint may take to say 100.
const PATIENCE: Duration = Duration::from_secs(1);
