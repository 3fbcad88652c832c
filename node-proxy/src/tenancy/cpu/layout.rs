//! Where control groups are and what CPU's files in them are called, in both versions of them.
//!
//! Pure: texts of /proc in, paths and values out. It must never write.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Which version of control groups has the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Any thread may be in any group of the hierarchy.
    V1,
    /// Threads of one process may be in different groups of a threaded subtree.
    V2,
}

impl Version {
    /// The file that a thread's number is written to.
    pub fn threads(self) -> &'static str {
        match self {
            Self::V1 => "tasks",
            Self::V2 => "cgroup.threads",
        }
    }

    /// The file of a group's weight, and what is written to it. `weight` counts as in version 1, where 1024 is what a
    /// group has that nobody has given one.
    pub fn weight(self, weight: u64) -> (&'static str, String) {
        match self {
            Self::V1 => ("cpu.shares", weight.clamp(2, 262_144).to_string()),
            Self::V2 => ("cpu.weight", (weight * 100 / 1_024).clamp(1, 10_000).to_string()),
        }
    }

    /// What is written to which file, in this order, so that a group uses so much of a CPU at most; `None` lifts it.
    pub fn cap(self, millis: Option<u64>) -> Vec<(&'static str, String)> {
        let quota = millis.map(|millis| {
            let period = period(millis);
            (period, period.as_micros() * u128::from(millis.max(1)) / 1_000)
        });
        match (self, quota) {
            (Self::V1, Some((period, quota))) => vec![
                ("cpu.cfs_period_us", period.as_micros().to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ],
            (Self::V1, None) => vec![("cpu.cfs_quota_us", "-1".to_owned())],
            (Self::V2, Some((period, quota))) => vec![("cpu.max", format!("{quota} {}", period.as_micros()))],
            (Self::V2, None) => vec![("cpu.max", "max".to_owned())],
        }
    }
}

/// How long a quota lasts: short, so that a cell that has used it up comes back soon; but the kernel takes no quota of
/// less than a millisecond.
fn period(millis: u64) -> Duration {
    PERIOD.max(Duration::from_micros(LEAST_QUOTA_MICROS * 1_000 / millis.max(1)).min(LONGEST_PERIOD))
}

const PERIOD: Duration = Duration::from_millis(10);
const LEAST_QUOTA_MICROS: u64 = 1_000;
/// The kernel's own bound.
const LONGEST_PERIOD: Duration = Duration::from_secs(1);

/// The time that a group was held back by its quota, from its `cpu.stat`.
pub fn throttled(stat: &str) -> Duration {
    let value = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<u64>().ok())
    };
    let nanos = value("throttled_time").map(Duration::from_nanos);
    nanos.or_else(|| value("throttled_usec").map(Duration::from_micros)).unwrap_or_default()
}

/// Where a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// In this directory.
    At(PathBuf),
    /// In this one or below it: what is mounted begins above the own cgroup namespace, and how far above is nowhere said.
    Below(PathBuf),
}

/// The group that this process is in, by `/proc/self/mountinfo` and `/proc/self/cgroup`; `None` where no hierarchy that is
/// mounted has the controller.
pub fn own_group(mounts: &str, groups: &str, controller: &str) -> Option<(Version, Whereabouts)> {
    let has = |list: &str| list.split(',').any(|one| one == controller);
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::read).collect();
    // Of two that are mounted on one place, the later one is seen.
    let is_seen = |index: usize| mounts[index + 1..].iter().all(|later| later.point != mounts[index].point);
    let find = |is_it: &dyn Fn(&Mount<'_>) -> bool| {
        (0..mounts.len()).find(|index| is_it(&mounts[*index]) && is_seen(*index)).map(|index| &mounts[index])
    };
    if let Some(mount) = find(&|mount| mount.kind == "cgroup" && has(mount.options)) {
        let path = groups.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            has(controllers).then_some(path)
        });
        return Some((Version::V1, mount.place(path?)));
    }
    let mount = find(&|mount| mount.kind == "cgroup2")?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some((Version::V2, mount.place(path)))
}

/// One line of mountinfo.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (own, super_block) = line.split_once(" - ")?;
        let mut own = own.split(' ').skip(3);
        let mut super_block = super_block.split(' ');
        let (root, point) = (own.next()?, own.next()?);
        let (kind, options) = (super_block.next()?, super_block.nth(1)?);
        Some(Self { root, point, kind, options })
    }

    /// Where a group of the hierarchy is found under this mount, which may be of a part of it, or of what is above the own part.
    fn place(&self, group: &str) -> Whereabouts {
        if self.root.starts_with("/..") {
            return Whereabouts::Below(self.point.into());
        }
        let below = group.strip_prefix(self.root.trim_end_matches('/')).unwrap_or(group);
        Whereabouts::At(Path::new(self.point).join(below.trim_start_matches('/')))
    }
}

/// What the groups of an instance are called: each process of it has its own.
pub fn name(instance: &str, process: u32) -> String {
    format!("{}{process}", prefix(instance))
}

/// What the names of an instance's groups begin with, before the process's number.
pub fn prefix(instance: &str) -> String {
    format!("canopy.{}.", safe(instance))
}

/// What a cell's group is called: told apart by its number, and known to a reader by its tenant.
pub fn cell_name(number: u64, tenant: &str) -> String {
    format!("cell-{number}-{}", safe(tenant))
}

/// A name as a file may have it.
fn safe(name: &str) -> String {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    name.chars().take(64).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn own_group_is_found_in_either_version_also_where_only_a_part_is_mounted() {
        let own = |mounts: &str, groups: &str| match own_group(mounts, groups, "cpu") {
            Some((version, Whereabouts::At(path))) => Some((version, path)),
            None => None,
            below => panic!("{below:?}"),
        };
        let v1 = own(HYBRID, "3:cpuset:/x\n2:cpuacct:/y\n1:cpu,cpuacct:/kubepods/pod1\n0::/z\n");
        assert_eq!(v1, Some((Version::V1, "/sys/fs/cgroup/cpu/kubepods/pod1".into())));
        let part = "50 40 0:29 /kubepods/pod1 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let inside = own(part, "1:cpu:/kubepods/pod1/box\n");
        assert_eq!(inside, Some((Version::V1, "/sys/fs/cgroup/cpu/box".into())));
        let v2 =
            own("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", "0::/system.slice/c\n");
        assert_eq!(v2, Some((Version::V2, "/sys/fs/cgroup/system.slice/c".into())));
        assert_eq!(own("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", "0::/\n"), None);
    }

    #[test]
    fn in_a_container_with_the_hosts_hierarchy_the_own_group_is_somewhere_below_and_with_its_own_part_alone_there()
     {
        let own = "410 400 0:27 / /sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n";
        let hosts = "412 400 0:27 /../../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = |mounts: &str| own_group(mounts, "0::/\n", "cpu");
        assert_eq!(found(own), Some((Version::V2, Whereabouts::At("/sys/fs/cgroup".into()))));
        let over = format!("{own}{hosts}");
        assert_eq!(found(&over), Some((Version::V2, Whereabouts::Below("/sys/fs/cgroup".into()))));
        let beside = format!("{own}{}", hosts.replace("/sys/fs/cgroup", "/host"));
        assert_eq!(found(&beside), Some((Version::V2, Whereabouts::At("/sys/fs/cgroup".into()))));
    }

    #[test]
    fn a_weight_means_the_same_in_both_versions() {
        assert_eq!(Version::V1.weight(1_024), ("cpu.shares", "1024".to_owned()));
        assert_eq!(Version::V2.weight(1_024), ("cpu.weight", "100".to_owned()));
        assert_eq!((Version::V1.weight(0).1, Version::V2.weight(0).1), ("2".to_owned(), "1".to_owned()));
        assert_eq!(Version::V2.weight(u64::from(u32::MAX)).1, "10000");
    }

    #[test]
    fn a_cap_has_a_short_period_unless_its_quota_would_be_too_short_for_the_kernel() {
        let quota = |millis| Version::V2.cap(Some(millis))[0].1.clone();
        assert_eq!(quota(200), "2000 10000");
        assert_eq!(quota(1_500), "15000 10000");
        assert_eq!(quota(50), "1000 20000");
        assert_eq!(quota(1), "1000 1000000");
        assert_eq!(
            Version::V1.cap(Some(200)),
            [("cpu.cfs_period_us", "10000".to_owned()), ("cpu.cfs_quota_us", "2000".to_owned())]
        );
        assert_eq!(Version::V1.cap(None), [("cpu.cfs_quota_us", "-1".to_owned())]);
    }

    #[test]
    fn time_held_back_is_read_in_either_version_s_unit() {
        let expected = Duration::from_millis(1_500);
        assert_eq!(throttled("nr_periods 5\nnr_throttled 2\nthrottled_time 1500000000\n"), expected);
        assert_eq!(throttled("usage_usec 9\nthrottled_usec 1500000\n"), expected);
        assert_eq!(throttled(""), Duration::ZERO);
    }

    #[test]
    fn names_are_files_names_whatever_the_instance_is_called() {
        assert_eq!(name("blue", 7), "canopy.blue.7");
        assert_eq!(name("../a b", 7), "canopy.___a_b.7");
        assert_eq!(cell_name(3, "ns/shop"), "cell-3-ns_shop");
    }
}
