//! Where a CONNECT wants to go: an address and a port, or a name and a port. Pure.
//!
//! Reads bytes of strangers. What is no address and no host name is refused, never guessed.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The target of a CONNECT (RFC 9110, 9.3.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// A workload's own address and port.
    Address(SocketAddr),
    /// A Service of another network, by its name.
    Host {
        /// In lower case.
        name: String,
        /// Its port.
        port: u16,
    },
}

/// Why a text is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// There must be one, between 1 and 65535.
    #[error("has no port")]
    Port,
    /// Neither an address nor a host name.
    #[error("its host is neither an address nor a name")]
    Host,
}

impl Authority {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::Port)?;
        let port = read_port(port).ok_or(AuthorityError::Port)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address: Option<IpAddr> = match bracketed {
            Some(v6) => Some(IpAddr::V6(v6.parse().map_err(|_| AuthorityError::Host)?)),
            // Without brackets it can be IPv4 only; where another colon is, the port cannot be told from the address.
            None if host.contains(':') => return Err(AuthorityError::Host),
            None => host.parse().ok(),
        };
        match address {
            Some(ip) => Ok(Self::Address(SocketAddr::new(ip.to_canonical(), port))),
            None if is_host(host) => Ok(Self::Host { name: host.to_ascii_lowercase(), port }),
            None => Err(AuthorityError::Host),
        }
    }
}

/// The name and the namespace of the Service that a host name means, whatever the cluster's domain is
/// (`NAME.NAMESPACE.svc`, `NAME.NAMESPACE.svc.cluster.local`).
pub fn service(host: &str) -> Option<(&str, &str)> {
    let mut labels = host.split('.');
    match (labels.next(), labels.next(), labels.next()) {
        (Some(name), Some(namespace), Some("svc")) => Some((name, namespace)),
        _ => None,
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// Digits only: `parse` alone would take a sign.
fn read_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// RFC 1123 subdomain, in either case. What looks like an address of four numbers but is none is no name.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.len() <= 253 && !numeric && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written_alike() {
        for text in ["10.1.2.3:8080", "[fd00::1]:80", "cart.shop.svc.cluster.local:80", "a:1"] {
            assert_eq!(Authority::parse(text).unwrap().to_string(), text);
        }
        let mapped = Authority::parse("[::ffff:10.1.2.3]:80").unwrap();
        assert_eq!(mapped, Authority::Address("10.1.2.3:80".parse().unwrap()));
        assert_eq!(Authority::parse("Cart.Shop:80").unwrap().to_string(), "cart.shop:80");
    }

    #[test]
    fn a_host_name_means_a_service_only_where_it_says_so() {
        for host in ["cart.shop.svc", "cart.shop.svc.cluster.local", "cart.shop.svc.mesh.example"] {
            assert_eq!(service(host), Some(("cart", "shop")), "{host}");
        }
        for host in ["cart", "cart.shop", "shop.example.com", "cart.shop.pod.cluster.local", ""] {
            assert_eq!(service(host), None, "{host}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let table: &[(&str, AuthorityError)] = &[
            ("", AuthorityError::Port),
            ("10.1.2.3", AuthorityError::Port),
            ("10.1.2.3:", AuthorityError::Port),
            ("10.1.2.3:0", AuthorityError::Port),
            ("10.1.2.3:+80", AuthorityError::Port),
            ("10.1.2.3:65536", AuthorityError::Port),
            ("10.1.2.3:80x", AuthorityError::Port),
            (":80", AuthorityError::Host),
            ("fd00::1:80", AuthorityError::Host),
            ("[10.1.2.3]:80", AuthorityError::Host),
            ("[fd00::1:80", AuthorityError::Host),
            ("10.1.2:80", AuthorityError::Host),
            ("10.1.2.300:80", AuthorityError::Host),
            ("-a:80", AuthorityError::Host),
            ("a..b:80", AuthorityError::Host),
            ("user@10.1.2.3:80", AuthorityError::Host),
            ("a b:80", AuthorityError::Host),
        ];
        for (text, error) in table {
            assert_eq!(Authority::parse(text), Err(*error), "{text:?}");
        }
    }
}
