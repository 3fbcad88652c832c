//! The shared maps, opened by their pins, and the rows of them that are one pod's. All of them are read and written
//! through shared references.

use std::io;

use ebpf_redirect_abi::{
    DenialKey, DeniedPort, Event, Fence, FenceCounts, FlowKey, Hook, NetworkKey, Note, Pod, PortKey,
};

use super::instance::Instance;
use crate::{
    Counter, RedirectError,
    sys::bpf::{Plain, Table},
};

/// The maps of one instance.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The enrolled pods, by network namespace.
    pub(crate) pods: Table<u64, Pod>,
    /// Ports that are left alone.
    pub(crate) ports: Table<PortKey, u32>,
    /// Networks that are left alone.
    pub(crate) networks: Table<NetworkKey, u32>,
    /// Notes on sockets, by the socket's descriptor.
    pub(crate) sockets: Table<i32, Note>,
    /// Whether somebody watches decisions.
    pub(crate) watched: Table<u32, u32>,
    counters: Table<u32, u64>,
    pub(crate) cpus: usize,
}

impl Tables {
    /// Opens all.
    pub(crate) fn open(instance: &Instance) -> Result<Self, RedirectError> {
        let failed = |error: io::Error| RedirectError::syscall("open the maps", "the instance", error);
        Ok(Self {
            pods: Table::open(&instance.map("PODS")).map_err(failed)?,
            ports: Table::open(&instance.map("PORTS")).map_err(failed)?,
            networks: Table::open(&instance.map("NETWORKS")).map_err(failed)?,
            sockets: Table::open(&instance.map("SOCKETS")).map_err(failed)?,
            watched: Table::open(&instance.map("WATCHED")).map_err(failed)?,
            counters: Table::open(&instance.map("COUNTERS")).map_err(failed)?,
            cpus: aya::util::nr_cpus().map_err(|(_, error)| failed(error))?,
        })
    }

    /// Every event that has happened.
    pub(crate) fn counters(&self) -> Result<Vec<Counter>, RedirectError> {
        let mut counters = Vec::new();
        for hook in Hook::ALL {
            for event in Event::ALL {
                let per_cpu = self.counters.get_per_cpu(&event.counter(hook), self.cpus);
                let per_cpu =
                    per_cpu.map_err(|error| RedirectError::syscall("read", "the counters", error))?;
                let count = per_cpu.iter().sum();
                if count > 0 {
                    counters.push(Counter { hook: hook.name(), event: event.name(), count });
                }
            }
        }
        Ok(counters)
    }
}

/// The maps of the fence.
#[derive(Debug)]
pub(crate) struct FenceTables {
    /// The fenced links, by the number of the host's end.
    pub(crate) fences: Table<u32, Fence>,
    /// What each pod's fence has counted.
    pub(crate) counts: Table<u64, FenceCounts>,
    /// Connections from before.
    pub(crate) earlier: Table<FlowKey, u32>,
    /// Who may not connect.
    pub(crate) denials: Table<DenialKey, u32>,
    /// To which ports.
    pub(crate) denied_ports: Table<DeniedPort, u32>,
    /// Listeners whose accepted sockets may send, by descriptor.
    pub(crate) doors: Table<i32, u32>,
    cpus: usize,
}

impl FenceTables {
    /// Opens all.
    pub(crate) fn open(instance: &Instance) -> Result<Self, RedirectError> {
        let failed = |error: io::Error| RedirectError::syscall("open the maps", "the fence", error);
        Ok(Self {
            fences: Table::open(&instance.map("FENCES")).map_err(failed)?,
            counts: Table::open(&instance.map("FENCE_COUNTS")).map_err(failed)?,
            earlier: Table::open(&instance.map("EARLIER")).map_err(failed)?,
            denials: Table::open(&instance.map("DENIALS")).map_err(failed)?,
            denied_ports: Table::open(&instance.map("DENIED_PORTS")).map_err(failed)?,
            doors: Table::open(&instance.map("DOORS")).map_err(failed)?,
            cpus: aya::util::nr_cpus().map_err(|(_, error)| failed(error))?,
        })
    }

    /// Writes what is known of a link.
    pub(crate) fn set_link(&self, index: u32, fence: &Fence) -> Result<(), RedirectError> {
        self.fences.set(&index, fence).map_err(|error| match error.raw_os_error() {
            Some(libc::E2BIG) => RedirectError::TableFull { table: "fenced links", limit: 8192 },
            _ => RedirectError::syscall("write", "the table of fenced links", error),
        })
    }

    /// Makes the row of counters of a pod, if it has none.
    pub(crate) fn count(&self, netns: u64) -> Result<(), RedirectError> {
        let failed = |error| RedirectError::syscall("write", "the fence's counters", error);
        match self.counts.get_per_cpu(&netns, self.cpus) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            rows => return rows.map(drop).map_err(failed),
        }
        self.counts.set_per_cpu(&netns, &FenceCounts::default(), self.cpus).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::E2BIG) => RedirectError::TableFull { table: "fenced pods", limit: 4096 },
                _ => failed(error),
            }
        })
    }

    /// Removes all rows of a pod.
    pub(crate) fn forget(&self, netns: u64) -> Result<(), RedirectError> {
        self.forget_links(netns, &[])?;
        self.forget_denials(netns, 0)?;
        sweep(&self.earlier, |key| key.netns == netns)?;
        sweep(&self.counts, |key| *key == netns)
    }

    /// Removes a pod's links but those to keep.
    pub(crate) fn forget_links(&self, netns: u64, keep: &[u32]) -> Result<(), RedirectError> {
        let of = |index: &u32| self.fences.get(index).ok().flatten().is_some_and(|row| row.netns == netns);
        sweep(&self.fences, |index| !keep.contains(index) && of(index))
    }

    /// Removes a pod's denials but those of one generation.
    pub(crate) fn forget_denials(&self, netns: u64, keep: u32) -> Result<(), RedirectError> {
        let halves = DenialKey::new(netns, 0, [0; 4], 0).netns;
        sweep(&self.denials, |key| key.netns == halves && key.generation != keep)?;
        sweep(&self.denied_ports, |key| key.netns == netns && key.generation != keep)
    }
}

/// Removes rows by their keys.
fn sweep<K: Plain, V: Plain>(table: &Table<K, V>, gone: impl Fn(&K) -> bool) -> Result<(), RedirectError> {
    let failed = |error| RedirectError::syscall("sweep", "the fence's tables", error);
    for key in table.keys().map_err(failed)?.iter().filter(|key| gone(key)) {
        table.remove(key).map_err(failed)?;
    }
    Ok(())
}
