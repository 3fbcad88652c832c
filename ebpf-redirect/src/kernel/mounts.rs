//! The two file systems that steering needs: cgroup v2, where the connect hooks belong, and bpffs, which keeps
//! them when the process dies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::{fs::statfs, mount::MountFlags};

use crate::RedirectError;

/// The root of the cgroup v2 hierarchy.
pub(crate) fn cgroup2() -> Result<PathBuf, RedirectError> {
    let mounts = fs::read_to_string(MOUNTS).map_err(|error| RedirectError::syscall("read", MOUNTS, error))?;
    find_cgroup2(&mounts).ok_or(RedirectError::NoCgroup2)
}

/// Makes sure that there is a bpf file system.
pub(crate) fn bpffs(path: &Path) -> Result<(), RedirectError> {
    let failed =
        |errno: rustix::io::Errno| RedirectError::NoBpffs { path: path.to_owned(), source: errno.into() };
    if statfs(path).map_err(failed)?.f_type as u64 == BPF_FS_MAGIC {
        return Ok(());
    }
    rustix::mount::mount("bpf", path, "bpf", MountFlags::empty(), None).map_err(failed)?;
    tracing::info!(path = %path.display(), "mounted a bpf file system");
    Ok(())
}

/// Whether there is a bpf file system, or a place to mount one.
pub(crate) fn probe_bpffs(path: &Path) -> Result<(), RedirectError> {
    statfs(path)
        .map(drop)
        .map_err(|errno| RedirectError::NoBpffs { path: path.to_owned(), source: errno.into() })
}

/// Lines are `id parent major:minor root mountpoint options ... - type source options`. The mount that shows
/// the hierarchy's root is wanted, not one of a part of it.
fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

const MOUNTS: &str = "/proc/self/mountinfo";
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

#[cfg(test)]
mod tests {
    use super::find_cgroup2;

    #[test]
    fn the_root_of_cgroup_v2_is_found_beside_v1_and_partial_mounts() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      31 24 0:27 /kubepods /part rw,relatime - cgroup2 none rw\n\
                      32 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_cgroup2("30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
    }
}
