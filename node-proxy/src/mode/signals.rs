//! Which signals the daemon heeds, and what each does. They are only told here: what ending means is for `node` and `control` to say.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::access::Writer;

/// The signals the daemon heeds.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// To be made within an event loop.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. SIGHUP ends nothing.
    pub(super) async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {}
            }
        }
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP opens the access log again, after it was rotated.
    pub(super) async fn end(&mut self, access_log: &Writer) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => access_log.reopen(),
            }
        }
    }
}
