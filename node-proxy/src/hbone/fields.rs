//! The header fields that go with a CONNECT and its answer: `baggage`, `forwarded`, `traceparent`. Pure.
//!
//! They are what the other side claims of itself: nothing here may ever decide about a connection. They inform the log, and
//! a `forwarded` client's port is taken for the client's.

use std::net::SocketAddr;

use http::{HeaderMap, header};

pub use self::{
    baggage::{Baggage, baggage, is_claim},
    said::Said,
    trace::TraceId,
};

mod baggage;
mod said;
mod trace;

/// Bytes of one of these fields that are looked at; a longer one is ignored.
const LONGEST: usize = 8 << 10;

/// What `forwarded` (RFC 7239) says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarded<'a> {
    /// The client's own address.
    pub client: Option<SocketAddr>,
    /// The Service that was called.
    pub host: Option<&'a str>,
}

impl<'a> Forwarded<'a> {
    /// That of a head.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let field = headers.get(header::FORWARDED).and_then(|field| field.to_str().ok());
        field.map(Self::parse).unwrap_or_default()
    }

    /// Reads it. Of several proxies the first, who saw the client, is believed; what is broken is left out.
    pub fn parse(text: &'a str) -> Self {
        let mut forwarded = Self::default();
        if text.len() > LONGEST {
            return forwarded;
        }
        for pair in elements(text) {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "for" if forwarded.client.is_none() => forwarded.client = value.parse().ok(),
                "host" if forwarded.host.is_none() && !value.is_empty() => forwarded.host = Some(value),
                _ => {}
            }
        }
        forwarded
    }
}

/// The pairs of the first element: up to a comma, split at semicolons, neither of them inside quotes.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let end = text.find(|character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    let mut quoted = false;
    text[..end.unwrap_or(text.len())].split(move |character| {
        quoted ^= character == '"';
        character == ';' && !quoted
    })
}

/// `forwarded` for a connection of `client`, to `host` where it called a Service.
pub fn forwarded(client: SocketAddr, host: Option<&str>) -> String {
    match host {
        Some(host) => format!("for=\"{client}\";host={host}"),
        None => format!("for=\"{client}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_is_read_as_other_implementations_write_it() {
        let client: SocketAddr = "10.0.0.1:4000".parse().unwrap();
        let v6: SocketAddr = "[fd00::1]:4000".parse().unwrap();
        let table: &[(&str, Option<SocketAddr>, Option<&str>)] = &[
            ("for=\"10.0.0.1:4000\";host=cart.shop", Some(client), Some("cart.shop")),
            ("For=10.0.0.1:4000;Proto=http", Some(client), None),
            ("for=\"[fd00::1]:4000\"", Some(v6), None),
            ("host=a, for=\"10.0.0.1:4000\"", None, Some("a")),
            ("for=unknown;host=\"a;b,c\"", None, Some("a;b,c")),
            ("for=10.0.0.1", None, None),
            ("\"", None, None),
            ("", None, None),
        ];
        for (text, client, host) in table {
            let expected = Forwarded { client: *client, host: *host };
            assert_eq!(Forwarded::parse(text), expected, "{text}");
        }
        let written = forwarded(v6, Some("cart.shop"));
        assert_eq!(Forwarded::parse(&written), Forwarded { client: Some(v6), host: Some("cart.shop") });
    }
}
