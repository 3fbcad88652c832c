//! The daemon's control groups: one parent, a group for each cell, and one for the daemon's own threads.
//!
//! They carry the instance's name and the process's number, are removed when the daemon ends, and cleared by the next start
//! of the instance after it was killed. It must never touch a group that is not its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use super::{
    layout::{self, Version},
    own,
};
use crate::sys::clock::ThreadId;

/// The groups of this process.
#[derive(Debug)]
pub struct Hierarchy {
    version: Version,
    /// Where the process was before.
    base: PathBuf,
    parent: PathBuf,
    cells: u64,
}

/// The group of one cell.
#[derive(Debug)]
pub struct Group {
    version: Version,
    path: PathBuf,
}

/// Why there are no groups.
#[derive(Debug, thiserror::Error)]
pub enum HierarchyError {
    /// No hierarchy has the CPU.
    #[error("no control group hierarchy with the cpu controller is mounted")]
    NotThere,
    /// A group could not be made or changed.
    #[error("cannot {what} {}", path.display())]
    Group {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What came of it.
        #[source]
        source: io::Error,
    },
}

impl Hierarchy {
    /// Makes them, and moves the whole process into the group of the daemon's own threads: those that are started later
    /// begin there.
    pub fn open(instance: &str, system_weight: u64) -> Result<Self, HierarchyError> {
        let (version, base) = own_group()?;
        Self::open_below(version, base, &layout::name(instance, process::id()), system_weight)
    }

    /// Whether they can be made: makes one and removes it.
    pub fn probe() -> Result<(Version, PathBuf), HierarchyError> {
        let (version, base) = own_group()?;
        let name = layout::name("check", process::id());
        let probe = Self { version, parent: base.join(name), base, cells: 0 };
        let made = probe.make_parent();
        // Empty as it is, it can be removed again.
        let _ = fs::remove_dir(&probe.parent);
        made.map(|()| (version, probe.base.clone()))
    }

    fn open_below(
        version: Version,
        base: PathBuf,
        name: &str,
        system_weight: u64,
    ) -> Result<Self, HierarchyError> {
        let hierarchy = Self { version, parent: base.join(name), base, cells: 0 };
        let made = hierarchy.make_parent().and_then(|()| {
            let system = hierarchy.group(SYSTEM)?;
            system.weigh(system_weight)?;
            hierarchy.move_process(&system.path)
        });
        match made {
            Ok(()) => Ok(hierarchy),
            Err(error) => {
                hierarchy.leave();
                Err(error)
            }
        }
    }

    /// The group for one more cell.
    pub fn cell(&mut self, tenant: &str) -> Result<Group, HierarchyError> {
        self.cells += 1;
        self.group(&layout::cell_name(self.cells, tenant))
    }

    /// Gives the whole a weight against what runs outside of it.
    pub fn weigh(&self, weight: u64) -> Result<(), HierarchyError> {
        let (file, value) = self.version.weight(weight);
        write(&self.parent.join(file), &value)
    }

    /// Where the groups are.
    pub fn path(&self) -> &Path {
        &self.parent
    }

    /// Takes the process back to where it was, and removes the groups.
    pub fn leave(&self) {
        if let Err(error) = self.move_process(&self.base) {
            tracing::debug!(error = report(&error), "the process stays in its control group");
        }
        remove(&self.parent);
    }

    fn make_parent(&self) -> Result<(), HierarchyError> {
        make(&self.parent)?;
        if self.version == Version::V2 {
            // Threads of a process may only be in different groups below one that is threaded; the controller has to be
            // handed down on the way.
            write(&self.parent.join("cgroup.type"), "threaded")?;
            write(&self.base.join("cgroup.subtree_control"), "+cpu")?;
            write(&self.parent.join("cgroup.subtree_control"), "+cpu")?;
        }
        let (file, value) = self.version.weight(UNWEIGHED);
        write(&self.parent.join(file), &value)
    }

    fn group(&self, name: &str) -> Result<Group, HierarchyError> {
        let path = self.parent.join(name);
        make(&path)?;
        if self.version == Version::V2
            && let Err(error) = write(&path.join("cgroup.type"), "threaded")
        {
            // It is tried again under another name.
            let _ = fs::remove_dir(&path);
            return Err(error);
        }
        Ok(Group { version: self.version, path })
    }

    fn move_process(&self, to: &Path) -> Result<(), HierarchyError> {
        if self.version == Version::V1 {
            return write(&to.join("cgroup.procs"), &process::id().to_string());
        }
        // A threaded group takes threads one by one; one that has ended meanwhile need not be moved.
        let threads = fs::read_dir("/proc/self/task").map_err(failed("list the threads of", to))?;
        for thread in threads.flatten() {
            let number = thread.file_name().to_string_lossy().into_owned();
            match write(&to.join(self.version.threads()), &number) {
                Err(HierarchyError::Group { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Group {
    /// Takes a thread in.
    pub fn take(&self, thread: ThreadId) -> Result<(), HierarchyError> {
        write(&self.path.join(self.version.threads()), &thread.to_string())
    }

    /// Gives it a weight among the others.
    pub fn weigh(&self, weight: u64) -> Result<(), HierarchyError> {
        let (file, value) = self.version.weight(weight);
        write(&self.path.join(file), &value)
    }

    /// Caps what its threads use together; `None` lifts it.
    pub fn cap(&self, millis: Option<u64>) -> Result<(), HierarchyError> {
        let lines = self.version.cap(millis);
        lines.into_iter().try_for_each(|(file, value)| write(&self.path.join(file), &value))
    }

    /// How long it was held back by its cap so far.
    pub fn throttled(&self) -> Duration {
        fs::read_to_string(self.path.join("cpu.stat"))
            .map(|stat| layout::throttled(&stat))
            .unwrap_or_default()
    }

    /// Removes it; says whether it is gone. It is not while a thread is in it.
    pub fn remove(&self) -> bool {
        remove(&self.path)
    }
}

/// Removes what a process of the instance has left that was killed. Groups with threads in them stay.
pub fn clear(instance: &str) {
    if let Ok((_, base)) = own_group() {
        clear_below(&base, instance);
    }
}

fn clear_below(base: &Path, instance: &str) {
    let prefix = layout::prefix(instance);
    let is_ours = |entry: &fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.strip_prefix(&prefix).is_some_and(|process| process.parse::<u32>().is_ok())
    };
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten().filter(is_ours) {
        if remove(&entry.path()) {
            tracing::info!(group = %entry.path().display(), "control groups that a killed daemon left were removed");
        }
    }
}

/// Removes a group with those below it, as far as no thread is in them; says whether it is gone.
fn remove(path: &Path) -> bool {
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        // What cannot be removed keeps its parent, which says so.
        let _ = fs::remove_dir(entry.path());
    }
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn own_group() -> Result<(Version, PathBuf), HierarchyError> {
    own::here("cpu").ok().flatten().ok_or(HierarchyError::NotThere)
}

fn make(path: &Path) -> Result<(), HierarchyError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("make", path)(error)),
        _ => Ok(()),
    }
}

/// To a file of the kernel's, which is there already: a typing error must not become a file.
fn write(path: &Path, value: &str) -> Result<(), HierarchyError> {
    use std::io::Write;
    let opened = fs::OpenOptions::new().write(true).open(path);
    opened.and_then(|mut file| file.write_all(value.as_bytes())).map_err(failed("write to", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HierarchyError {
    let path = path.to_owned();
    move |source| HierarchyError::Group { what, path, source }
}

/// An error with its cause, in one line.
pub(super) fn report(error: &HierarchyError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// What a group weighs that nobody has given a weight.
pub(super) const UNWEIGHED: u64 = 1_024;
/// The group of the daemon's own threads.
pub const SYSTEM: &str = "system";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_groups_of_the_same_instance_are_cleared() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir_all(base.path().join(name)).unwrap();
        make("canopy.blue.12/system");
        make("canopy.blue.13/cell-1-ns_shop");
        // In a real group it is a thread that keeps it.
        fs::write(base.path().join("canopy.blue.13/cell-1-ns_shop/thread"), "").unwrap();
        make("canopy.blue-2.14");
        make("canopy.blue.old");
        make("other");
        clear_below(base.path(), "blue");
        let mut left: Vec<_> =
            fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["canopy.blue-2.14", "canopy.blue.13", "canopy.blue.old", "other"]);
    }
}
