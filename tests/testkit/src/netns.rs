//! One named network namespace: made, entered, emptied of processes and removed.
//!
//! The calling thread never changes its namespace: what runs inside runs on a thread of its own.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, geteuid, getpid, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{KitError, tool};

/// A network namespace under `/run/netns`. Dropping it ends the processes inside and removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    file: File,
}

impl Netns {
    /// Makes it, with its loopback interface up.
    ///
    /// # Errors
    /// Not root, a name that is taken, or no `ip` program.
    pub fn create(name: &str) -> Result<Self, KitError> {
        if !geteuid().is_root() {
            return Err(KitError::NotRoot);
        }
        let path = Path::new(DIRECTORY).join(name);
        if path.exists() {
            return Err(KitError::NameTaken { name: name.to_owned() });
        }
        tool::ip(&["netns", "add", name])?;
        let file = File::open(&path).map_err(|source| KitError::file(&path, source))?;
        let netns = Self { name: name.to_owned(), path, file };
        tool::ip_batch(name, "link set lo up\n")?;
        Ok(netns)
    }

    /// Its name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, as the annotation `canopy.mesh/netns` wants it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `act` inside, on a thread of its own; a panic in it goes on here.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, KitError> {
        let entered = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&self.file, &self.name)?;
                Ok(act())
            });
            inside.join()
        });
        entered.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs `act` inside on a thread that outlives this call. The namespace stays in memory until it ends.
    ///
    /// # Errors
    /// The namespace's file cannot be duplicated.
    pub fn spawn<T, F>(&self, act: F) -> Result<thread::JoinHandle<Result<T, KitError>>, KitError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let file = self.file.try_clone().map_err(|source| KitError::file(&self.path, source))?;
        Ok(spawn_in(file, self.name.clone(), act))
    }

    /// The processes whose main thread is inside, this one excepted.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes_in(&self.path)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        end_processes(&self.path);
        // Whoever is dropped cannot answer for the failure; the next run's sweep finds what is left.
        let _ = tool::ip(&["netns", "delete", &self.name]);
    }
}

/// Removes a namespace that another, dead process has left, with the processes still inside.
pub(crate) fn remove_stale(name: &str) -> Result<(), KitError> {
    end_processes(&Path::new(DIRECTORY).join(name));
    tool::ip(&["netns", "delete", name]).map(drop)
}

/// The names of all namespaces that `ip netns` would list.
pub(crate) fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Runs `act` in the namespace that a file names, on a thread that outlives this call.
pub(crate) fn spawn_in<T, F>(file: File, name: String, act: F) -> thread::JoinHandle<Result<T, KitError>>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    thread::spawn(move || {
        enter(&file, &name)?;
        Ok(act())
    })
}

fn enter(file: &File, name: &str) -> Result<(), KitError> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|source| KitError::Enter { netns: name.to_owned(), source: source.into() })
}

fn processes_in(netns: &Path) -> Vec<u32> {
    let Ok(wanted) = fs::metadata(netns) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = getpid().as_raw_nonzero().get().unsigned_abs();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|its| its.ino() == wanted.ino() && its.dev() == wanted.dev())
        })
        .collect()
}

/// Ends what runs inside, by process id, and waits until it is gone. Only processes started in the namespace
/// can be there, so none of anybody else's is met.
fn end_processes(netns: &Path) {
    for _ in 0..200 {
        let running = processes_in(netns);
        if running.is_empty() {
            return;
        }
        for pid in running.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // Gone in the meantime is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where iproute2 keeps its named namespaces.
const DIRECTORY: &str = "/run/netns";
