//! A cell's process as the daemon's child: how it is started, and that it is ended and waited for whatever comes of its warden.
//!
//! It must never share with the daemon what a signal or a write of one would reach the other by.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::sys::{arena, process::Process};

/// Dropping it kills the process, and waits until it is gone.
#[derive(Debug)]
pub(super) struct Child(pub(super) Process);

impl Child {
    /// This same program, as it runs: a newer one may lie where it was started from. With the end of its standard error.
    pub(super) fn start(control: OwnedFd) -> io::Result<(Self, Option<OwnedFd>)> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("canopy").arg("cell").env_clear();
        if let Some(filter) = std::env::var_os("CANOPY_LOG") {
            command.env("CANOPY_LOG", filter);
        }
        // A thread that is there before the process gives up its capabilities would keep them.
        for name in ["MALLOC_CONF", "_RJEM_MALLOC_CONF"] {
            command.env(name, arena::NO_THREAD);
        }
        // What is sent to the daemon's group (Ctrl-C) is for the daemon alone.
        command.process_group(0);
        // It knows the socket as its standard input; every other descriptor of the daemon's closes by itself.
        command.stdin(Stdio::from(control)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        match Process::of_child(child.id()) {
            Ok(process) => Ok((Self(process), child.stderr.take().map(OwnedFd::from))),
            Err(error) => {
                // With no descriptor of it, nobody else could.
                child.kill().and_then(|()| child.wait())?;
                Err(error)
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill();
        // It cannot refuse. An error: somebody has asked for its end already.
        while let Ok(None) = self.0.end() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    #[expect(clippy::zombie_processes, reason = "that it is waited for is what is tried here")]
    fn a_child_is_gone_after_a_panic_of_whoever_keeps_it() {
        let started = Command::new("sleep").arg("60").spawn().unwrap();
        let child = Child(Process::of_child(started.id()).unwrap());
        let process = child.0.clone();
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _kept = child;
            panic!("as a warden may");
        }));
        assert!(panicked.is_err());
        assert!(process.end().is_err(), "it was waited for, so that there is nothing to ask any more");
    }
}
