//! Hyper's runtime on tokio's: tasks of the cell's own thread, tokio's clock.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Executor, Sleep, Timer};

use crate::tenancy::meter;

/// Spawns on the current thread; who pays for what spawns pays for what is spawned.
#[derive(Debug, Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        drop(meter::spawn(future));
    }
}

/// Tokio's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
pub struct TokioTimer;

#[expect(clippy::disallowed_types, reason = "hyper's trait speaks of std's instants; they are tokio's here")]
impl Timer for TokioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }

    fn now(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: std::time::Instant) {
        if let Some(mut tokio) = sleep.as_mut().downcast_mut_pin::<TokioSleep>() {
            tokio.0.as_mut().reset(deadline.into());
        }
    }
}

struct TokioSleep(Pin<Box<tokio::time::Sleep>>);

impl Future for TokioSleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for TokioSleep {}
