//! The control group of a cell's process: how much memory it may have, how many threads, and its weight among its neighbours.
//!
//! Made beside the daemon's own, in whichever hierarchies can be written (version 1 or 2), and removed with the process. Where none
//! can be had, that is said once, and the process runs without: it must never be the reason why a tenant is not served.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use config::{model::Budget, name::TenantId};

/// Threads of a cell's process: it has four, and one more for each lane to come.
const THREADS: u64 = 64;
/// What the daemon's groups are called, with its process's number after it.
const PREFIX: &str = "canopy-";
/// How long a group is waited for that its last process has just left.
const LAST: Duration = Duration::from_millis(10);
const TRIES: usize = 50;

/// The control groups of one process, one directory for each hierarchy. Dropping it removes them; the process must have ended.
#[derive(Debug, Default)]
pub(super) struct Group {
    memory: Option<Place>,
    cpu: Option<Place>,
    threads: Option<Place>,
}

/// Where one controller's files of the group are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Group {
    /// A group for a tenant's process, as far as the machine gives one.
    pub(super) fn make(tenant: &TenantId, budget: &Budget) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        static SAID: Once = Once::new();
        let places = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("{PREFIX}{}-{number}-{}", std::process::id(), tenant.as_str());
        let make = |controller, file: &[(Version, &str)]| {
            let (parent, version) = find(&places, &own, controller)?;
            sweep(&parent);
            let place = Place { directory: parent.join(&name), version };
            let made = fs::create_dir(&place.directory);
            let is_made =
                made.is_ok() || made.is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists);
            let has = |(of, file): &(Version, &str)| *of == version && place.directory.join(file).exists();
            if is_made && file.iter().any(has) {
                return Some(place);
            }
            // A directory without the controller's files is of no use.
            let _ = fs::remove_dir(&place.directory);
            None
        };
        let group = Self {
            memory: make("memory", &MEMORY),
            cpu: make("cpu", &CPU),
            threads: make("pids", &[(Version::One, PIDS), (Version::Two, PIDS)]),
        };
        if [&group.memory, &group.cpu, &group.threads].into_iter().any(Option::is_none) {
            SAID.call_once(|| {
                tracing::warn!(?group, "cells in processes of their own run without all or some of their limits: no control group with memory, cpu and pids can be made beside the daemon's");
            });
        }
        group.limit(budget);
        group
    }

    /// Puts a process into it.
    pub(super) fn admit(&self, process: i32) {
        for place in self.places() {
            if let Err(error) = fs::write(place.directory.join("cgroup.procs"), process.to_string()) {
                tracing::warn!(%error, group = %place.directory.display(), "a cell's process is not in its control group");
            }
        }
    }

    /// Sets what its budget says, now.
    pub(super) fn limit(&self, budget: &Budget) {
        let memory = budget.memory_hard_bytes;
        set(self.memory.as_ref(), MEMORY, |version| match (memory, version) {
            (Some(bytes), _) => bytes.to_string(),
            (None, Version::One) => "-1".to_owned(),
            (None, Version::Two) => "max".to_owned(),
        });
        set(self.cpu.as_ref(), CPU, |version| weight(budget.cpu_share_millis, version).to_string());
        set(self.threads.as_ref(), [(Version::One, PIDS), (Version::Two, PIDS)], |_| THREADS.to_string());
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        let all = [&self.memory, &self.cpu, &self.threads];
        let mut seen: Vec<&Path> = Vec::new();
        all.into_iter().flatten().filter(move |place| {
            let is_new = !seen.contains(&&*place.directory);
            seen.push(&place.directory);
            is_new
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for place in self.places() {
            let mut removed = fs::remove_dir(&place.directory);
            for _ in 0..TRIES {
                if removed.as_ref().is_ok_and(|()| true) || !place.directory.exists() {
                    break;
                }
                thread::sleep(LAST);
                removed = fs::remove_dir(&place.directory);
            }
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, group = %place.directory.display(), "a control group is left");
            }
        }
    }
}

const MEMORY: [(Version, &str); 2] = [(Version::One, "memory.limit_in_bytes"), (Version::Two, "memory.max")];
const CPU: [(Version, &str); 2] = [(Version::One, "cpu.shares"), (Version::Two, "cpu.weight")];
const PIDS: &str = "pids.max";

fn set(place: Option<&Place>, files: [(Version, &str); 2], value: impl FnOnce(Version) -> String) {
    let Some(Place { directory, version }) = place else { return };
    let file = files.iter().find(|(of, _)| of == version).map(|(_, file)| directory.join(file));
    let Some(file) = file else { return };
    if let Err(error) = fs::write(&file, value(*version)) {
        tracing::warn!(%error, file = %file.display(), "a limit of a cell's process is not set");
    }
}

/// As a share of a core is written: a whole core is the kernel's default of both versions.
fn weight(share_millis: Option<u64>, version: Version) -> u64 {
    let millis = share_millis.unwrap_or(1000);
    match version {
        Version::One => (millis.saturating_mul(1024) / 1000).clamp(2, 262_144),
        Version::Two => (millis / 10).clamp(1, 10_000),
    }
}

/// The directory of this process's own group in the hierarchy that has a controller, and which version that is. Pure.
fn find(mounts: &str, own: &str, controller: &str) -> Option<(PathBuf, Version)> {
    let has = |list: &str| list.split(',').any(|one| one == controller);
    let groups = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first = groups().find(|(controllers, _)| has(controllers));
    let (kind, path) = match first {
        Some((_, path)) => (Version::One, path),
        None => (Version::Two, groups().find(|(controllers, _)| controllers.is_empty())?.1),
    };
    mounts.lines().find_map(|line| {
        let (place, kind_of) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, mount) = (place.next()?, place.next()?);
        let mut of = kind_of.split(' ');
        let is_it = match (kind, of.next()?, of.nth(1)?) {
            (Version::One, "cgroup", options) => has(options),
            (Version::Two, "cgroup2", _) => true,
            _ => false,
        };
        let below = if root == "/" { path } else { path.strip_prefix(root)? };
        is_it.then(|| (Path::new(mount).join(below.trim_start_matches('/')), kind))
    })
}

/// Removes what a daemon left that was killed: groups in which nothing lives.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((daemon, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if daemon.parse::<u32>().is_ok() && !Path::new("/proc").join(daemon).exists() {
            // One in which somebody is left cannot be removed.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        32 30 0:28 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_in_whichever_hierarchy_has_the_controller() {
        let own = "4:memory:/docker/x/canopy\n2:cpu,cpuacct:/\n0::/system/canopy\n";
        let found = |controller| find(MOUNTS, own, controller);
        assert_eq!(found("cpu"), Some(("/sys/fs/cgroup/cpu".into(), Version::One)));
        assert_eq!(found("memory"), Some(("/sys/fs/cgroup/memory/canopy".into(), Version::One)));
        assert_eq!(found("pids"), Some(("/sys/fs/cgroup/unified/system/canopy".into(), Version::Two)));
        assert_eq!(find(MOUNTS, "", "pids"), None);
        assert_eq!(find("nonsense", own, "cpu"), None);
    }

    #[test]
    fn a_whole_core_weighs_as_much_as_whoever_has_no_share() {
        for (version, whole, least) in [(Version::One, 1024, 2), (Version::Two, 100, 1)] {
            assert_eq!(weight(None, version), whole);
            assert_eq!(weight(Some(1000), version), whole);
            assert_eq!(weight(Some(0), version), least);
            assert_eq!(weight(Some(500), version), whole / 2);
        }
    }
}
