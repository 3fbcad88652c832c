//! What a CONNECT asks for, and whether it may be asked here. Pure.
//!
//! Reads what a proven, but not a trusted, peer sends. It must never let a tunnel lead anywhere but into the pod it came to.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{Method, request::Parts};

use crate::{
    hbone::{
        self,
        authority::{self, Authority},
        fields::Forwarded,
    },
    telemetry::Reason,
};

/// A CONNECT that is for this pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Where in the pod it goes.
    pub destination: SocketAddr,
    /// Where the client is, as the peer's proxy says.
    pub client: Option<SocketAddr>,
}

/// Why a CONNECT leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Another method, or another protocol in the tunnel.
    #[error("it is no plain CONNECT")]
    Method,
    /// No target, or none that can be read.
    #[error("its authority is no address and port")]
    Authority,
    /// Somebody else's address.
    #[error("its authority is not this pod's address")]
    Elsewhere,
    /// The name of something that this pod does not answer for.
    #[error("its authority is a name that this pod does not answer for")]
    Name,
    /// The mesh's own port.
    #[error("its port is the mesh's own")]
    Reserved,
}

impl RequestError {
    /// The reason in log and metrics; the status is made of it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Method | Self::Authority | Self::Elsewhere => Reason::InvalidConnect,
            Self::Name => Reason::UnknownHost,
            Self::Reserved => Reason::ReservedPort,
        }
    }
}

/// The pod that a CONNECT came to.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// Where in it a port of a Service is answered, by the Service's name and namespace.
    pub answer: &'a dyn Fn(&str, &str, u16) -> Option<SocketAddr>,
}

impl fmt::Debug for Here<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Reads a CONNECT. A Service's name (what comes from another network knows no more) leads to where this pod answers for it.
pub fn read(head: &Parts, here: Here<'_>) -> Result<ConnectRequest, RequestError> {
    if head.method != Method::CONNECT || head.extensions.get::<h2::ext::Protocol>().is_some() {
        return Err(RequestError::Method);
    }
    let authority = head.uri.authority().ok_or(RequestError::Authority)?;
    let destination = match Authority::parse(authority.as_str()) {
        Ok(Authority::Address(address)) => address,
        Ok(Authority::Host { name, port }) => {
            let service = authority::service(&name);
            let answer = service.and_then(|(name, namespace)| (here.answer)(name, namespace, port));
            answer.ok_or(RequestError::Name)?
        }
        Err(_) => return Err(RequestError::Authority),
    };
    if !here.addresses.contains(&destination.ip()) {
        return Err(RequestError::Elsewhere);
    }
    if hbone::is_reserved(destination.port()) {
        return Err(RequestError::Reserved);
    }
    Ok(ConnectRequest { destination, client: Forwarded::of(&head.headers).client })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use http::Request;

    use super::*;

    const POD: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7))];

    /// At a pod that answers for ports 80 and 81 of one Service, for the latter where nobody may connect to.
    fn read(head: &Parts) -> Result<ConnectRequest, RequestError> {
        let answer = |name: &str, namespace: &str, port: u16| match (name, namespace, port) {
            ("cart", "shop", 80) => Some((POD[0], 8080).into()),
            ("cart", "shop", 81) => Some((POD[0], 15006).into()),
            _ => None,
        };
        super::read(head, Here { addresses: &POD, answer: &answer })
    }

    fn head(method: Method, target: &str) -> Parts {
        Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_connect_leads_into_its_own_pod_or_nowhere() {
        let table: &[(Method, &str, Result<&str, RequestError>)] = &[
            (Method::CONNECT, "10.0.0.7:8080", Ok("10.0.0.7:8080")),
            (Method::CONNECT, "[fd00::7]:8080", Ok("[fd00::7]:8080")),
            (Method::CONNECT, "[::ffff:10.0.0.7]:8080", Ok("10.0.0.7:8080")),
            (Method::GET, "http://10.0.0.7:8080/", Err(RequestError::Method)),
            (Method::CONNECT, "10.0.0.8:8080", Err(RequestError::Elsewhere)),
            (Method::CONNECT, "127.0.0.1:8080", Err(RequestError::Elsewhere)),
            (Method::CONNECT, "cart.shop.svc.cluster.local:80", Ok("10.0.0.7:8080")),
            (Method::CONNECT, "Cart.Shop.svc:80", Ok("10.0.0.7:8080")),
            (Method::CONNECT, "cart.shop.svc.cluster.local:82", Err(RequestError::Name)),
            (Method::CONNECT, "ledger.bank.svc.cluster.local:80", Err(RequestError::Name)),
            (Method::CONNECT, "cart.shop.svc.cluster.local:81", Err(RequestError::Reserved)),
            (Method::CONNECT, "cart.shop:80", Err(RequestError::Name)),
            (Method::CONNECT, "10.0.0.7", Err(RequestError::Authority)),
            (Method::CONNECT, "10.0.0.7:15008", Err(RequestError::Reserved)),
            (Method::CONNECT, "10.0.0.7:15006", Err(RequestError::Reserved)),
            (Method::CONNECT, "10.0.0.7:15001", Err(RequestError::Reserved)),
        ];
        for (method, target, expected) in table {
            let read = read(&head(method.clone(), target)).map(|request| request.destination);
            assert_eq!(read, expected.map(|address| address.parse().unwrap()), "{method} {target}");
        }
    }

    #[test]
    fn another_protocol_in_the_tunnel_is_refused() {
        let mut head = head(Method::CONNECT, "10.0.0.7:80");
        head.extensions.insert(h2::ext::Protocol::from_static("websocket"));
        assert_eq!(read(&head), Err(RequestError::Method));
    }

    #[test]
    fn the_client_is_where_the_peer_says() {
        let mut head = head(Method::CONNECT, "10.0.0.7:80");
        assert_eq!(read(&head).unwrap().client, None);
        head.headers.insert("forwarded", "for=\"10.0.0.1:99\";host=cart.shop".parse().unwrap());
        assert_eq!(read(&head).unwrap().client, Some("10.0.0.1:99".parse().unwrap()));
    }
}
