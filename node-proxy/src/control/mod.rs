//! From sources to snapshots: watch, lower, compile per tenant, swap; and the status of every object.
//!
//! Runs on the control thread, never on a cell. A tenant's bad configuration must never delay or fail another's.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use config::store::Outcome;

use self::compile::Compiler;
use crate::forest::{Configuration, ForestHandle};

pub use self::{files::FileSource, status::Status};

pub mod compile;
pub mod directory;
mod files;
mod status;

/// Where configuration comes from. One of the six seams.
pub trait ConfigSource: Send + fmt::Debug {
    /// What the configuration has become; `None` if nothing changed within `patience`. The first call gives what is
    /// there.
    fn next(&mut self, patience: Duration) -> Option<Outcome>;
}

/// The control thread. Dropping it ends the thread.
#[derive(Debug)]
pub struct Control {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long the thread looks at its source before it looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(200);

impl Control {
    /// Starts to bring what `source` says to the forest, and what there is to say about it to `status`.
    pub fn start(
        mut source: Box<dyn ConfigSource>,
        forest: ForestHandle,
        status: Arc<Status>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            let mut compiler = Compiler::new();
            while !stopped.load(Relaxed) {
                if let Some(outcome) = source.next(PATIENCE) {
                    status.take(&outcome);
                    let snapshots = compiler.compile(&outcome.mesh);
                    forest.apply(Configuration { mesh: outcome.mesh, snapshots });
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
    }
}
