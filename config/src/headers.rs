//! Which header fields a route's filters may change: one list, for what is said of manifests and for what is compiled of them.
//!
//! It must never allow a field that frames messages: what a connection carries would then be read differently at its two
//! ends (RFC 9112, 11.2).

/// What a filter does to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Replaces it.
    Set,
    /// Says it once more.
    Add,
    /// Takes it away.
    Remove,
}

/// Why a filter may not do this to the field of this name, in lower case, as the end of a sentence that begins with the name.
pub fn forbidden(change: Change, name: &str) -> Option<&'static str> {
    if OF_THE_CONNECTION.contains(&name) {
        return Some("frames the message and cannot be changed: remove this");
    }
    let is_host = name == "host" && change != Change::Set;
    is_host.then_some(
        "is there once in every request, so it can be set, not added or removed: set it, or remove this",
    )
}

/// A name or an address, and a port that may be missing (RFC 3986, 3.2); or nothing, which HTTP allows. What is none could not be
/// said in HTTP/2, and would be lost there.
pub fn is_host(bytes: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte);
    let is_literal = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let port = match bytes {
        [b'[', literal @ ..] => {
            let length = literal.iter().position(|byte| !is_literal(byte)).unwrap_or(literal.len());
            match &literal[length..] {
                [b']', port @ ..] if length > 0 => port,
                _ => return false,
            }
        }
        name => &name[name.iter().position(|byte| !is_name(byte)).unwrap_or(name.len())..],
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// What concerns one connection, or says where a message ends.
const OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in
            ["", "cart.shop", "Cart_1.shop:8080", "10.0.0.1:80", "[fd00::1]", "[::ffff:10.0.0.1]:443", "a:"]
        {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b",
            "cart.sh]op",
            "[",
            "[]",
            "[fd00::1",
            "fd00::1",
            "a:b",
            "a:1:2",
            "a/b",
            "a@b",
            "a%20b",
            "a,b",
            "\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
