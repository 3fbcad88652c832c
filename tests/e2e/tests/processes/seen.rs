//! What is seen of cells' processes from outside: in /proc, in control groups, in `canopy top`. It must never change one but by a
//! signal.

use std::{fs, path::Path, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use testkit::Daemon;

use super::Result;

/// A tenant's cell, as `canopy tree` shows it.
pub(super) fn shown(daemon: &Daemon, tenant: &str) -> Result<serde_json::Value> {
    let tree = daemon.canopy(&["tree", "--json"])?;
    let tree: serde_json::Value = serde_json::from_slice(&tree.stdout)?;
    let cells = tree["cells"].as_array().cloned().unwrap_or_default();
    let is_its = |cell: &serde_json::Value| cell["tenant"]["tenant"] == tenant;
    Ok(cells.into_iter().find(is_its).ok_or_else(|| format!("no {tenant} in {tree}"))?)
}

/// What a process may have for itself beside its tenant's budget.
pub(super) const OVERHEAD_BYTES: u64 = 16 << 20;

/// Memory that a process has written to and shares with nobody.
pub(super) fn private_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).ok_or("it is told")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Lines of a process's `/proc/PID/cgroup` that name a group which the daemon has made for it.
pub(super) fn groups(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(text.lines().filter(|line| line.contains("/canopy-")).map(str::to_owned).collect())
}

/// Where a line of `/proc/PID/cgroup` may be mounted.
pub(super) fn places(group: &str) -> Vec<String> {
    let mut parts = group.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mounts = [controllers, "unified", ""].map(|mount| format!("/sys/fs/cgroup/{mount}{path}"));
    mounts.into_iter().filter(|place| Path::new(place).exists()).collect()
}

pub(super) fn read(groups: &[String], file: &str) -> Option<String> {
    let mut files = groups.iter().flat_map(|group| places(group)).map(|place| format!("{place}/{file}"));
    files.find_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
}

pub(super) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("a number of a process")?;
    Ok(kill_process(pid, signal)?)
}

/// Whether a process has ended, a moment later.
pub(super) fn is_over(pid: u32) -> bool {
    thread::sleep(Duration::from_millis(50));
    !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The one process of a tenant's cell; waits until it serves.
pub(super) fn cell(daemon: &Daemon, tenant: &str) -> Result<u32> {
    for _ in 0..500 {
        if let [pid] = cells(daemon, tenant)?[..] {
            return Ok(pid);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{tenant} has no process of its own: {}", daemon.output()).into())
}

/// Children of the daemon that are called so.
pub(super) fn cells(daemon: &Daemon, tenant: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Whoever ends between two looks is none.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(") ") else { continue };
        let mut rest = rest.split(' ');
        let (state, parent) = (rest.next(), rest.next().and_then(|parent| parent.parse::<u32>().ok()));
        if name.ends_with(&format!("({tenant}")) && parent == Some(daemon.pid()) && state != Some("Z") {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The names of the daemon's threads.
pub(super) fn threads(daemon: &Daemon) -> Result<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()))?.flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    Ok(names.map(|name| name.trim().to_owned()).collect())
}
