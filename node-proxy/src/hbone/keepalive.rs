//! Asks the other end of a tunnel whether it is still there, so that no half-open one stays.
//!
//! Driven by the task that drives the connection; costs one timer each.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// How long the answer may take, in pauses between an answer and the next question.
const ANSWER: u32 = 2;

/// The questions and answers of one connection.
#[derive(Debug)]
pub struct Keepalive {
    ping: Option<PingPong>,
    every: Duration,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

/// What a [`Keepalive`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Another period has passed: time to look after what is idle.
    Alive,
    /// No answer came in time.
    Dead,
}

impl Keepalive {
    /// Of a connection's own handle, with this pause between an answer and the next question.
    pub fn new(ping: Option<PingPong>, every: Duration) -> Self {
        Self { ping, every, timer: Box::pin(sleep(every)), asked: false }
    }

    /// Asks when it is time. Poll it again until it is pending.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Pulse> {
        if let (true, Some(ping)) = (self.asked, &mut self.ping)
            && ping.poll_pong(cx).is_ready()
        {
            // An error is the connection's end, which its driver sees by itself.
            self.asked = false;
            self.timer.as_mut().reset(Instant::now() + self.every);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.asked {
            return Poll::Ready(Pulse::Dead);
        }
        let sent = self.ping.as_mut().is_some_and(|ping| ping.send_ping(Ping::opaque()).is_ok());
        self.asked = sent;
        self.timer.as_mut().reset(Instant::now() + self.every * if sent { ANSWER } else { 1 });
        Poll::Ready(Pulse::Alive)
    }
}
