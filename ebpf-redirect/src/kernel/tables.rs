//! The shared maps, opened by their pins. All of them are read and written through shared references.

use std::io;

use ebpf_redirect_abi::{Event, Hook, NetworkKey, Note, Pod, PortKey};

use super::instance::Instance;
use crate::{Counter, RedirectError, sys::bpf::Table};

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
    cpus: usize,
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
