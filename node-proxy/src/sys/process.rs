//! A child process: its end, its CPU clock, what it is doing, and the way to end it. By a descriptor of the process, so that a number
//! that was given to another process meanwhile is never meant.
//!
//! The number itself is used only to look; it must never be what is killed by.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    set_parent_process_death_signal, waitid,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::clock::{self, Doing, Spent};

/// A child of this process. Clones mean the same one.
#[derive(Debug, Clone)]
pub struct Process {
    id: Pid,
    descriptor: Arc<OwnedFd>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Process {
    /// The child with this number, which nobody has waited for yet.
    pub fn of_child(id: u32) -> io::Result<Self> {
        let id = i32::try_from(id).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self { id, descriptor: Arc::new(pidfd_open(id, PidfdFlags::empty())?) })
    }

    /// Its number.
    pub fn id(&self) -> i32 {
        self.id.as_raw_pid()
    }

    /// Ends it, now.
    pub fn kill(&self) {
        // One that has ended already is as it should be.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }

    /// Waits for its end. Within an event loop.
    #[expect(unsafe_code, reason = "that the descriptor stays open is for the caller to see to")]
    pub async fn gone(&self) -> io::Result<()> {
        // SAFETY: the count keeps the descriptor open, and it is the same for ever.
        let watched = unsafe { AsyncFd::register_with_interest(self.clone(), Interest::READABLE) };
        let watched = watched.map_err(io::Error::from)?;
        watched.readable().await.map(drop)
    }

    /// How it ended, where it has; it is forgotten by that, and must be asked no more.
    pub fn end(&self) -> io::Result<Option<End>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.descriptor.as_fd()), options)?;
        Ok(status.map(|status| End::of(&status)))
    }

    /// The CPU time of all its threads; an error when it has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        // linux/posix-timers_types.h, MAKE_PROCESS_CPUCLOCK: the inverted id, then CPUCLOCK_SCHED (2).
        clock::read((!self.id.as_raw_pid() << 3) | 2)
    }

    /// The CPU time of all its threads, by where it was spent: to a hundredth of a second, as the kernel shows other processes'.
    pub fn spent(&self) -> io::Result<Spent> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        Spent::of(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// What it does now: whatever the busiest of its threads does.
    pub fn doing(&self) -> Doing {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id)).into_iter().flatten().flatten();
        let doing = threads
            .map(|thread| Doing::of(&fs::read_to_string(thread.path().join("stat")).unwrap_or_default()));
        doing.fold(Doing::Gone, |all, one| match (all, one) {
            (Doing::Runnable, _) | (_, Doing::Runnable) => Doing::Runnable,
            (Doing::Blocked, _) | (_, Doing::Blocked) => Doing::Blocked,
            (Doing::Gone, Doing::Gone) => Doing::Gone,
        })
    }
}

/// Can be read when the process has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl End {
    fn of(status: &WaitIdStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Killed(signal.unwrap_or_default()),
        }
    }
}

/// Has the calling process killed when the thread that started it ends, and so when its parent does.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Has the calling process pay no heed to what asks a service to stop: whoever started it ends it in its own way.
#[expect(unsafe_code, reason = "no library wraps ignoring a signal")]
pub fn ignore_stops() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: nothing of ours is run by it.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::zombie_processes,
        reason = "`Process::end`, which is tried here, is what waits for them"
    )]

    use std::process::{Command, Stdio};

    use super::*;

    fn wait(process: &Process) -> End {
        loop {
            if let Some(end) = process.end().unwrap() {
                return end;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn how_a_child_ends_is_told_and_killing_one_that_has_ended_kills_nobody() {
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let process = Process::of_child(child.id()).unwrap();
        assert_eq!(wait(&process), End::Exited(7));
        process.kill();
        assert!(process.cpu().is_err() && process.end().is_err());
        assert_eq!(process.doing(), Doing::Gone);
    }

    #[test]
    fn a_child_is_killed_and_its_clock_is_its_own() {
        let mut command = Command::new("sh");
        let child = command.args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        let process = Process::of_child(child.id()).unwrap();
        while process.cpu().unwrap() < Duration::from_millis(100) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let (spent, cpu) = (process.spent().unwrap(), process.cpu().unwrap());
        assert!(spent.user + spent.system >= Duration::from_millis(50), "{spent:?}");
        assert!(spent.user + spent.system <= cpu + Duration::from_millis(20), "{spent:?} of {cpu:?}");
        assert_eq!(process.end().unwrap(), None);
        process.kill();
        assert_eq!(wait(&process), End::Killed(libc::SIGKILL));
    }
}
