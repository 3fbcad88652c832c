//! Any authority of a CONNECT: it leads into the pod it came to, to a port that is not the mesh's own, or nowhere.

use std::net::{IpAddr, SocketAddr};

use node_proxy::{
    accept::hbone::{self, Here},
    hbone::{authority::Authority, is_reserved},
};

use crate::text;

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let text = text(bytes);
    let pod: [IpAddr; 2] = [IpAddr::from([10, 0, 0, 7]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 7])];
    if let Ok(authority) = Authority::parse(text) {
        let written = authority.to_string();
        assert_eq!(
            Authority::parse(&written).as_ref(),
            Ok(&authority),
            "{text:?} was written as {written:?}"
        );
    }
    let Ok(request) = http::Request::builder().method("CONNECT").uri(text).body(()) else { return };
    // A Service's name leads wherever the configuration says.
    let answer = |name: &str, _: &str, port: u16| {
        let addresses = [pod[0], pod[1], IpAddr::from([10, 0, 0, 8])];
        Some(SocketAddr::new(addresses[name.len() % 3], port))
    };
    if let Ok(request) = hbone::read(&request.into_parts().0, Here { addresses: &pod, answer: &answer }) {
        assert!(pod.contains(&request.destination.ip()), "{text:?} leads to {}", request.destination);
        assert!(!is_reserved(request.destination.port()), "{text:?} leads to {}", request.destination);
    }
}
