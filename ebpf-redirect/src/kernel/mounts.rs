//! The two file systems that steering needs: cgroup v2, where the connect hooks belong, and bpffs, which keeps
//! them when the process dies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::{fs::statfs, mount::MountFlags};

use crate::RedirectError;

/// The root of the cgroup v2 hierarchy: the machine's, and not that of a container's own part of it, where hooks would see no pod.
pub(crate) fn cgroup2() -> Result<PathBuf, RedirectError> {
    let mounts = fs::read_to_string(MOUNTS).map_err(|error| RedirectError::syscall("read", MOUNTS, error))?;
    find_cgroup2(&mounts, is_cgroup_root)
}

/// Every group but the root has a type (Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files").
fn is_cgroup_root(path: &Path) -> bool {
    path.join("cgroup.procs").exists() && !path.join("cgroup.type").exists()
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
/// the hierarchy's root is wanted, not one of a part of it. In a cgroup namespace of its own, as containers have one, `/` is that
/// namespace's part, and what is above it is `/..`, `/../..` and so on: how far above the root is, no line says.
fn find_cgroup2(mounts: &str, is_root: impl Fn(&Path) -> bool) -> Result<PathBuf, RedirectError> {
    let points = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut parts = root.split('/').filter(|part| !part.is_empty());
        kind.starts_with("cgroup2 ").then(|| (point, parts.all(|part| part == "..")))
    });
    let points: Vec<(&str, bool)> = points.collect();
    let root = points.iter().find(|(point, may_be)| *may_be && is_root(Path::new(point)));
    match (root, points.first()) {
        (Some((root, _)), _) => Ok(PathBuf::from(root)),
        (None, Some((part, _))) => Err(RedirectError::PartOfCgroup2 { path: PathBuf::from(part) }),
        (None, None) => Err(RedirectError::NoCgroup2),
    }
}

const MOUNTS: &str = "/proc/self/mountinfo";
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    /// What is found where these are roots.
    fn found(mounts: &str, roots: &[&str]) -> Result<PathBuf, Option<PathBuf>> {
        find_cgroup2(mounts, |path| roots.iter().any(|root| path == Path::new(root))).map_err(|error| {
            match error {
                RedirectError::PartOfCgroup2 { path } => Some(path),
                RedirectError::NoCgroup2 => None,
                other => panic!("{other}"),
            }
        })
    }

    #[test]
    fn the_root_of_cgroup_v2_is_found_beside_v1_and_partial_mounts() {
        let part = "31 24 0:27 /kubepods /part rw,relatime - cgroup2 none rw\n";
        let root = "32 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let all = ["/sys/fs/cgroup/unified", "/part"];
        assert_eq!(found(&format!("{V1}{part}{root}"), &all), Ok("/sys/fs/cgroup/unified".into()));
        assert_eq!(found(&format!("{V1}{part}"), &all), Err(Some("/part".into())));
        assert_eq!(found(V1, &all), Err(None));
    }

    #[test]
    fn in_a_container_the_hosts_root_is_what_is_above_its_own_part_and_that_part_is_none() {
        let own = "410 400 0:27 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n";
        let pods = "411 400 0:27 /.. /pods rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let hosts = "412 400 0:27 /../../../.. /host/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let (pod, other) = (
            "413 400 0:27 /../pod7 /pod rw - cgroup2 cgroup2 rw\n",
            "414 400 0:27 /..x /x rw - cgroup2 c rw\n",
        );
        let roots = ["/host/cgroup", "/pod", "/x"];
        assert_eq!(found(&format!("{own}{pods}{pod}{hosts}"), &roots), Ok("/host/cgroup".into()));
        assert_eq!(found(&format!("{own}{pods}{pod}{other}"), &roots), Err(Some("/sys/fs/cgroup".into())));
        // Mounted over its own part, where both lines name one place.
        let over = hosts.replace("/host/cgroup", "/sys/fs/cgroup");
        assert_eq!(found(&format!("{own}{over}"), &["/sys/fs/cgroup"]), Ok("/sys/fs/cgroup".into()));
    }
}
