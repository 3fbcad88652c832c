//! What the kernel says of a process and of the machine.
//!
//! Only figures of the kernel's own; nothing a subject says of itself.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use crate::error::BenchError;

/// CPU time used by all threads of a process, also those that have ended. Exact to a clock tick (10 ms).
pub(crate) fn cpu_ns(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let words = after_name.split_ascii_whitespace().skip(UTIME).take(2);
    let ticks: Option<u64> = words.map(|word| word.parse::<u64>().ok()).sum();
    let ticks =
        ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed /proc/PID/stat"))?;
    Ok(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

/// How long each thread of a process has run, as the scheduler counts it: in nanoseconds, where [`cpu_ns`] is exact to a tick.
#[derive(Debug, Default)]
pub(crate) struct Ran(BTreeMap<u32, u64>);

impl Ran {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut ran = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let Some(thread) = task.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // One that has ended meanwhile is not there any more.
            let said = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let own = said.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
            ran.extend(own.map(|own| (thread, own)));
        }
        Ok(Self(ran))
    }

    /// How long those that are there now have run since then, in nanoseconds; those that have ended are not known of.
    pub(crate) fn since(&self, before: &Self) -> u64 {
        let of = |(thread, now): (&u32, &u64)| now.saturating_sub(before.0.get(thread).copied().unwrap_or(0));
        self.0.iter().map(of).sum()
    }

    /// The same of one thread.
    pub(crate) fn of_since(&self, thread: u32, before: &Self) -> u64 {
        let of = |ran: &Self| ran.0.get(&thread).copied().unwrap_or(0);
        of(self).saturating_sub(of(before))
    }
}

/// Time that a hypervisor gave to somebody else while this machine's CPUs wanted it, all CPUs together. Exact to a tick
/// (10 ms); 0 where there is none.
pub(crate) fn stolen_ns() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks =
        stat.lines().next().and_then(|all| all.split_ascii_whitespace().nth(STEAL)?.parse::<u64>().ok());
    ticks.unwrap_or(0) * 1_000_000_000 / rustix::param::clock_ticks_per_second()
}

/// Time in which no CPU of the machine worked for anybody here: idle, or a hypervisor had it; all CPUs together. What is left of the
/// wall's time was work, in user space and in the kernel. Work itself is counted by sampling, which misses most of what is
/// shorter than a tick; idling is timed. Exact to a tick (10 ms).
pub(crate) fn rested_ns() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let words: Vec<&str> = stat.lines().next().unwrap_or("").split_ascii_whitespace().collect();
    let of = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    // After `cpu`: user, nice, system, idle, iowait, irq, softirq, steal.
    (of(4) + of(5) + of(STEAL)) * 1_000_000_000 / rustix::param::clock_ticks_per_second()
}

/// CPUs that are there.
pub(crate) fn cpus() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let is_one = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
    stat.lines().filter(is_one).count() as u64
}

/// Memory that could be had without swapping.
pub(crate) fn available_bytes() -> u64 {
    kilobytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:") * 1024
}

/// Resident, proportional and private memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub rss: u64,
    pub pss: u64,
    /// Of pages that no other process has.
    pub private: u64,
}

/// Connections that the calling thread's network namespace has begun to make since it is there.
pub(crate) fn active_opens() -> u64 {
    let snmp = fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
    let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap_or(""), tcp.next().unwrap_or(""));
    let found = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "ActiveOpens");
    found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// Established connections of the calling thread's network namespace to this port of others.
pub(crate) fn established_to(port: u16) -> usize {
    let remote = format!(":{port:04X}");
    let count = |path: &str| {
        let table = fs::read_to_string(path).unwrap_or_default();
        // `sl local remote state …`; 01 is established.
        let is_one = |line: &&str| {
            let mut columns = line.split_ascii_whitespace().skip(2);
            columns.next().is_some_and(|peer| peer.ends_with(&remote)) && columns.next() == Some("01")
        };
        table.lines().filter(is_one).count()
    };
    count("/proc/thread-self/net/tcp") + count("/proc/thread-self/net/tcp6")
}

/// The processes that any thread of this one has started and that are there.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |path: PathBuf| fs::read_to_string(path.join("children")).unwrap_or_default();
    let lists: Vec<String> = threads.map(|thread| of(thread.path())).collect();
    lists.iter().flat_map(|list| list.split_ascii_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

/// What a process has resident now.
pub(crate) fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let bytes = |what| kilobytes(&text, what) * 1024;
    let private = bytes("Private_Clean:") + bytes("Private_Dirty:");
    Ok(Memory { rss: bytes("Rss:"), pss: bytes("Pss:"), private })
}

/// The same of several together.
pub(crate) fn memory_of(pids: &[u32]) -> Result<Memory, BenchError> {
    let mut all = Memory::default();
    for pid in pids {
        let one = memory(*pid).map_err(|e| BenchError::io(format!("read the memory of {pid}"), e))?;
        all.rss += one.rss;
        all.pss += one.pss;
        all.private += one.private;
    }
    Ok(all)
}

/// The machine, for a reader.
pub(crate) fn machine() -> serde_json::Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("");
    let os = read("/etc/os-release");
    let os = os.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("").trim_matches('"');
    serde_json::json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": cpu.lines().filter(|l| l.starts_with("processor")).count(),
        "memory_bytes": kilobytes(&read("/proc/meminfo"), "MemTotal:") * 1024,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "os": os,
    })
}

/// Place of `utime` among the words after the process's name.
const UTIME: usize = 11;
/// Place of `steal` in the first line of `/proc/stat`.
const STEAL: usize = 8;

fn kilobytes(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cpu_time_grows_with_work_and_memory_is_not_zero() {
        let pid = std::process::id();
        let (before, ran, rested) = (cpu_ns(pid).unwrap(), Ran::of(pid).unwrap(), rested_ns());
        let (start, begun) = (crate::clock::own_cpu(), crate::clock::now());
        while crate::clock::own_cpu() - start < 60_000_000 {
            std::hint::black_box(start);
        }
        let used = cpu_ns(pid).unwrap() - before;
        let now = Ran::of(pid).unwrap();
        let ran = now.since(&ran);
        assert!((40_000_000..2_000_000_000).contains(&ran), "{ran}");
        assert_eq!(now.since(&now), 0);
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        assert!((40_000_000..2_000_000_000).contains(&now.of_since(thread, &Ran::default())), "its own");
        assert!((40_000_000..2_000_000_000).contains(&used), "{used}");
        let wall = crate::clock::now() - begun;
        assert!(rested_ns() - rested <= wall * cpus() - 30_000_000, "it worked itself");
        assert!(available_bytes() > 1 << 20);
        assert!(memory(pid).unwrap().rss > 100_000);
    }
}
