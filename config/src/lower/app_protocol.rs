//! What a port says it speaks: `appProtocol`, else the prefix of the port's name, as Istio and Kubernetes have it.

use super::Context;
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::AppProtocol,
};

/// The protocol of a port of a Service or EndpointSlice.
pub(super) fn of_port(context: &mut Context<'_>, port: &Node) -> AppProtocol {
    if let Some(node) = port.get("appProtocol") {
        return from_app_protocol(node.text().unwrap_or_default()).unwrap_or_else(|| {
            let message = format!("{} is not known here: the protocol is detected instead", node.describe());
            context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
            AppProtocol::Undeclared
        });
    }
    from_port_name(port.text_of("name").unwrap_or_default())
}

/// `http-web` says HTTP, `web` says nothing. Names are for people, so an unknown prefix is no mistake.
fn from_port_name(name: &str) -> AppProtocol {
    let whole = if name.starts_with("grpc-web") { "grpc-web" } else { name };
    let prefix = if whole == "grpc-web" { whole } else { whole.split('-').next().unwrap_or_default() };
    from_word(prefix).unwrap_or_default()
}

fn from_app_protocol(text: &str) -> Option<AppProtocol> {
    match text.to_ascii_lowercase().as_str() {
        "kubernetes.io/h2c" => Some(AppProtocol::Http2),
        // A WebSocket starts as an HTTP/1.1 request (RFC 6455, 4.1).
        "kubernetes.io/ws" => Some(AppProtocol::Http1),
        "kubernetes.io/wss" => Some(AppProtocol::Tcp),
        word => from_word(word),
    }
}

fn from_word(word: &str) -> Option<AppProtocol> {
    Some(match word {
        "http" => AppProtocol::Http1,
        "http2" | "h2c" | "grpc" => AppProtocol::Http2,
        // Browsers speak it over either version of HTTP.
        "grpc-web" => AppProtocol::Undeclared,
        // TLS is opaque until Canopy terminates it.
        "tcp" | "tls" | "https" | "wss" => AppProtocol::Tcp,
        "mysql" | "redis" | "mongo" | "mongodb" | "postgres" | "postgresql" | "amqp" | "amqps" | "kafka"
        | "mqtt" | "nats" | "memcache" | "memcached" | "cassandra" | "zookeeper" | "thrift" | "ldap"
        | "ldaps" | "smtp" | "smtps" | "imap" | "imaps" | "pop3" | "pop3s" | "ssh" | "ftp" | "dns" => {
            AppProtocol::Tcp
        }
        _ => return None,
    })
}

/// Ports whose servers speak first. Left undeclared, a client would wait out the detection's deadline there;
/// nobody speaks plain HTTP on them.
pub(super) fn of_well_known(port: u16) -> AppProtocol {
    match port {
        21 | 22 | 25 | 110 | 143 | 3306 => AppProtocol::Tcp,
        _ => AppProtocol::Undeclared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_names_declare_by_prefix() {
        for (name, expected) in [
            ("http", AppProtocol::Http1),
            ("http-web", AppProtocol::Http1),
            ("http2-api", AppProtocol::Http2),
            ("grpc", AppProtocol::Http2),
            ("grpc-web-ui", AppProtocol::Undeclared),
            ("redis-main", AppProtocol::Tcp),
            ("https", AppProtocol::Tcp),
            ("httpx", AppProtocol::Undeclared),
            ("web", AppProtocol::Undeclared),
            ("", AppProtocol::Undeclared),
        ] {
            assert_eq!(from_port_name(name), expected, "{name}");
        }
    }
}
