//! The daemon's own log: lines go through a bounded queue to a thread of their own, which writes them to standard error.
//!
//! Whoever reads it may stall (a full pipe, a paused terminal). That must never hold up a cell: with the queue full,
//! lines are dropped, counted, and the count is logged.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const LINES: usize = 4096;
/// How long the end waits for what is not written yet.
const LAST: Duration = Duration::from_secs(1);
/// What only writes and waits.
const STACK_BYTES: usize = 256 * 1024;

/// The end of the queue that is written to. Each write is one line.
#[derive(Debug)]
pub(super) struct LogQueue {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

/// Dropped at the daemon's end: waits, but not for ever, until all lines are written.
#[derive(Debug)]
pub(super) struct Flush(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    unwritten: AtomicU64,
    dropped: AtomicU64,
}

impl LogQueue {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let (lines, queue) = mpsc::sync_channel(LINES);
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let builder = thread::Builder::new().name("log".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || write_all(&queue, out, &shared))?;
        Ok((Self { lines, counts: Arc::clone(&counts) }, Flush(counts)))
    }
}

fn write_all(queue: &Receiver<Vec<u8>>, mut out: impl Write, counts: &Counts) {
    for line in queue {
        // With standard error gone there is nobody to tell.
        let _ = out.write_all(&line);
        let dropped = counts.dropped.swap(0, Relaxed);
        if dropped > 0 {
            tracing::warn!(lines = dropped, "lines of this log were dropped: nobody read them in time");
        }
        counts.unwritten.fetch_sub(1, Relaxed);
    }
}

/// Has panics told as lines of the log. The standard library writes them to standard error itself, with a lock held: with nobody
/// reading that, a cell whose panic is contained would stand still, and so would every other that panics.
pub(super) fn hear_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("of a kind without words");
        let thread = thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(thread, place, what, "panic");
    }));
}

impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.counts.unwritten.fetch_add(1, Relaxed);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.counts.unwritten.fetch_sub(1, Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let until = Instant::now() + LAST;
        while self.0.unwritten.load(Relaxed) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn what_was_logged_is_written_before_the_end() {
        let (mut reader, out) = UnixStream::pair().unwrap();
        let (log, flush) = LogQueue::start(out).unwrap();
        (&log).write_all(b"one\n").unwrap();
        (&log).write_all(b"two\n").unwrap();
        drop(flush);
        reader.set_nonblocking(true).unwrap();
        let mut lines = [0; 8];
        reader.read_exact(&mut lines).unwrap();
        assert_eq!(&lines, b"one\ntwo\n");
    }

    #[test]
    fn a_reader_that_stalls_holds_up_neither_the_lines_nor_the_end() {
        let (_reader, out) = UnixStream::pair().unwrap();
        let (log, flush) = LogQueue::start(out).unwrap();
        let (done, finished) = mpsc::channel();
        thread::spawn(move || {
            // More than the queue and the socket take together.
            for _ in 0..2 * LINES {
                (&log).write_all(&[b'x'; 1024]).unwrap();
            }
            let dropped = log.counts.dropped.load(Relaxed);
            drop(flush);
            done.send(dropped)
        });
        let dropped = finished.recv_timeout(Duration::from_secs(10)).expect("nobody waits for the reader");
        assert!(dropped > 0);
    }
}
