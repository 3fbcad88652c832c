//! What a pod leaves alone, as rows of the kernel's tables.

use std::{collections::HashMap, net::IpAddr};

use ebpf_redirect_abi::{NetworkKey, PortKey, network};
use ipnet::IpNet;

use super::{address::words, tables::Tables};
use crate::{Exclusions, RedirectError};

/// The rows of one pod.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    networks: HashMap<Prefix, u32>,
    ports: Vec<PortKey>,
}

/// A network in the form of its key, without what `NetworkKey` lacks to be one of a hash map.
type Prefix = (u32, [u32; 4]);

impl Rows {
    /// What the pod's enrolment asks for.
    pub(crate) fn of(netns: u64, addresses: &[IpAddr], exclusions: &Exclusions) -> Self {
        Self { networks: networks(addresses, exclusions), ports: ports(netns, exclusions) }
    }

    /// Writes them.
    pub(crate) fn write(&self, netns: u64, tables: &Tables) -> Result<(), RedirectError> {
        for (&(length, ip), value) in &self.networks {
            let written = tables.networks.set(&NetworkKey::new(netns, ip, length), value);
            written.map_err(|error| full("networks", "excluded networks", error))?;
        }
        for port in &self.ports {
            tables.ports.set(port, &1).map_err(|error| full("ports", "excluded ports", error))?;
        }
        Ok(())
    }
}

/// Removes all rows of a pod but those in `keep`.
pub(crate) fn sweep(netns: u64, keep: &Rows, tables: &Tables) -> Result<(), RedirectError> {
    let failed = |error| RedirectError::syscall("sweep", "the tables of a pod", error);
    let halves = NetworkKey::new(netns, [0; 4], 0).netns;
    for key in tables.networks.keys().map_err(failed)? {
        if key.netns == halves && !keep.networks.contains_key(&(key.prefix_len - 64, key.ip)) {
            tables.networks.remove(&key).map_err(failed)?;
        }
    }
    for key in tables.ports.keys().map_err(failed)? {
        if key.netns == netns && !keep.ports.contains(&key) {
            tables.ports.remove(&key).map_err(failed)?;
        }
    }
    Ok(())
}

fn networks(own: &[IpAddr], exclusions: &Exclusions) -> HashMap<Prefix, u32> {
    let mut rows = HashMap::new();
    for cidr in &exclusions.outbound_cidrs {
        let cidr = cidr.trunc();
        let length = u32::from(cidr.prefix_len()) + if matches!(cidr, IpNet::V4(_)) { 96 } else { 0 };
        rows.insert((length, words(cidr.addr())), network::EXCLUDED);
        if matches!(cidr, IpNet::V6(_)) && length < 96 && words(cidr.addr()) == [0; 4] {
            // A network as wide as ::/0 has the v4-mapped addresses in it, but means IPv6 alone.
            rows.entry((96, words(IpAddr::from([0, 0, 0, 0])))).or_insert(network::NONE);
        }
    }
    rows.extend(own.iter().map(|ip| ((128, words(*ip)), network::OWN)));
    rows
}

fn ports(netns: u64, exclusions: &Exclusions) -> Vec<PortKey> {
    let sides =
        [(PortKey::OUTBOUND, &exclusions.outbound_ports), (PortKey::INBOUND, &exclusions.inbound_ports)];
    let row = |side: u32| move |port: &u16| PortKey { netns, port: u32::from(*port), side };
    sides.iter().flat_map(|(side, ports)| ports.iter().map(row(*side))).collect()
}

fn full(table: &'static str, what: &'static str, error: std::io::Error) -> RedirectError {
    match error.raw_os_error() {
        Some(libc::E2BIG | libc::ENOSPC) => RedirectError::TableFull { table: what, limit: 65_536 },
        _ => RedirectError::syscall("write", table, error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ebpf_redirect_abi::network;

    use super::{networks, words};
    use crate::Exclusions;

    fn rows(cidrs: &[&str]) -> super::HashMap<super::Prefix, u32> {
        let outbound_cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        networks(&["10.0.0.7".parse().unwrap()], &Exclusions { outbound_cidrs, ..Exclusions::default() })
    }

    #[test]
    fn a_network_is_written_without_its_host_bits_and_v4_as_mapped() {
        let rows = rows(&["10.1.2.3/8", "fd00::1/16"]);
        let ip = |text: &str| words(text.parse::<IpAddr>().unwrap());
        assert_eq!(rows.get(&(104, ip("10.0.0.0"))), Some(&network::EXCLUDED));
        assert_eq!(rows.get(&(16, ip("fd00::"))), Some(&network::EXCLUDED));
        assert_eq!(rows.get(&(128, ip("10.0.0.7"))), Some(&network::OWN));
    }

    #[test]
    fn all_of_ipv6_does_not_mean_ipv4() {
        let mapped = (96, words(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(rows(&["::/0"]).get(&mapped), Some(&network::NONE));
        assert_eq!(rows(&["::/0", "0.0.0.0/0"]).get(&mapped), Some(&network::EXCLUDED));
        assert_eq!(rows(&["0.0.0.0/0", "::/0"]).get(&mapped), Some(&network::EXCLUDED));
    }
}
