//! The network namespace of a cluster's pod, and its processes, as this machine sees them: the nodes' kernel is its own.
//!
//! It ends no process but by its id, and only where a test asks for it.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    thread::JoinHandle,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{KitError, netns::spawn_in, traffic::Place};

/// A pod of the cluster from inside: its network, and its first container's processes.
#[derive(Debug)]
pub struct Inside {
    pod: String,
    path: PathBuf,
    processes: Vec<u32>,
}

impl Inside {
    /// Of the pod that has this UID.
    pub(super) fn of(pod: &str, uid: &str) -> Result<Self, KitError> {
        let processes = processes(uid);
        let missing = || KitError::TimedOut {
            what: format!("a process of pod {pod}"),
            limit: std::time::Duration::ZERO,
            output: format!("no process of this machine is in a control group pod{uid}"),
        };
        let first = processes.first().ok_or_else(missing)?;
        let path = PathBuf::from(format!("/proc/{first}/ns/net"));
        Ok(Self { pod: pod.to_owned(), path, processes })
    }

    /// The first process of its containers, if one runs.
    #[must_use]
    pub fn program(&self) -> Option<u32> {
        self.processes.iter().copied().find(|pid| !is_pause(*pid))
    }

    /// Ends the processes of its containers at once, as the kernel ends them where memory is short. What holds its namespaces stays.
    ///
    /// # Errors
    /// They may not be ended.
    pub fn kill(&self) -> Result<(), KitError> {
        self.end(|pid| !is_pause(pid))
    }

    /// The same of all of it, also of what holds its namespaces: they go with the last of them that nobody else holds.
    ///
    /// # Errors
    /// They may not be ended.
    pub fn vanish(&self) -> Result<(), KitError> {
        self.end(|_any| true)
    }

    /// Its network namespace, by the number that `stat` has for it.
    ///
    /// # Errors
    /// It is gone.
    pub fn network(&self) -> Result<u64, KitError> {
        let metadata = fs::metadata(&self.path).map_err(|source| KitError::file(&self.path, source))?;
        Ok(metadata.ino())
    }

    fn end(&self, which: impl Fn(u32) -> bool) -> Result<(), KitError> {
        for pid in self.processes.iter().copied().filter(|pid| which(*pid)) {
            let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            match kill_process(pid, Signal::KILL) {
                // One that has ended by itself, as a container's do with its first.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(source) => return Err(KitError::file(&self.path, std::io::Error::from(source))),
            }
        }
        Ok(())
    }
}

impl Place for Inside {
    fn spawn<T, F>(&self, act: F) -> Result<JoinHandle<Result<T, KitError>>, KitError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let file = File::open(&self.path).map_err(|source| KitError::file(&self.path, source))?;
        Ok(spawn_in(file, self.pod.clone(), act))
    }
}

/// The processes of a pod, its pause process among them.
fn processes(uid: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let of_it = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|groups| groups.contains(&format!("pod{uid}")))
    };
    pids.filter(of_it).collect()
}

fn is_pause(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "pause")
}
