//! The thread that reads the configuration, and puts it on the shelf.
//!
//! It must never wait for a node.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime},
};

use super::Streams;
use crate::control::{ConfigSource, Status};

/// The thread. Dropping this tells it to end and does not wait for it: a source may hang.
#[derive(Debug)]
pub struct Feed {
    stop: Arc<AtomicBool>,
}

/// The thread cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the system does not give a thread to read the configuration with")]
pub struct FeedError(#[from] io::Error);

/// How long the thread looks at its source before it looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(200);

impl Feed {
    /// Starts to bring what `source` says to `streams`, and what there is to say about it to `status`.
    pub fn start(
        mut source: Box<dyn ConfigSource>,
        streams: Arc<Streams>,
        status: Arc<Status>,
    ) -> Result<Self, FeedError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            while !stopped.load(Relaxed) {
                let Some(outcome) = source.next(PATIENCE) else { continue };
                // What is news for owners is told where their pods run.
                drop(status.take(&outcome, SystemTime::now()));
                streams.stock(&outcome.mesh);
                let (version, accepted) = (outcome.mesh.version, outcome.accepted);
                tracing::info!(version, accepted, findings = outcome.findings.len(), "configuration served");
            }
        })?;
        Ok(Self { stop })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
