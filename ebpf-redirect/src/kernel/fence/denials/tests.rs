//! What rows are made of denials, and that the kernel would find in them what was said.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn denial(cidr: &str, ports: &[u16]) -> Denial {
    Denial { cidr: cidr.parse().unwrap(), ports: ports.to_vec() }
}

fn sets(denials: &[Denial]) -> Vec<(String, Vec<u16>)> {
    let list = |ports| match ports {
        Ports::All => Vec::new(),
        Ports::These(these) => these,
    };
    spread(denials).unwrap().into_iter().map(|(cidr, ports)| (cidr.to_string(), list(ports))).collect()
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

#[test]
fn ports_that_multiply_with_networks_are_refused_before_they_do() {
    let inner = |count: u32| {
        (0..count).map(|n| Denial { cidr: IpNet::from(IpAddr::from((n + 1).to_be_bytes())), ports: vec![1] })
    };
    let rows = |ports: std::ops::Range<u16>, count| {
        let wide = denial("0.0.0.0/0", &ports.collect::<Vec<_>>());
        Rows::of(&std::iter::once(wide).chain(inner(count)).collect::<Vec<_>>(), &[])
    };
    for (ports, count, full) in [
        (0..45_000, 45_000, "denied networks"),
        (0..45_000, 4000, "denied ports"),
        (2..2000, 4000, "denied ports"),
    ] {
        let error = rows(ports, count).unwrap_err().to_string();
        assert!(error.contains(&format!("{full} is full (4096)")), "{error}");
    }
    let rows = rows(2..34, 4000).unwrap();
    assert_eq!((rows.networks.len(), rows.ports.len()), (4001, 32 + 33));
}

/// What the kernel makes of rows: the set of the longest prefix that the address has.
fn is_denied(rows: &Rows, source: IpAddr, port: u16) -> bool {
    let bits =
        |words: [u32; 4]| words.iter().fold(0_u128, |all, word| all << 32 | u128::from(u32::from_be(*word)));
    let differ = |ip: &[u32; 4]| bits(*ip) ^ bits(words(source));
    let around =
        rows.networks.iter().filter(|((length, ip), _)| *length == 0 || differ(ip) >> (128 - length) == 0);
    match around.max_by_key(|((length, _), _)| *length).map(|(_, set)| *set) {
        None | Some(ports::NONE) => false,
        Some(ports::ALL) => true,
        Some(set) => rows.ports.contains(&(set, port)),
    }
}

fn networks() -> impl Strategy<Value = IpNet> {
    let around = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "::/80", "::8000:0:0/81"];
    let others = ["::fffe:0:0/95", "::ffff:0:0/96", "::ffff:10.1.0.0/112", "fd00::/8", "fd00::1/128"];
    select([&around[..], &others].concat()).prop_map(|text| text.parse().unwrap())
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    let all =
        ["10.1.2.3", "10.1.9.9", "10.2.0.1", "11.0.0.1", "fd00::1", "fd00::2", "2001:db8::1", "::fffe:1:1"];
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
