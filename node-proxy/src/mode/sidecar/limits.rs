//! What the container of a sidecar may use, by its control groups, and what of it the pod's connections may.
//!
//! It only ever reads. What cannot be read must never count as no limit.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use config::model::Budget;

use crate::tenancy::cpu::{layout::Version, own};

/// Where the limits stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    cpu: Option<(Version, PathBuf)>,
    memory: Option<(Version, PathBuf)>,
}

/// What they say; `None` for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limit {
    /// In thousandths of a core.
    pub(super) cpu_millis: Option<u64>,
    pub(super) memory_bytes: Option<u64>,
}

impl Limits {
    /// Those of this process's groups of now. To be called before it moves into groups of its own.
    pub(super) fn find() -> io::Result<Self> {
        Ok(Self { cpu: own::here("cpu")?, memory: own::here("memory")? })
    }

    /// Those that stand in this directory.
    #[cfg(test)]
    pub(super) fn at(group: &Path) -> Self {
        let at = Some((Version::V2, group.to_owned()));
        Self { cpu: at.clone(), memory: at }
    }

    /// As they stand now: the kubelet may change them while the container runs.
    pub(super) fn read(&self) -> io::Result<Limit> {
        let cpu = self.cpu.as_ref().map(|(version, path)| cpu(*version, path)).transpose()?;
        let memory = self.memory.as_ref().map(|(version, path)| memory(*version, path)).transpose()?;
        Ok(Limit { cpu_millis: cpu.flatten(), memory_bytes: memory.flatten() })
    }
}

impl Limit {
    /// What a tenant's budget is where this is all there is.
    pub(super) fn bound(&self, budget: Budget) -> Budget {
        let least = |own: Option<u64>, other: Option<u64>| own.into_iter().chain(other).min();
        let (soft, hard) = self.memory_bytes.map(memory_for_connections).unzip();
        Budget {
            // A tenth is for what is not the cell's, so that the cell waits for itself and the kernel stops nobody.
            cpu_cap_millis: least(
                budget.cpu_cap_millis,
                self.cpu_millis.map(|millis| (millis - millis / 10).max(10)),
            ),
            memory_soft_bytes: least(budget.memory_soft_bytes, soft),
            memory_hard_bytes: least(budget.memory_hard_bytes, hard),
            ..budget
        }
    }
}

/// The soft and the hard bound of what connections may hold, of a limit: the process itself needs some, and what the kernel holds for
/// its sockets is counted in the group, too.
fn memory_for_connections(limit: u64) -> (u64, u64) {
    let spared = (limit / 4).max(PROCESS_BYTES).min(limit / 2);
    let hard = limit - spared;
    (hard - hard / 4, hard)
}

fn cpu(version: Version, group: &Path) -> io::Result<Option<u64>> {
    let (quota, period) = match version {
        Version::V2 => {
            let Some(text) = text(&group.join("cpu.max"))? else { return Ok(None) };
            let (quota, period) = text.trim().split_once(' ').ok_or_else(|| nonsense(&text))?;
            if quota == "max" {
                return Ok(None);
            }
            (number(quota)?, number(period)?)
        }
        Version::V1 => {
            let quota = text(&group.join("cpu.cfs_quota_us"))?;
            let period = text(&group.join("cpu.cfs_period_us"))?;
            let (Some(quota), Some(period)) = (quota, period) else { return Ok(None) };
            if quota.trim() == "-1" {
                return Ok(None);
            }
            (number(&quota)?, number(&period)?)
        }
    };
    Ok(quota.checked_mul(1000).and_then(|millis| millis.checked_div(period)))
}

fn memory(version: Version, group: &Path) -> io::Result<Option<u64>> {
    let file = match version {
        Version::V2 => "memory.max",
        Version::V1 => "memory.limit_in_bytes",
    };
    let Some(text) = text(&group.join(file))? else { return Ok(None) };
    if text.trim() == "max" {
        return Ok(None);
    }
    // The first version says a number of pages that nobody has for none.
    Ok(Some(number(&text)?).filter(|bytes| *bytes < NONE))
}

/// What a file says; `None` if there is none, as in the root of all groups.
fn text(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.trim().parse().map_err(|_| nonsense(text))
}

fn nonsense(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{:?} is no limit", text.trim()))
}

/// What is kept for a process that has no connection: a guess, of somewhat more than an idle one of an unoptimised build has.
const PROCESS_BYTES: u64 = 24 << 20;
const NONE: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_stand_in_both_versions() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |group: &tempfile::TempDir, file: &str, text: &str| {
            fs::write(group.path().join(file), text).unwrap()
        };
        let of = |version, group: &tempfile::TempDir| {
            let at = Some((version, group.path().to_owned()));
            Limits { cpu: at.clone(), memory: at }
        };
        let (v1, v2) = (of(Version::V1, &first), of(Version::V2, &second));
        assert_eq!((v1.read().unwrap(), v2.read().unwrap()), (Limit::default(), Limit::default()));
        write(&second, "cpu.max", "max 100000\n");
        write(&second, "memory.max", "max\n");
        write(&first, "cpu.cfs_quota_us", "-1\n");
        write(&first, "cpu.cfs_period_us", "100000\n");
        write(&first, "memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!((v1.read().unwrap(), v2.read().unwrap()), (Limit::default(), Limit::default()));
        write(&second, "cpu.max", "20000 100000\n");
        write(&second, "memory.max", "134217728\n");
        write(&first, "cpu.cfs_quota_us", "20000\n");
        write(&first, "memory.limit_in_bytes", "134217728\n");
        let both = Limit { cpu_millis: Some(200), memory_bytes: Some(128 << 20) };
        assert_eq!((v1.read().unwrap(), v2.read().unwrap()), (both, both));
        write(&second, "memory.max", "");
        write(&first, "cpu.cfs_quota_us", "some\n");
        assert!(v1.read().is_err() && v2.read().is_err(), "no limit is none only where it says so");
        fs::remove_file(second.path().join("memory.max")).unwrap();
        fs::create_dir(second.path().join("memory.max")).unwrap();
        assert!(v2.read().is_err());
    }

    #[test]
    fn a_budget_is_held_within_the_container_and_keeps_what_is_less() {
        let limit = |cpu, mib: Option<u64>| Limit { cpu_millis: cpu, memory_bytes: mib.map(|mib| mib << 20) };
        let own = Budget { cpu_cap_millis: Some(150), memory_hard_bytes: Some(8 << 20), ..Budget::default() };
        for (limit, budget, cpu, soft_mib, hard_mib) in [
            (limit(None, None), Budget::default(), None, None, None),
            (limit(Some(200), Some(128)), Budget::default(), Some(180), Some(72), Some(96)),
            (limit(Some(200), Some(128)), own, Some(150), Some(72), Some(8)),
            (limit(Some(100), None), own, Some(90), None, Some(8)),
            (limit(None, Some(64)), Budget::default(), None, Some(30), Some(40)),
            (limit(None, Some(32)), Budget::default(), None, Some(12), Some(16)),
        ] {
            let bound = limit.bound(budget);
            let mib = |mib: Option<u64>| mib.map(|mib| mib << 20);
            let found = (bound.cpu_cap_millis, bound.memory_soft_bytes, bound.memory_hard_bytes);
            assert_eq!(found, (cpu, mib(soft_mib), mib(hard_mib)), "{limit:?}");
        }
    }
}
