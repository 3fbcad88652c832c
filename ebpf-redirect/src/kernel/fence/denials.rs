//! A pod's denials as rows of the kernel's tables. A network's row must hold what all wider networks around it deny too,
//! since the kernel finds the longest prefix only. Rows are written under a new generation and put in force by one write
//! per link, so that no packet meets a mixture.

use std::{
    collections::{BTreeSet, HashMap},
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
        for (cidr, denied) in spread(denials).into_iter().filter(|(cidr, _)| !is_nobody(cidr)) {
            let set = match denied {
                Ports::All => ports::ALL,
                Ports::These(these) => {
                    let next = sets.len() as u32 + 1;
                    let these: Vec<u16> = these.into_iter().collect();
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
                return Err(RedirectError::TableFull { table, limit: PER_POD as u32 });
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
    These(BTreeSet<u16>),
}

impl Ports {
    fn of(ports: &[u16]) -> Self {
        if ports.is_empty() { Self::All } else { Self::These(ports.iter().copied().collect()) }
    }

    fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::These(these), Self::These(others)) => these.extend(others),
        }
    }
}

/// Each network once, with what it and all networks around it deny.
fn spread(denials: &[Denial]) -> Vec<(IpNet, Ports)> {
    let mut own: HashMap<IpNet, Ports> = HashMap::new();
    for denial in denials {
        let ports = Ports::of(&denial.ports);
        own.entry(denial.cidr.trunc()).and_modify(|all| all.add(&ports)).or_insert(ports);
    }
    let mut own: Vec<_> = own.into_iter().collect();
    // A network comes before those inside it, which follow it without a gap.
    own.sort_by_key(|(cidr, _)| (cidr.addr(), cidr.prefix_len()));
    let (mut around, mut all): (Vec<usize>, Vec<(IpNet, Ports)>) = (Vec::new(), Vec::new());
    for (cidr, mut ports) in own {
        while around.last().is_some_and(|last| !all[*last].0.contains(&cidr)) {
            around.pop();
        }
        if let Some(last) = around.last() {
            ports.add(&all[*last].1);
        }
        around.push(all.len());
        all.push((cidr, ports));
    }
    all
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn denial(cidr: &str, ports: &[u16]) -> Denial {
        Denial { cidr: cidr.parse().unwrap(), ports: ports.to_vec() }
    }

    fn sets(denials: &[Denial]) -> Vec<(String, Vec<u16>)> {
        let list = |ports| match ports {
            Ports::All => Vec::new(),
            Ports::These(these) => these.into_iter().collect(),
        };
        spread(denials).into_iter().map(|(cidr, ports)| (cidr.to_string(), list(ports))).collect()
    }

    #[test]
    fn a_network_is_denied_what_those_around_it_are() {
        let found = sets(&[
            denial("10.1.2.3/8", &[80]),
            denial("10.1.0.0/16", &[443]),
            denial("10.1.1.0/24", &[80, 22]),
            denial("10.2.0.0/16", &[]),
            denial("10.2.2.0/24", &[1]),
            denial("fd00::/8", &[80]),
            denial("10.1.0.0/16", &[444]),
        ]);
        let found: Vec<_> = found.iter().map(|(cidr, ports)| (cidr.as_str(), ports.as_slice())).collect();
        assert_eq!(
            found,
            [
                ("10.0.0.0/8", [80].as_slice()),
                ("10.1.0.0/16", &[80, 443, 444]),
                ("10.1.1.0/24", &[22, 80, 443, 444]),
                ("10.2.0.0/16", &[]),
                ("10.2.2.0/24", &[]),
                ("fd00::/8", &[80]),
            ]
        );
    }

    #[test]
    fn equal_sets_of_ports_are_written_once() {
        let rows = Rows::of(&[denial("10.0.0.0/8", &[2, 1]), denial("11.0.0.0/8", &[1, 2])], &[]).unwrap();
        assert_eq!(rows.ports, [(1, 1), (1, 2)]);
        assert!(rows.networks.iter().all(|(_, set)| *set == 1));
    }

    #[test]
    fn all_of_ipv6_does_not_mean_ipv4() {
        let mapped = (96, words([0, 0, 0, 0].into()));
        let of = |denials: &[Denial]| {
            Rows::of(denials, &[]).unwrap().networks.into_iter().find(|(network, _)| *network == mapped)
        };
        assert_eq!(of(&[denial("::/0", &[])]), Some((mapped, ports::NONE)));
        assert_eq!(of(&[denial("::/0", &[]), denial("0.0.0.0/0", &[])]), Some((mapped, ports::ALL)));
        assert_eq!(of(&[denial("10.0.0.0/8", &[])]), None);
    }

    #[test]
    fn a_spared_address_is_denied_nothing_whatever_is_around_it() {
        let node: IpAddr = "10.0.0.1".parse().unwrap();
        let rows = Rows::of(&[denial("10.0.0.0/8", &[80]), denial("10.0.0.1/32", &[])], &[node]).unwrap();
        let of_node: Vec<_> = rows.networks.iter().filter(|(key, _)| *key == (128, words(node))).collect();
        assert_eq!(of_node, [&((128, words(node)), ports::NONE)]);
        assert_eq!(Rows::of(&[], &[node]).unwrap(), Rows::default());
    }

    #[test]
    fn more_than_a_pods_share_is_refused_with_the_limit() {
        let many: Vec<_> =
            (0..=PER_POD).map(|n| denial(&format!("10.{}.{}.0/24", n / 256, n % 256), &[])).collect();
        let error = Rows::of(&many, &[]).unwrap_err().to_string();
        assert!(error.contains("denied networks is full (4096)"), "{error}");
    }

    /// What the kernel makes of rows: the set of the longest prefix that the address has.
    fn is_denied(rows: &Rows, source: IpAddr, port: u16) -> bool {
        let bits = |words: [u32; 4]| {
            words.iter().fold(0_u128, |all, word| all << 32 | u128::from(u32::from_be(*word)))
        };
        let differ = |ip: &[u32; 4]| bits(*ip) ^ bits(words(source));
        let around = rows
            .networks
            .iter()
            .filter(|((length, ip), _)| *length == 0 || differ(ip) >> (128 - length) == 0);
        match around.max_by_key(|((length, _), _)| *length).map(|(_, set)| *set) {
            None | Some(ports::NONE) => false,
            Some(ports::ALL) => true,
            Some(set) => rows.ports.contains(&(set, port)),
        }
    }

    fn networks() -> impl Strategy<Value = IpNet> {
        let around =
            ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "::/80", "::8000:0:0/81"];
        let others = ["::fffe:0:0/95", "::ffff:0:0/96", "::ffff:10.1.0.0/112", "fd00::/8", "fd00::1/128"];
        select([&around[..], &others].concat()).prop_map(|text| text.parse().unwrap())
    }

    fn addresses() -> impl Strategy<Value = IpAddr> {
        let all = [
            "10.1.2.3",
            "10.1.9.9",
            "10.2.0.1",
            "11.0.0.1",
            "fd00::1",
            "fd00::2",
            "2001:db8::1",
            "::fffe:1:1",
        ];
        select(all.to_vec()).prop_map(|text| text.parse().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn rows_deny_what_the_denials_say_and_nothing_else(
            denials in vec((networks(), vec(select(&[80_u16, 443, 22][..]), 0..3)), 0..6),
            spared in vec(addresses(), 0..2),
            source in addresses(),
            port in select(&[80_u16, 443, 1][..]),
        ) {
            let denials: Vec<_> = denials.into_iter().map(|(cidr, ports)| Denial { cidr, ports }).collect();
            let says = |one: &Denial| one.cidr.contains(&source) && (one.ports.is_empty() || one.ports.contains(&port));
            let said = denials.iter().any(says) && !spared.contains(&source);
            let rows = Rows::of(&denials, &spared).unwrap();
            prop_assert_eq!(is_denied(&rows, source, port), said, "{:?}", rows);
        }
    }
}
