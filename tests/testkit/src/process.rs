//! A process in a namespace: started there, watched through its output, ended by its id.
//!
//! It is the leader of a process group of its own, so that its children (nginx's workers) end with it and a
//! Ctrl-C at the terminal reaches only the program that asked for it.

use std::{
    fs,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{KitError, Netns, tool};

/// A running process. Dropping it ends it, with all of its process group, and reaps it.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    group: Pid,
    output: File,
    stop: Signal,
}

impl Process {
    /// Starts `command` inside `netns`, its output collected.
    ///
    /// # Errors
    /// The program is not there or cannot be started.
    pub fn start(netns: &Netns, command: Command) -> Result<Self, KitError> {
        Self::start_fed(netns, command, Stdio::null())
    }

    /// As [`Process::start`], for one that is told more while it runs. Its input ends when what is returned is dropped.
    pub(crate) fn start_told(netns: &Netns, command: Command) -> Result<(Self, ChildStdin), KitError> {
        let mut process = Self::start_fed(netns, command, Stdio::piped())?;
        let input = process.child.stdin.take().ok_or_else(|| KitError::Start {
            what: process.what.clone(),
            source: io::Error::other("it has no input"),
        })?;
        Ok((process, input))
    }

    fn start_fed(netns: &Netns, mut command: Command, input: Stdio) -> Result<Self, KitError> {
        let what = command.get_program().to_string_lossy().into_owned();
        let failed = |source| KitError::Start { what: what.clone(), source };
        let output = tempfile::tempfile().map_err(failed)?;
        let (stdout, stderr) = (output.try_clone().map_err(failed)?, output.try_clone().map_err(failed)?);
        command.process_group(0).stdin(input).stdout(stdout).stderr(stderr);
        let mut spawned = netns.run(|| command.spawn())?;
        // Another thread that is about to start a program of its own holds every file that was open, also for writing,
        // when it forked.
        for _ in 0..BUSY_TRIES {
            if !spawned.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ExecutableFileBusy) {
                break;
            }
            thread::sleep(POLL);
            spawned = netns.run(|| command.spawn())?;
        }
        let child = spawned.map_err(|source| {
            tool::start_error(&what, "`make setup` installs what the tests need", source)
        })?;
        let group = Pid::from_child(&child);
        Ok(Self { what, child, group, output, stop: Signal::KILL })
    }

    /// Ends it with this signal first when it is dropped, and with SIGKILL if that is not heeded in time.
    #[must_use]
    pub fn stopped_by(mut self, signal: Signal) -> Self {
        self.stop = signal;
        self
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, on both streams.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output_from(0)).into_owned()
    }

    /// As [`Process::output`], without the first so many bytes.
    pub(crate) fn output_from(&self, offset: u64) -> Vec<u8> {
        let mut text = Vec::new();
        // The offset is shared with the writer, which appends; so read through a file of its own.
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.output));
        if let Ok(mut file) = File::open(path)
            && file.seek(SeekFrom::Start(offset)).is_ok()
        {
            let _ = file.read_to_end(&mut text);
        }
        text
    }

    /// Sends a signal to it and to its children.
    pub fn signal(&self, signal: Signal) {
        // Ended in the meantime is as good; it is reaped by `wait` or by the drop.
        let _ = kill_process_group(self.group, signal);
    }

    /// Waits for its end, at most so long; `None` if it still runs.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let tries = (limit.as_millis() / POLL.as_millis()).max(1);
        for _ in 0..tries {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            thread::sleep(POLL);
        }
        None
    }

    /// Whether it has ended; it is reaped then.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Asks `done` until it says yes.
    ///
    /// # Errors
    /// The process ended first, or it took longer than `limit`. Both carry the end of its output.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut() -> bool,
    ) -> Result<(), KitError> {
        let tries = limit.as_millis() / POLL.as_millis();
        for _ in 0..tries {
            if done() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let what = format!("{} (while waiting for: {what})", self.what);
                return Err(KitError::EndedEarly { what, status: status.to_string(), output: self.tail() });
            }
            thread::sleep(POLL);
        }
        Err(KitError::TimedOut { what: format!("{}: {what}", self.what), limit, output: self.tail() })
    }

    /// Waits until something listens at this address of the namespace. Looks at the kernel's tables, so that
    /// no connection is made that a test would count.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub fn wait_listening(&mut self, netns: &Netns, address: SocketAddr) -> Result<(), KitError> {
        let what = format!("listening at {address}");
        self.wait_until(&what, START_LIMIT, || netns.run(|| is_listening(address)).unwrap_or(false))
    }

    fn tail(&self) -> String {
        let text = self.output();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.stop);
        if self.stop != Signal::KILL && self.wait(STOP_LIMIT).is_none() {
            self.signal(Signal::KILL);
        }
        // The leader may be gone and a child of it not.
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Whether a socket listens at the address, or at its port on all addresses, in the calling thread's namespace.
fn is_listening(address: SocketAddr) -> bool {
    let table = if address.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
    let listens = |table: &str| {
        fs::read_to_string(table).is_ok_and(|text| text.lines().any(|line| is_listener(line, address.port())))
    };
    listens(table) || listens("/proc/thread-self/net/tcp6")
}

/// `  0: 0100007F:1F90 00000000:0000 0A …`: the second column is the local address, the fourth the state.
fn is_listener(line: &str, port: u16) -> bool {
    let mut columns = line.split_ascii_whitespace();
    let local = columns.nth(1).and_then(|local| local.rsplit_once(':'));
    let state = columns.nth(1);
    state == Some("0A") && local.is_some_and(|(_, its)| u16::from_str_radix(its, 16) == Ok(port))
}

const POLL: Duration = Duration::from_millis(5);
/// Of a program whose file is held for writing.
const BUSY_TRIES: u32 = 1000;
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
