//! What the kernel holds for a subject's TCP sockets: queued bytes and what each socket is made of.
//!
//! As `ss -m` says it (sock_diag(7), SK_MEMINFO), namespace by namespace, since sockets are in pods whose proxy is elsewhere. Whose a
//! socket is, its inode says; it is never guessed by ports.

use std::{collections::BTreeSet, fs, io, path::Path, process::Command};

use testkit::Netns;

use crate::error::BenchError;

/// Of some processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub count: u64,
    pub bytes: u64,
}

/// Those that these processes have in these namespaces.
pub(crate) fn of<'a>(pids: &[u32], places: impl Iterator<Item = &'a Netns>) -> Result<Sockets, BenchError> {
    let inodes: BTreeSet<u64> = pids.iter().flat_map(|pid| inodes(*pid)).collect();
    let each = object_size();
    let mut all = Sockets::default();
    for netns in places {
        let said = netns.run(|| Command::new("ss").args(["-tmaeHOn"]).output())?;
        let said = said.map_err(|e| BenchError::io("run ss (of iproute2)", e))?;
        for line in String::from_utf8_lossy(&said.stdout).lines() {
            let Some((_, bytes)) = held(line).filter(|(inode, _)| inodes.contains(inode)) else {
                continue;
            };
            all.count += 1;
            all.bytes += bytes + each;
        }
    }
    Ok(all)
}

/// A line's inode, and the bytes that are allocated for what its socket has received, is to send, keeps at hand, and holds besides.
fn held(line: &str) -> Option<(u64, u64)> {
    let inode = line.split_once(" ino:")?.1.split(' ').next()?.parse().ok()?;
    let memory = line.split_once("skmem:(")?.1.split_once(')')?.0;
    let bytes = memory.split(',').filter_map(|item| {
        let name = item.trim_end_matches(|c: char| c.is_ascii_digit());
        // Not the bounds (rb, tb), not what is counted among what is to be sent already (t), not drops (d).
        let counts = ["r", "f", "w", "o", "bl"].contains(&name);
        counts.then(|| item[name.len()..].parse::<u64>().ok()).flatten()
    });
    Some((inode, bytes.sum()))
}

fn inodes(pid: u32) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let of = |path: &Path| -> io::Result<Option<u64>> {
        let target = fs::read_link(path)?;
        let text = target.to_string_lossy().into_owned();
        Ok(text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok()))
    };
    files.filter_map(|file| of(&file.path()).ok().flatten()).collect()
}

/// What a TCP socket itself is of, with its inode (slabinfo(5)); about that where the kernel does not say.
fn object_size() -> u64 {
    let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let size = |name: &str| {
        text.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some(name)).then(|| words.nth(2)?.parse::<u64>().ok()).flatten()
        })
    };
    size("TCP").unwrap_or(2_400) + size("sock_inode_cache").unwrap_or(800)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_socket_holds_is_added_up_and_its_bounds_are_not() {
        let line = "ESTAB 0 0 10.77.0.10:1 10.77.1.10:2 uid:1 ino:4711 sk:c8 cgroup:/ <-> \
                    skmem:(r100,rb131072,t7,tb16384,f4096,w200,o10,bl1,d9) cubic";
        assert_eq!(held(line), Some((4711, 4_407)));
        assert_eq!(held("LISTEN 0 128 0.0.0.0:1 0.0.0.0:*"), None);
    }
}
