//! Directories and names that carry this process's id, so that what a killed process left can be told from
//! what a live one uses; and the sweep that removes the former.

use std::{env, fs, path::Path};

use rustix::process::getpid;
use tempfile::TempDir;

use crate::{KitError, netns};

/// A temporary directory for one thing. It goes when it is dropped.
pub(crate) fn directory(what: &str) -> Result<TempDir, KitError> {
    let made = tempfile::Builder::new().prefix(&format!("{PREFIX}{}-{what}-", getpid())).tempdir();
    made.map_err(|source| KitError::file(env::temp_dir(), source))
}

/// A name that no other live process uses: for a namespace or a daemon's instance. What a killed process leaves under
/// such a name, the next [`Node`](crate::Node) of any process removes. Numbers are the caller's to keep apart.
#[must_use]
pub fn name(number: u32) -> String {
    format!("{PREFIX}{}-{number}", getpid())
}

/// Removes namespaces, files and pinned hooks of processes that are dead: after SIGKILL no guard runs.
/// Two sweeps may meet; what one has removed the other does not find, so failures here mean nothing.
pub(crate) fn sweep() {
    for name in netns::names().iter().filter(|name| is_stale(name)) {
        let _ = netns::remove_stale(name);
    }
    for folder in [&env::temp_dir(), Path::new("/run/canopy")] {
        remove_stale(folder);
    }
    // Of daemons that were killed; where this process is in another group, what they left is there.
    for hierarchy in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"] {
        remove_stale_groups(Path::new(hierarchy));
    }
    let Ok(layouts) = fs::read_dir("/sys/fs/bpf/canopy") else { return };
    layouts.flatten().for_each(|layout| remove_stale(&layout.path()));
}

fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_stale)) {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// Control groups go by directories alone, the inner ones first, and never while a thread is in them.
fn remove_stale_groups(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let is_stale_group = |entry: &fs::DirEntry| {
        entry.file_name().to_str().and_then(|name| name.strip_prefix("canopy.")).is_some_and(is_stale)
    };
    for group in entries.flatten().filter(is_stale_group) {
        for inner in fs::read_dir(group.path()).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(inner.path());
        }
        let _ = fs::remove_dir(group.path());
    }
}

/// Whether the name is of our making and the process whose id it carries is gone.
fn is_stale(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    pid.and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

const PREFIX: &str = "kit-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_stale() {
        // The largest pid that Linux gives out is 4194304.
        assert!(is_stale("kit-4194305-0") && is_stale("kit-4194305-nginx-x1"));
        assert!(!is_stale(&name(0)), "this process lives");
        assert!(!is_stale("kit-") && !is_stale("kitchen-4194305-0") && !is_stale("4194305"));
    }

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_a_live_one_has_is_kept() {
        let parent = directory("sweep").unwrap();
        let (dead, live) = (parent.path().join("kit-4194305-x"), parent.path().join(name(1)));
        fs::create_dir_all(dead.join("inside")).unwrap();
        fs::create_dir(&live).unwrap();
        let lock = parent.path().join("kit-4194305-x.lock");
        fs::write(&lock, "").unwrap();
        remove_stale(parent.path());
        assert!(!dead.exists() && !lock.exists() && live.exists());
    }

    #[test]
    fn control_groups_of_a_dead_process_s_daemons_are_swept_with_those_inside() {
        let parent = directory("groups").unwrap();
        let dead = parent.path().join("canopy.kit-4194305-3.17");
        let live = parent.path().join(format!("canopy.{}.17", name(3)));
        for group in [&dead, &live] {
            fs::create_dir_all(group.join("system")).unwrap();
        }
        remove_stale_groups(parent.path());
        assert!(!dead.exists() && live.join("system").exists());
    }
}
