//! The control group of a cell's process: how much memory it may have, how many threads, and its weight among its neighbours.
//!
//! Made beside the daemon's own, in whichever hierarchies can be written, and removed with the process. Tried with version 1; in
//! version 2 the daemon's own threads make their group one of threads, beside which there is none of processes. Where none can be
//! had, that is said, and the process runs without: it must never be the reason why a tenant is not served.

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

use crate::tenancy::cpu::{
    hierarchy,
    layout::{self, Version},
    own,
};

/// Threads of a cell's process: it has four, and one more for each lane to come.
const THREADS: u64 = 64;
/// What a process needs before its tenant holds anything, and while the cell ends connections because it holds too much: else the
/// kernel would kill it first. A bound, of which an idle one has used a part.
const OVERHEAD_BYTES: u64 = 16 * 1024 * 1024;
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
            threads: make("pids", &[(Version::V1, PIDS), (Version::V2, PIDS)]),
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
            (Some(bytes), _) => most_memory(bytes).to_string(),
            (None, Version::V1) => "-1".to_owned(),
            (None, Version::V2) => "max".to_owned(),
        });
        if let Some(place) = &self.cpu {
            let weight = place.version.weight(weight(budget.cpu_share_millis));
            let files = std::iter::once(weight).chain(place.version.cap(budget.cpu_cap_millis));
            files.for_each(|(file, value)| place.write(file, &value));
        }
        set(self.threads.as_ref(), [(Version::V1, PIDS), (Version::V2, PIDS)], |_| THREADS.to_string());
    }

    /// How long it was held back by its cap so far.
    pub(super) fn throttled(&self) -> Duration {
        let stat =
            self.cpu.as_ref().and_then(|place| fs::read_to_string(place.directory.join("cpu.stat")).ok());
        stat.map(|stat| layout::throttled(&stat)).unwrap_or_default()
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
            if let Some(parent) = place.directory.parent() {
                sweep(parent, Some(std::process::id()));
            }
        }
    }
}

const MEMORY: [(Version, &str); 2] = [(Version::V1, "memory.limit_in_bytes"), (Version::V2, "memory.max")];
const CPU: [(Version, &str); 2] = [(Version::V1, "cpu.shares"), (Version::V2, "cpu.weight")];
const PIDS: &str = "pids.max";

impl Place {
    fn write(&self, file: &str, value: &str) {
        let file = self.directory.join(file);
        if let Err(error) = fs::write(&file, value) {
            tracing::warn!(%error, file = %file.display(), "a limit of a cell's process is not set");
        }
    }
}

fn set(place: Option<&Place>, files: [(Version, &str); 2], value: impl FnOnce(Version) -> String) {
    let Some(place) = place else { return };
    if let Some((_, file)) = files.iter().find(|(of, _)| *of == place.version) {
        place.write(file, &value(place.version));
    }
}

/// What the kernel lets a process have whose tenant may hold so much.
fn most_memory(hard_bytes: u64) -> u64 {
    hard_bytes.saturating_add(OVERHEAD_BYTES)
}

/// As a share of a core is counted in version 1: a whole core is the kernel's default, which anybody has who says nothing.
fn weight(share_millis: Option<u64>) -> u64 {
    share_millis.unwrap_or(1000).saturating_mul(1024) / 1000
}

/// The directory of the group that the daemon was started in: not of that into which it has put its own threads.
fn started_in(own: PathBuf) -> PathBuf {
    let parent = own.parent().filter(|_| own.ends_with(hierarchy::SYSTEM));
    let name = parent.and_then(|parent| parent.file_name()).map(|name| name.to_string_lossy().into_owned());
    let base = parent.filter(|_| name.is_some_and(|name| name.starts_with("canopy."))).and_then(Path::parent);
    base.map_or_else(|| own.clone(), Path::to_path_buf)
}

/// The directory of that group in the hierarchy that has a controller, and which version it is.
fn find(mounts: &str, groups: &str, controller: &str) -> Option<(PathBuf, Version)> {
    own::locate(mounts, groups, controller).map(|(version, own)| (started_in(own), version))
}

/// Removes what daemons left that were killed, at the start of one: also those of one that had its number, as in a container each has.
pub(super) fn sweep_all() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for controller in ["memory", "cpu", "pids"] {
        if let Some((parent, _)) = find(&mounts, &own, controller) {
            sweep(&parent, None);
        }
    }
}

/// Removes what a daemon left that was killed: groups in which nothing lives. Those of `spared` stay, which may have just been made.
fn sweep(parent: &Path, spared: Option<u32>) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Some((daemon, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        let Ok(daemon) = daemon.parse::<u32>() else { continue };
        let is_own = daemon == std::process::id();
        let is_dead = is_own || !Path::new("/proc").join(daemon.to_string()).exists();
        if is_dead && spared != Some(daemon) {
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
        assert_eq!(found("cpu"), Some(("/sys/fs/cgroup/cpu".into(), Version::V1)));
        assert_eq!(found("memory"), Some(("/sys/fs/cgroup/memory/canopy".into(), Version::V1)));
        assert_eq!(found("pids"), Some(("/sys/fs/cgroup/unified/system/canopy".into(), Version::V2)));
        assert_eq!(find(MOUNTS, "", "pids"), None);
        assert_eq!(find("nonsense", own, "cpu"), None);
    }

    #[test]
    fn groups_are_removed_whose_daemon_is_gone_and_of_this_one_at_its_start_alone() {
        let parent = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (own, gone) = (std::process::id(), child.id());
        let names = [
            format!("{PREFIX}{gone}-0-shop"),
            format!("{PREFIX}{own}-0-shop"),
            format!("{PREFIX}1-0-shop"),
            format!("{PREFIX}x-0-shop"),
            "other".to_owned(),
        ];
        names.iter().for_each(|name| fs::create_dir(parent.path().join(name)).unwrap());
        let left = || names.each_ref().map(|name| parent.path().join(name).exists());
        sweep(parent.path(), Some(own));
        assert_eq!(left(), [false, true, true, true, true]);
        sweep(parent.path(), None);
        assert_eq!(left(), [false, false, true, true, true]);
    }

    #[test]
    fn a_cells_process_is_put_beside_the_daemons_own_threads_and_never_among_them() {
        for (own, base) in [
            ("/pod/canopy.blue.12/system", "/pod"),
            ("/canopy.blue.12/system", "/"),
            ("/pod/canopy.blue.12", "/pod/canopy.blue.12"),
            ("/user/system", "/user/system"),
            ("/", "/"),
        ] {
            assert_eq!(started_in(own.into()), Path::new(base));
        }
        let own = "2:cpu,cpuacct:/canopy.blue.12/system\n";
        assert_eq!(find(MOUNTS, own, "cpu"), Some(("/sys/fs/cgroup/cpu".into(), Version::V1)));
    }

    #[test]
    fn the_kernel_lets_a_process_have_more_than_its_tenant_so_that_the_cell_itself_gives_way_first() {
        assert_eq!(most_memory(64 << 20), (64 << 20) + OVERHEAD_BYTES);
        assert_eq!(most_memory(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_whole_core_weighs_as_much_as_whoever_has_no_share() {
        assert_eq!((weight(None), weight(Some(1000)), weight(Some(500))), (1024, 1024, 512));
    }
}
