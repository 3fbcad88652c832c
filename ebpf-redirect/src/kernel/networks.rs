//! What a pod leaves alone, as rows of the kernel's tables.

use std::{collections::HashMap, net::IpAddr};

use ebpf_redirect_abi::{Endpoint, NetworkKey, PortKey, network};
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

impl Rows {
    /// Whether they let a pod's own connection to there go its own way.
    pub(crate) fn let_out(&self, to: &Endpoint) -> bool {
        let of_port = |port: &PortKey| port.side == PortKey::OUTBOUND && port.port == to.port;
        let within = self.networks.iter().filter(|((length, ip), _)| holds((*length, *ip), to));
        let nearest = within.max_by_key(|((length, _), _)| *length).map(|(_, what)| *what);
        match nearest {
            Some(network::OWN) => false,
            Some(network::EXCLUDED) => true,
            _ => self.ports.iter().any(of_port),
        }
    }

    /// Whether they let in what comes to this port of the pod.
    pub(crate) fn let_in(&self, port: u32) -> bool {
        self.ports.iter().any(|row| row.side == PortKey::INBOUND && row.port == port)
    }

    /// Whether all of them are among others.
    pub(crate) fn are_in(&self, others: &Self) -> bool {
        self.networks.iter().all(|(prefix, what)| others.networks.get(prefix) == Some(what))
            && self.ports.iter().all(|port| others.ports.contains(port))
    }

    /// Those that are in force for a pod.
    pub(crate) fn read(netns: u64, tables: &Tables) -> Result<Self, RedirectError> {
        let failed = |error| RedirectError::syscall("read", "the tables of a pod", error);
        let mut rows = Self { networks: HashMap::new(), ports: tables.ports.keys().map_err(failed)? };
        rows.ports.retain(|port| port.netns == netns);
        let halves = NetworkKey::new(netns, [0; 4], 0).netns;
        for key in tables.networks.keys().map_err(failed)?.iter().filter(|key| key.netns == halves) {
            if let Some(what) = tables.networks.get(key).map_err(failed)? {
                rows.networks.insert((key.prefix_len - 64, key.ip), what);
            }
        }
        Ok(rows)
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

/// Whether an address is in a network. One of IPv6, however wide, has no address of IPv4 in it.
fn holds((length, ip): Prefix, address: &Endpoint) -> bool {
    let bits = |words: [u32; 4]| {
        words.iter().fold(0_u128, |bits, word| bits << 32 | u128::from(u32::from_be(*word)))
    };
    let differ = bits(ip) ^ bits(address.ip);
    (length >= 96 || !address.is_v4()) && differ.checked_shr(128 - length).unwrap_or(0) == 0
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

    use super::{Rows, networks, words};
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
    fn what_they_let_out_is_what_the_kernel_finds_nearest() {
        let rows = |cidrs: &[&str], ports: &[u16]| {
            let outbound_cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
            let exclusions =
                Exclusions { outbound_cidrs, outbound_ports: ports.to_vec(), inbound_ports: vec![9090] };
            Rows::of(7, &["10.0.0.7".parse().unwrap()], &exclusions)
        };
        let lets =
            |rows: &Rows, to: &str| rows.let_out(&crate::kernel::address::endpoint(to.parse().unwrap()));
        let narrow = rows(&["10.1.0.0/16", "fd00:8::/32"], &[25]);
        for (to, is_let) in [
            ("10.1.255.255:80", true),
            ("10.2.0.0:80", false),
            ("10.2.0.0:25", true),
            ("[fd00:8::1]:80", true),
            ("[fd00:9::1]:80", false),
            ("10.2.0.0:9090", false),
        ] {
            assert_eq!(lets(&narrow, to), is_let, "{to}");
        }
        let wide = rows(&["::/0", "10.0.0.0/8"], &[]);
        for (to, is_let) in [("[2001:db8::1]:80", true), ("192.0.2.1:80", false), ("10.0.0.7:80", false)] {
            assert_eq!(lets(&wide, to), is_let, "{to}");
        }
        assert!(lets(&rows(&["0.0.0.0/0"], &[]), "192.0.2.1:80") && wide.let_in(9090) && !wide.let_in(80));
    }

    #[test]
    fn all_of_ipv6_does_not_mean_ipv4() {
        let mapped = (96, words(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(rows(&["::/0"]).get(&mapped), Some(&network::NONE));
        assert_eq!(rows(&["::/0", "0.0.0.0/0"]).get(&mapped), Some(&network::EXCLUDED));
        assert_eq!(rows(&["0.0.0.0/0", "::/0"]).get(&mapped), Some(&network::EXCLUDED));
    }
}
