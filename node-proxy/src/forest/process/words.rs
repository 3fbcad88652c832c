//! What a cell's process writes to its standard error, in the daemon's own log: each line as a field, under the tenant's name.
//!
//! It is read with a bound, and is never believed: it must never come out as a line of its own, nor as fast as it is written.

use std::{io, os::fd::OwnedFd, time::Duration};

use config::name::TenantId;
use tokio::{
    net::unix::pipe::Receiver,
    time::{Instant, sleep_until, timeout_at},
};

/// Bytes of a line that are logged.
const LINE: usize = 1024;
/// Lines that are logged in a turn; those of a panic or of a start are fewer.
const LINES: usize = 20;
/// Bytes that are read in a turn; whoever writes more waits.
const BYTES: usize = 64 * 1024;
const TURN: Duration = Duration::from_secs(1);

/// The daemon's end of it.
#[derive(Debug)]
pub(super) struct Words {
    pipe: Option<Receiver>,
    tenant: TenantId,
    lines: Lines,
    /// In this turn.
    bytes: usize,
}

/// Takes bytes apart into lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    said: usize,
    dropped: u64,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], mut say: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end(&mut say);
            } else if self.begun.len() < LINE {
                self.begun.push(*byte);
            }
        }
    }

    fn end(&mut self, mut say: impl FnMut(&str)) {
        if self.said < LINES {
            self.said += 1;
            say(&String::from_utf8_lossy(&self.begun));
        } else {
            self.dropped += 1;
        }
        self.begun.clear();
    }

    /// Begins a turn; gives how many lines of the last were too many.
    fn turn(&mut self) -> u64 {
        self.said = 0;
        std::mem::take(&mut self.dropped)
    }
}

impl Words {
    /// Of this tenant's process. Within an event loop.
    pub(super) fn new(pipe: Option<OwnedFd>, tenant: &TenantId) -> io::Result<Self> {
        let pipe = pipe.map(Receiver::from_owned_fd).transpose()?;
        Ok(Self { pipe, tenant: tenant.clone(), lines: Lines::default(), bytes: 0 })
    }

    /// Logs what is written, until nobody can write any more; then it waits for ever.
    pub(super) async fn log(&mut self) -> ! {
        while let Some(pipe) = &self.pipe {
            // An error comes again with the reading.
            let _ = pipe.readable().await;
            let until = Instant::now() + TURN;
            // As long as there is something, but no longer than a turn.
            while self.read() && self.is_readable(until).await {}
            sleep_until(until).await;
            self.turn();
        }
        std::future::pending().await
    }

    /// Logs what is there now, of a process that has ended.
    pub(super) fn last(mut self) {
        self.turn();
        self.read();
        if !self.lines.begun.is_empty() {
            self.lines.end(|line| say(&self.tenant, line));
        }
        self.turn();
    }

    async fn is_readable(&self, until: Instant) -> bool {
        match &self.pipe {
            Some(pipe) => timeout_at(until, pipe.readable()).await.is_ok(),
            None => false,
        }
    }

    /// Reads what is there; whether more may be read in this turn.
    fn read(&mut self) -> bool {
        let Self { pipe: Some(pipe), tenant, lines, bytes } = self else { return false };
        let mut piece = vec![0; 4096];
        while *bytes < BYTES {
            match pipe.try_read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return lines.said < LINES,
                Ok(0) | Err(_) => {
                    self.pipe = None;
                    return false;
                }
                Ok(read) => {
                    lines.take(piece.get(..read).unwrap_or_default(), |line| say(tenant, line));
                    *bytes += read;
                }
            }
        }
        false
    }

    fn turn(&mut self) {
        self.bytes = 0;
        let dropped = self.lines.turn();
        if dropped > 0 {
            tracing::warn!(tenant = %self.tenant, lines = dropped, "lines that a cell's process wrote were dropped: they were too many");
        }
    }
}

/// As a field its line breaks and control characters are escaped.
fn say(tenant: &TenantId, line: &str) {
    tracing::info!(%tenant, line, "a cell's process writes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_what_is_too_long_or_too_many_is_cut_and_counted() {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        lines.take(b"one\ntw", |line| said.push(line.to_owned()));
        lines.take(b"o\n\xff\n", |line| said.push(line.to_owned()));
        lines.take(&[b'x'; 5 * LINE], |line| said.push(line.to_owned()));
        lines.take(b"\n", |line| said.push(line.to_owned()));
        assert_eq!(said, ["one", "two", "\u{fffd}", &"x".repeat(LINE)]);
        lines.take(&[b'\n'; 100], |line| said.push(line.to_owned()));
        assert_eq!((said.len(), lines.turn()), (LINES, 84));
        lines.take(b"again\n", |line| said.push(line.to_owned()));
        assert_eq!((said.last().map(String::as_str), lines.turn()), (Some("again"), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_read_no_faster_than_its_bound() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, 4 * BYTES).unwrap();
        rustix::io::write(&writer, &vec![b'\n'; 3 * BYTES]).unwrap();
        let tenant = TenantId::Tenant("shop".try_into().unwrap());
        let mut words = Words::new(Some(reader), &tenant).unwrap();
        let turn = tokio::time::timeout(TURN / 2, words.log()).await;
        assert!(turn.is_err());
        assert_eq!(rustix::io::ioctl_fionread(&writer).unwrap(), 2 * BYTES as u64);
        drop(writer);
        words.last();
    }
}
