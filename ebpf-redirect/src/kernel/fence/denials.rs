//! A pod's denials as rows of the kernel's tables. A network's row must hold what all wider networks around it deny too,
//! since the kernel finds the longest prefix only. Rows are written under a new generation and put in force by one write
//! per link, so that no packet meets a mixture.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use ebpf_redirect_abi::{DenialKey, DeniedPort, Fence, ports};
use ipnet::{IpNet, Ipv6Net};

use crate::{
    Denial, RedirectError,
    kernel::{address::words, tables::FenceTables},
    sys::bpf::{Plain, Table},
};

/// The rows of one pod that are in force.
#[derive(Debug, Default)]
pub(crate) struct InForce {
    generation: u32,
    rows: Rows,
}

/// Rows, without namespace and generation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Length and address of a network, and its set of ports.
    networks: Vec<((u32, [u32; 4]), u32)>,
    /// Members of the sets.
    ports: Vec<(u32, u16)>,
}

impl InForce {
    /// Puts others into their place. On an error the former ones stay.
    pub(crate) fn replace(
        &mut self,
        tables: &FenceTables,
        netns: u64,
        links: &[u32],
        rows: Rows,
    ) -> Result<(), RedirectError> {
        let before = links.first().and_then(|link| tables.fences.get(link).ok().flatten());
        let current = before.map_or(self.generation, |fence| fence.denials);
        if current == self.generation && rows == self.rows {
            return Ok(());
        }
        let generation = if rows.networks.is_empty() { 0 } else { current.wrapping_add(1).max(1) };
        if let Err(error) = rows.write(tables, netns, generation) {
            rows.remove(tables, netns, generation);
            return Err(error);
        }
        for link in links {
            let Some(fence) = tables.fences.get(link).map_err(failed)? else { continue };
            tables.set_link(*link, &Fence { denials: generation, ..fence })?;
        }
        self.rows.remove(tables, netns, self.generation);
        if current != self.generation {
            // A dead process's, of which nothing is known but the namespace.
            tables.forget_denials(netns, generation)?;
        }
        *self = Self { generation, rows };
        Ok(())
    }
}

impl Rows {
    /// For these denials; the spared addresses are in none of them.
    pub(crate) fn of(denials: &[Denial], spared: &[IpAddr]) -> Result<Self, RedirectError> {
        let mut rows = Self::default();
        let mut sets: HashMap<Vec<u16>, u32> = HashMap::new();
        // No packet comes from a v4-mapped address, and its row would be that of an IPv4 network.
        let is_nobody = |cidr: &IpNet| MAPPED.contains(cidr);
        for (cidr, denied) in spread(denials)?.into_iter().filter(|(cidr, _)| !is_nobody(cidr)) {
            let set = match denied {
                Ports::All => ports::ALL,
                Ports::These(these) => {
                    let next = sets.len() as u32 + 1;
                    let set = *sets.entry(these.clone()).or_insert(next);
                    if set == next {
                        rows.ports.extend(these.into_iter().map(|port| (set, port)));
                    }
                    set
                }
            };
            let wider = if matches!(cidr, IpNet::V4(_)) { 96 } else { 0 };
            rows.networks.push(((u32::from(cidr.prefix_len()) + wider, words(cidr.addr())), set));
        }
        if !rows.networks.is_empty() {
            let spared: Vec<_> = spared.iter().map(|ip| (128, words(*ip))).collect();
            rows.networks.retain(|(network, _)| !spared.contains(network));
            rows.networks.extend(spared.into_iter().map(|network| (network, ports::NONE)));
        }
        let mapped = (96, words(MAPPED.addr()));
        if denials.iter().any(|denial| denial.cidr.contains(&MAPPED))
            && !rows.networks.iter().any(|(network, _)| *network == mapped)
        {
            // A network as wide as ::/0 has the v4-mapped addresses in it, but means IPv6 alone.
            rows.networks.push((mapped, ports::NONE));
        }
        for (table, count) in [("denied networks", rows.networks.len()), ("denied ports", rows.ports.len())] {
            if count > PER_POD {
                return Err(too_many(table));
            }
        }
        Ok(rows)
    }

    fn write(&self, tables: &FenceTables, netns: u64, generation: u32) -> Result<(), RedirectError> {
        for (set, port) in &self.ports {
            let key = denied_port(netns, generation, *set, *port);
            put(&tables.denied_ports, &key, &1, "denied ports")?;
        }
        for ((length, ip), set) in &self.networks {
            let key = DenialKey::new(netns, generation, *ip, *length);
            put(&tables.denials, &key, set, "denied networks")?;
        }
        Ok(())
    }

    /// What is not there is none.
    fn remove(&self, tables: &FenceTables, netns: u64, generation: u32) {
        for ((length, ip), _) in &self.networks {
            drop(tables.denials.remove(&DenialKey::new(netns, generation, *ip, *length)));
        }
        for (set, port) in &self.ports {
            drop(tables.denied_ports.remove(&denied_port(netns, generation, *set, *port)));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ports {
    All,
    /// In order, each once.
    These(Vec<u16>),
}

impl Ports {
    fn add(&mut self, ports: &[u16]) {
        match self {
            Self::These(these) if !ports.is_empty() => these.extend(ports),
            _ => *self = Self::All,
        }
    }

    fn settle(&mut self) {
        if let Self::These(these) = self {
            // The stable one is quick where two lists in order were put together.
            these.sort();
            these.dedup();
        }
    }

    /// Those around a network: its own are added to them. How many were copied.
    fn inherit(&mut self, around: &Self) -> usize {
        match (&mut *self, around) {
            (Self::All, _) => 0,
            (_, Self::All) => {
                *self = Self::All;
                0
            }
            (Self::These(these), Self::These(others)) => {
                these.extend(others);
                let copied = these.len();
                self.settle();
                copied
            }
        }
    }

    fn len(&self) -> usize {
        if let Self::These(these) = self { these.len() } else { 0 }
    }
}

/// Each network once, with what it and all networks around it deny. Refuses what would not fit before it grows: a list of
/// networks inside a network with a list of ports is one that multiplies.
fn spread(denials: &[Denial]) -> Result<Vec<(IpNet, Ports)>, RedirectError> {
    let mut own: HashMap<IpNet, Ports> = HashMap::new();
    for denial in denials {
        own.entry(denial.cidr.trunc()).or_insert_with(|| Ports::These(Vec::new())).add(&denial.ports);
        if own.len() > PER_POD {
            return Err(too_many("denied networks"));
        }
    }
    let mut own: Vec<_> = own.into_iter().collect();
    own.iter_mut().for_each(|(_, ports)| ports.settle());
    if own.iter().any(|(_, ports)| ports.len() > PER_POD) {
        return Err(too_many("denied ports"));
    }
    // A network comes before those inside it, which follow it without a gap.
    own.sort_by_key(|(cidr, _)| (cidr.addr(), cidr.prefix_len()));
    let (mut around, mut all): (Vec<usize>, Vec<(IpNet, Ports)>) = (Vec::new(), Vec::new());
    let mut copied = 0;
    for (cidr, mut ports) in own {
        while around.last().is_some_and(|last| !all[*last].0.contains(&cidr)) {
            around.pop();
        }
        if let Some(last) = around.last() {
            copied += ports.inherit(&all[*last].1);
            if copied > INHERITED {
                return Err(too_many("denied ports"));
            }
        }
        around.push(all.len());
        all.push((cidr, ports));
    }
    Ok(all)
}

fn too_many(table: &'static str) -> RedirectError {
    RedirectError::TableFull { table, limit: PER_POD as u32 }
}

fn denied_port(netns: u64, generation: u32, set: u32, port: u16) -> DeniedPort {
    DeniedPort { netns, generation, set, port: u32::from(port), unused: 0 }
}

fn put<K: Plain, V: Plain>(
    table: &Table<K, V>,
    key: &K,
    value: &V,
    name: &'static str,
) -> Result<(), RedirectError> {
    table.set(key, value).map_err(|error| match error.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => RedirectError::TableFull { table: name, limit: 65_536 },
        _ => failed(error),
    })
}

fn failed(error: std::io::Error) -> RedirectError {
    RedirectError::syscall("write", "the tables of denials", error)
}

/// Where IPv4 is in IPv6's form, and so in the kernel's tables.
const MAPPED: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96));

/// Of each table, so that one pod's rules cannot take it all.
const PER_POD: usize = 4096;

/// Ports copied from networks to those inside them, for one pod: 64 for each network, in a few milliseconds.
const INHERITED: usize = 64 * PER_POD;

#[cfg(test)]
mod tests;
