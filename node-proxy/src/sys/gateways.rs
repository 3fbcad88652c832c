//! Where a network namespace's default routes lead, as the kernel tells it in `/proc/thread-self/net`.
//!
//! Of a pod that is its node, on the pod's side: an address from which the kubelet asks, where the network is a bridge. It only ever reads.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The next hops of the calling thread's default routes, in both families; an error if the kernel does not tell them.
pub fn default() -> io::Result<Vec<IpAddr>> {
    let v4 = read("/proc/thread-self/net/route")?;
    let v6 = read("/proc/thread-self/net/ipv6_route")?;
    let mut found: Vec<IpAddr> = v4.lines().filter_map(of_v4).chain(v6.lines().filter_map(of_v6)).collect();
    found.dedup();
    Ok(found)
}

/// A kernel without a family has no such file.
fn read(path: &str) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, each address as the number that its bytes are in memory (net/ipv4/fib_trie.c).
fn of_v4(line: &str) -> Option<IpAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let is_default = number(1)? == 0 && number(7)? == 0;
    let gateway = number(2).filter(|gateway| is_default && *gateway != 0)?;
    Some(Ipv4Addr::from(gateway.to_ne_bytes()).into())
}

/// `destination length source length gateway metric … Iface`, addresses as 32 digits (net/ipv6/route.c).
fn of_v6(line: &str) -> Option<IpAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u128::from_str_radix(fields.get(at)?, 16).ok();
    let is_default = number(0)? == 0 && number(1)? == 0;
    let gateway = number(4).filter(|gateway| is_default && *gateway != 0)?;
    Some(Ipv6Addr::from(gateway).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_those_of_default_routes_and_of_no_other() {
        let v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0140D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth0\t0040D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                  eth0\t0000010A\t0240D50A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let found: Vec<IpAddr> = v4.lines().filter_map(of_v4).collect();
        if cfg!(target_endian = "little") {
            assert_eq!(found, ["10.213.64.1".parse::<IpAddr>().unwrap()]);
        }
        let zeros = "0".repeat(32);
        let v6 = format!(
            "{zeros} 00 {zeros} 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
             fd000000000000000000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 eth0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo\n"
        );
        let found: Vec<IpAddr> = v6.lines().filter_map(of_v6).collect();
        assert_eq!(found, ["fd00::1".parse::<IpAddr>().unwrap()]);
    }
}
