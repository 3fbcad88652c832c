//! Addresses between the hooks' form and the standard library's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ebpf_redirect_abi::Endpoint;

/// The hooks' form of an address.
pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { ip: words(address.ip()), port: u32::from(address.port()) }
}

/// The standard library's form; v4-mapped becomes IPv4.
pub(crate) fn socket_addr(endpoint: &Endpoint) -> SocketAddr {
    let mut octets = [0; 16];
    for (octets, word) in octets.chunks_exact_mut(4).zip(endpoint.ip) {
        octets.copy_from_slice(&word.to_ne_bytes());
    }
    SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), endpoint.port as u16)
}

/// Four words in network byte order; IPv4 becomes v4-mapped.
pub(crate) fn words(ip: IpAddr) -> [u32; 4] {
    let octets = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
    .octets();
    let mut words = [0; 4];
    for (word, octets) in words.iter_mut().zip(octets.chunks_exact(4)) {
        *word = u32::from_ne_bytes([octets[0], octets[1], octets[2], octets[3]]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{endpoint, socket_addr};

    #[test]
    fn addresses_survive_the_way_to_the_hooks_and_back() {
        for text in ["10.1.2.3:80", "[fd00::1:2]:443", "[::1]:1", "127.0.0.1:65535"] {
            let address = text.parse().unwrap();
            assert_eq!(socket_addr(&endpoint(address)), address);
        }
    }

    #[test]
    fn an_ipv4_address_is_v4_mapped_for_the_hooks() {
        let endpoint = endpoint("127.0.0.1:80".parse().unwrap());
        assert!(endpoint.is_v4() && endpoint.is_local());
        assert_eq!(socket_addr(&endpoint), "127.0.0.1:80".parse().unwrap());
    }
}
