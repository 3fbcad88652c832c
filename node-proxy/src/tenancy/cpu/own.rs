//! The control group that this process is in, also where what is mounted begins above what it can name itself.
//!
//! It only ever reads.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use super::layout::{self, Version, Whereabouts};

/// The group that this process is in, by `/proc/self/mountinfo` and `/proc/self/cgroup`, in the hierarchy that has a controller.
pub fn locate(mounts: &str, groups: &str, controller: &str) -> Option<(Version, PathBuf)> {
    let (version, found) = layout::own_group(mounts, groups, controller)?;
    let path = match found {
        Whereabouts::At(path) => path,
        Whereabouts::Below(path) => holder(path, version.threads(), process::id())?,
    };
    Some((version, path))
}

/// The same, of this process as it stands now; an error if it cannot be looked at.
pub fn here(controller: &str) -> io::Result<Option<(Version, PathBuf)>> {
    let (mounts, groups) =
        (fs::read_to_string("/proc/self/mountinfo")?, fs::read_to_string("/proc/self/cgroup")?);
    Ok(locate(&mounts, &groups, controller))
}

/// The group in or below this one that has a process, by its number. A process of another PID namespace has none in these files, or the
/// number that it has in ours, so that it is never taken for this one.
fn holder(root: PathBuf, file: &str, process: u32) -> Option<PathBuf> {
    let process = process.to_string();
    let mut open = vec![root];
    for _ in 0..MOST_GROUPS {
        let group = open.pop()?;
        if has(&group.join(file), &process) {
            return Some(group);
        }
        let below = fs::read_dir(&group).into_iter().flatten().flatten();
        open.extend(
            below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    None
}

fn has(file: &Path, process: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|numbers| numbers.lines().any(|number| number == process))
}

/// Groups that are looked at: a node of some hundred pods has some thousand.
const MOST_GROUPS: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_the_one_that_has_this_process_wherever_it_is_below_what_is_mounted() {
        let host = tempfile::tempdir().unwrap();
        let own = host.path().join("kubepods/pod1/daemon");
        for (group, numbers) in
            [("kubepods/pod1/daemon", process::id().to_string()), ("kubepods/pod2/other", "0\n".to_owned())]
        {
            fs::create_dir_all(host.path().join(group)).unwrap();
            fs::write(host.path().join(group).join("cgroup.threads"), numbers).unwrap();
        }
        let point = host.path().display();
        let mounts = format!("412 400 0:27 /../../.. {point} rw - cgroup2 cgroup2 rw\n");
        assert_eq!(locate(&mounts, "0::/\n", "cpu"), Some((Version::V2, own.clone())));
        fs::remove_dir_all(own).unwrap();
        assert_eq!(locate(&mounts, "0::/\n", "cpu"), None, "not the host's root, in which it is not");
    }
}
