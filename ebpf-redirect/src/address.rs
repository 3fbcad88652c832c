//! The one form of an address in which addresses are compared. It must never change which address it is.

use std::net::{IpAddr, SocketAddr};

/// The same address, with a v4-mapped one as IPv4: a dual-stack socket shows IPv4 ends as `::ffff:a.b.c.d`. An IPv6 address
/// keeps its scope and flow label.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_v4_mapped_changes() {
        assert_eq!(canonical("[::ffff:10.0.0.1]:80".parse().unwrap()), "10.0.0.1:80".parse().unwrap());
        for text in ["10.0.0.1:80", "[fd00::1]:80", "[fe80::1%3]:80"] {
            let address = text.parse().unwrap();
            assert_eq!(canonical(address), address);
        }
    }
}
