//! Heads from one connection's terms into another's: fields that concern one connection go (RFC 9110, 7.6.1), and the
//! target is written as the other protocol version writes it.
//!
//! It must never add a field that tells of the proxy, nor touch one that is the ends' own.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request, response,
    uri::{PathAndQuery, Scheme},
};

use super::{
    framing,
    inspect::{self, Shape},
};
use crate::{accept::Protocol, telemetry::Reason};

/// Takes from a client's request what concerns its connection, before a route says what goes on: a client must not be able to take
/// that away by naming it in `connection`. What it wants to upgrade to, if anything.
pub(super) fn leave_connection(parts: &mut request::Parts, shape: &Shape) -> Option<HeaderValue> {
    if !shape.hop_by_hop {
        return None;
    }
    let upgrade = if shape.upgrade { parts.headers.remove(header::UPGRADE) } else { None };
    strip(&mut parts.headers);
    upgrade
}

/// Makes a client's request, which has [left its connection](leave_connection), one for the endpoint's. `sized` where the body has a
/// length, or is none.
pub(super) fn request(
    parts: &mut request::Parts,
    shape: &Shape,
    to: Protocol,
    upgrade: Option<HeaderValue>,
    sized: bool,
) {
    if shape.trailers {
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    count_hop(parts);
    match to {
        Protocol::Http2 => to_http2(parts),
        Protocol::Http1 | Protocol::Tcp | Protocol::Hbone => to_http1(parts, shape, upgrade, sized),
    }
}

/// Names the destination in a request whose HTTP/1.0 client did not: it goes on as HTTP/1.1, which must.
pub(super) fn name_host(parts: &mut request::Parts, destination: SocketAddr) {
    if parts.version < Version::HTTP_11
        && parts.uri.authority().is_none()
        && !parts.headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(&destination.to_string())
    {
        parts.headers.insert(header::HOST, host);
    }
}

/// Writes the target as it is said to an origin server (RFC 9112, 3.2.1), its authority in `host`. Not for what is outside the
/// mesh: that may be a proxy that the client was told to use, and needs the whole.
pub(super) fn to_origin_form(parts: &mut request::Parts) {
    if parts.version == Version::HTTP_2 {
        return;
    }
    let Some(authority) = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()))
    else {
        return;
    };
    if let Ok(authority) = authority {
        parts.headers.insert(header::HOST, authority);
    }
    parts.uri = origin_form(&parts.uri);
}

/// Path and query alone. A target that has neither, as one of nothing but a fragment, is said as `/`.
fn origin_form(target: &Uri) -> Uri {
    let path = target.path_and_query().cloned().map(Uri::from);
    path.filter(|uri| !uri.path().is_empty()).unwrap_or_else(|| Uri::from_static("/"))
}

/// One hop less for TRACE and OPTIONS that count them (RFC 9110, 7.6.2).
fn count_hop(parts: &mut request::Parts) {
    if !matches!(parts.method, Method::TRACE | Method::OPTIONS) {
        return;
    }
    let left =
        parts.headers.get(header::MAX_FORWARDS).and_then(|left| left.to_str().ok()?.parse::<u32>().ok());
    if let Some(left) = left {
        parts.headers.insert(header::MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

/// Makes an endpoint's response one for the client's connection; or says why it is none.
pub(super) fn response(parts: &mut response::Parts, client: Protocol) -> Result<(), Reason> {
    framing::settle(parts)?;
    if inspect::response_is_hop_by_hop(&parts.headers) {
        let upgrade = if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            parts.headers.remove(header::UPGRADE)
        } else {
            None
        };
        strip(&mut parts.headers);
        if let Some(upgrade) = upgrade {
            parts.headers.insert(header::UPGRADE, upgrade);
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }
    let from = std::mem::replace(&mut parts.version, Version::HTTP_11);
    if from == Version::HTTP_2 && client != Protocol::Http2 && is_grpc(&parts.headers) {
        // HTTP/1.1 writes only trailers that were announced, HTTP/2 announces none; gRPC's are known.
        parts.headers.insert(header::TRAILER, HeaderValue::from_static(GRPC_TRAILERS));
    }
    Ok(())
}

fn to_http1(parts: &mut request::Parts, shape: &Shape, upgrade: Option<HeaderValue>, sized: bool) {
    if parts.version == Version::HTTP_2 {
        let authority = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
        if let Some(Ok(authority)) = authority {
            parts.headers.insert(header::HOST, authority);
        }
        parts.uri = origin_form(&parts.uri);
        join_cookies(&mut parts.headers);
    } else if let Some(authority) = parts.uri.authority() {
        // Absolute form: its authority counts, whatever `host` says (RFC 9112, 3.2.2).
        if let Ok(authority) = HeaderValue::from_str(authority.as_str()) {
            parts.headers.insert(header::HOST, authority);
        }
    }
    parts.version = Version::HTTP_11;
    if !sized {
        // Said explicitly, or hyper would take a GET for one without a body.
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(upgrade) = upgrade {
        parts.headers.insert(header::UPGRADE, upgrade);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else if shape.trailers {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

fn to_http2(parts: &mut request::Parts) {
    let host = parts.headers.remove(header::HOST);
    let mut target = std::mem::take(&mut parts.uri).into_parts();
    if target.authority.is_none() {
        target.authority = host.and_then(|host| host.to_str().ok().and_then(|host| host.parse().ok()));
    }
    if target.path_and_query.is_none() {
        target.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    // Without an authority (an HTTP/1.0 client) there is no scheme either: hyper then sends `:path` alone.
    target.scheme = target.authority.as_ref().map(|_| target.scheme.unwrap_or(Scheme::HTTP));
    parts.uri = Uri::from_parts(target).unwrap_or_default();
    parts.version = Version::HTTP_2;
}

/// HTTP/2 may split `cookie` into several fields, HTTP/1.1 may not (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Takes away what concerns one connection, and what that connection's peer has named as such.
fn strip(headers: &mut HeaderMap) {
    for value in headers.get_all(header::CONNECTION).iter().cloned().collect::<Vec<_>>() {
        for name in inspect::list(&value).filter(|name| !is_ends_own(name)) {
            headers.remove(name);
        }
    }
    for name in [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
}

/// A client must not be able to take these away by naming them in `connection`: the endpoint would read another
/// request than the one that was routed.
fn is_ends_own(name: &str) -> bool {
    ["host", "content-length", "authorization", "cookie", "content-type"]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const GRPC_TRAILERS: &str = "grpc-status, grpc-message, grpc-status-details-bin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_never_written_as_nothing() {
        for (target, written) in [
            ("http://cart.shop/a?b=1", "/a?b=1"),
            ("http://cart.shop?b=1", "/?b=1"),
            ("http://cart.shop", "/"),
            ("http://cart.shop#a", "/"),
            ("http://cart.shop/#a", "/"),
            ("/a//b", "/a//b"),
            ("*", "*"),
        ] {
            let request = http::Request::builder().uri(target).version(Version::HTTP_2).body(()).unwrap();
            let mut parts = request.into_parts().0;
            super::request(&mut parts, &Shape::default(), Protocol::Http1, None, true);
            assert_eq!(parts.uri.to_string(), written, "{target}");
        }
    }
}
