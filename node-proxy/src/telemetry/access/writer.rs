//! The one thread that writes the access log, and the queues through which cells reach it.
//!
//! It polls, so that no cell ever has to wake it. Buffers go back to the cell they came from, so that memory stays with
//! its owner. It must never make a cell wait: a slow disk costs lines, which are counted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use config::name::TenantId;
use crossbeam_queue::ArrayQueue;

use super::{
    AccessLog,
    process::{self, FromProcess, Turn},
};

/// Where lines are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file, which is opened again on [`Writer::reopen`].
    File(PathBuf),
}

/// The access log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file could not be opened.
    #[error(
        "the access log {path} cannot be opened for appending; give another path with --access-log, or `-` for standard output"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No thread could be had.
    #[error("no thread for the access log")]
    Thread(#[source] io::Error),
}

/// Full buffers on their way to the writer, empty ones on their way back.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) filled: ArrayQueue<Vec<u8>>,
    pub(super) emptied: ArrayQueue<Vec<u8>>,
    pub(super) dropped: Arc<AtomicU64>,
}

impl Outbox {
    /// Swaps the buffer for an empty one that the writer gave back, so that memory stays its owner's.
    pub(super) fn take(&self, buffer: &mut Vec<u8>) {
        let empty = self.emptied.pop().unwrap_or_default();
        let filled = std::mem::replace(buffer, empty);
        if let Err(mut refused) = self.filled.push(filled) {
            let lost = refused.iter().filter(|byte| **byte == b'\n').count();
            self.dropped.fetch_add(lost as u64, Relaxed);
            refused.clear();
            *buffer = refused;
        }
    }
}

/// The writer thread. Dropping it writes what is left and ends the thread.
#[derive(Debug)]
pub struct Writer {
    shared: Option<Arc<Shared>>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Taken by the writer thread and when a cell starts, never on a cell's data path.
    outboxes: Mutex<Vec<Arc<Outbox>>>,
    /// As above.
    processes: Mutex<Vec<FromProcess>>,
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl Writer {
    /// Opens the target and starts the thread; with [`Target::Off`] there is none.
    pub fn start(target: Target) -> Result<Self, AccessLogError> {
        let dropped = Arc::default();
        if target == Target::Off {
            return Ok(Self { shared: None, dropped, thread: None });
        }
        let sink = open(&target)?;
        let shared = Arc::new(Shared {
            outboxes: Mutex::default(),
            processes: Mutex::default(),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let work = Work { target, sink, shared: Arc::clone(&shared) };
        let builder = std::thread::Builder::new().name("access-log".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || work.run()).map_err(AccessLogError::Thread)?;
        Ok(Self { shared: Some(shared), dropped, thread: Some(thread) })
    }

    /// The log of one lane of a tenant. Its lines are written until it is dropped and drained.
    pub fn for_cell(&self, tenant: &TenantId) -> AccessLog {
        let Some(shared) = &self.shared else { return AccessLog::default() };
        let outbox = Arc::new(Outbox {
            filled: ArrayQueue::new(BATCHES),
            emptied: ArrayQueue::new(BATCHES),
            dropped: Arc::clone(&self.dropped),
        });
        lock(&shared.outboxes).push(Arc::clone(&outbox));
        AccessLog::new(outbox, tenant)
    }

    /// What a cell in a process of its own has to be given for [`AccessLog::to_daemon`]; `None` where nothing is written. Its lines
    /// are written until the process is gone, as far as they are its tenant's.
    pub fn for_process(&self, tenant: &TenantId) -> io::Result<Option<OwnedFd>> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let (ours, theirs) = process::pair(tenant, &self.dropped)?;
        lock(&shared.processes).push(ours);
        Ok(Some(theirs))
    }

    /// Lines that were dropped because the writer could not keep up, since start.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Opens the file again, after it was rotated.
    pub fn reopen(&self) {
        if let Some(shared) = &self.shared {
            shared.reopen.store(true, Relaxed);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.stop.store(true, Relaxed);
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was its own; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

struct Work {
    target: Target,
    sink: Box<dyn Write + Send>,
    shared: Arc<Shared>,
}

impl Work {
    fn run(mut self) {
        let mut pause = BUSY_PAUSE;
        loop {
            let stopping = self.shared.stop.load(Relaxed);
            if self.shared.reopen.swap(false, Relaxed) {
                self.reopen();
            }
            let wrote = self.pass();
            if stopping && !wrote {
                return;
            }
            pause = if wrote { BUSY_PAUSE } else { (pause * 2).min(IDLE_PAUSE) };
            if !stopping {
                std::thread::sleep(pause);
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.target) {
            Ok(sink) => self.sink = sink,
            Err(error) => tracing::error!(%error, "the access log goes on in the old file"),
        }
    }

    /// Writes what every outbox holds; whether there was anything.
    fn pass(&mut self) -> bool {
        let outboxes: Vec<_> = {
            let mut outboxes = lock(&self.shared.outboxes);
            // A cell that has ended leaves its last lines behind.
            outboxes.retain(|outbox| Arc::strong_count(outbox) > 1 || !outbox.filled.is_empty());
            outboxes.clone()
        };
        let mut wrote = false;
        for outbox in outboxes {
            // At most one queue's worth, so that one tenant cannot hold the writer.
            for _ in 0..BATCHES {
                let Some(mut batch) = outbox.filled.pop() else { break };
                self.write(&batch, &outbox.dropped);
                batch.clear();
                // Full only if the cell is gone; then the buffer simply goes.
                let _ = outbox.emptied.push(batch);
                wrote = true;
            }
        }
        self.pass_processes() || wrote
    }

    /// As above, of cells in processes of their own.
    fn pass_processes(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        // Taken out, so that a cell which starts waits for nobody's lines.
        let mut processes = std::mem::take(&mut *lock(&shared.processes));
        let mut wrote = false;
        processes.retain_mut(|process| {
            let dropped = process.dropped();
            let turn = process.turn(|line| self.write(line, &dropped));
            wrote |= turn == Turn::Busy;
            turn != Turn::Over
        });
        lock(&shared.processes).append(&mut processes);
        wrote
    }

    fn write(&mut self, batch: &[u8], dropped: &AtomicU64) {
        if let Err(error) = self.sink.write_all(batch) {
            let lost = batch.iter().filter(|byte| **byte == b'\n').count() as u64;
            if dropped.fetch_add(lost, Relaxed) == 0 {
                tracing::error!(%error, "access log lines are being lost");
            }
        }
    }
}

fn open(target: &Target) -> Result<Box<dyn Write + Send>, AccessLogError> {
    match target {
        Target::Off => Ok(Box::new(io::sink())),
        Target::Stdout => Ok(Box::new(io::stdout())),
        Target::File(path) => {
            let file: io::Result<File> = OpenOptions::new().create(true).append(true).mode(0o640).open(path);
            file.map(|file| Box::new(file) as Box<dyn Write + Send>)
                .map_err(|source| AccessLogError::Open { path: path.clone(), source })
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Buffers under way per lane: with 16 KiB each, at most 1 MiB a lane waits for a slow disk.
const BATCHES: usize = 64;
/// Pause between passes while lines come.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause while none come.
const IDLE_PAUSE: Duration = Duration::from_millis(50);
/// The thread calls nothing deep.
const STACK_BYTES: usize = 256 * 1024;
