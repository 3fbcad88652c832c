//! The network namespace of a cluster's pod, and its processes, as this machine sees them: the nodes' kernel is its own.
//!
//! It ends no process but by its id, and only where a test asks for it.

use std::{
    fs::{self, File},
    path::PathBuf,
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};

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
        for pid in self.processes.iter().filter(|pid| !is_pause(**pid)) {
            let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) else { continue };
            kill_process(pid, Signal::KILL)
                .map_err(|source| KitError::file(&self.path, std::io::Error::from(source)))?;
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
