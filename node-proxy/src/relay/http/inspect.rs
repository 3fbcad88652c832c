//! What a request's head says about itself, found in one pass over its fields: whether it may be relayed, and how.
//!
//! Hyper has refused what has no single reading in framing (RFC 9112, 6.3); here is refused what has none in meaning. This file must
//! never change a request.

use config::headers::is_host;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request::Parts};

use super::refusal::Refusal;
use crate::telemetry::Reason;

/// What the pass has found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    /// gRPC, by its content type.
    pub(super) grpc: bool,
    /// The client wants to speak something else on this connection.
    pub(super) upgrade: bool,
    /// The client waits for a 100 before it sends the body.
    pub(super) expects: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
    /// There are fields that concern the client's connection only.
    pub(super) hop_by_hop: bool,
    /// The request's body comes in chunks.
    pub(super) chunked: bool,
}

/// Whether an HTTP/2 head is larger than allowed, by the measure of RFC 9113, 10.5.1. Hyper bounds HTTP/1.1's.
pub(super) fn is_too_large(parts: &Parts, most: usize) -> bool {
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    let uri = parts.uri.path_and_query().map_or(0, |path| path.as_str().len())
        + parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    fields.sum::<usize>() + uri > most
}

/// What a field counts for beside its name and value.
const FIELD: usize = 32;

/// Looks at a request's head.
pub(super) fn request(parts: &Parts) -> Result<Shape, Refusal> {
    let mut shape = Shape::default();
    let mut hosts = 0_u8;
    let mut upgrade = false;
    for (name, value) in &parts.headers {
        match *name {
            header::HOST => {
                hosts = hosts.saturating_add(1);
                check_host(parts, value)?;
            }
            header::CONNECTION => {
                shape.hop_by_hop = true;
                upgrade |= names(value, "upgrade");
            }
            header::UPGRADE => {
                shape.hop_by_hop = true;
                shape.upgrade = !names(value, "h2c");
            }
            header::TE => {
                shape.hop_by_hop = true;
                shape.trailers |= names(value, "trailers");
            }
            header::TRANSFER_ENCODING => {
                if shape.chunked {
                    // The same as a list of two, chunked twice (RFC 9112, 7.1).
                    return Err(Reason::ProtocolError.into());
                }
                shape.hop_by_hop = true;
                shape.chunked = true;
                check_coding(value)?;
            }
            header::EXPECT => shape.expects = value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            header::CONTENT_TYPE => shape.grpc = value.as_bytes().starts_with(b"application/grpc"),
            _ => shape.hop_by_hop |= is_hop_by_hop(name.as_str()),
        }
    }
    shape.upgrade &= upgrade;
    check_authority(parts, hosts)?;
    if parts.method == Method::CONNECT || may_go_no_further(parts) {
        return Err(Refusal::with(Reason::ProtocolError, StatusCode::METHOD_NOT_ALLOWED));
    }
    Ok(shape)
}

/// Whether a TRACE or OPTIONS has come as far as its sender wanted (RFC 9110, 7.6.2).
fn may_go_no_further(parts: &Parts) -> bool {
    matches!(parts.method, Method::TRACE | Method::OPTIONS)
        && parts.headers.get(header::MAX_FORWARDS).is_some_and(|left| left.as_bytes() == b"0")
}

/// Whether a field's value, a comma-separated list, holds a name.
pub(super) fn names(value: &HeaderValue, wanted: &str) -> bool {
    list(value).any(|name| name.eq_ignore_ascii_case(wanted))
}

/// The names in a comma-separated list, without parameters.
pub(super) fn list(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let names = value.to_str().unwrap_or_default().split(',');
    names.map(|name| name.split(';').next().unwrap_or_default().trim())
}

/// Fields without a constant of their own that concern one connection only. `proxy-authorization` and
/// `proxy-authenticate` are not among them: Canopy is not the proxy that a client speaks to with them, that one may be
/// the endpoint.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(name, "keep-alive" | "proxy-connection")
}

/// Exactly one `host` in HTTP/1.1, at most one in HTTP/1.0 (RFC 9112, 3.2); in HTTP/2 an authority, from wherever (RFC 9113, 8.3.1).
fn check_authority(parts: &Parts, hosts: u8) -> Result<(), Refusal> {
    // User information has no place in a request (RFC 9110, 4.2.4; RFC 9113, 8.3.1), and a password none in a log.
    if parts.uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Reason::ProtocolError.into());
    }
    let right = match parts.version {
        Version::HTTP_11 => hosts == 1,
        Version::HTTP_2 => hosts <= 1 && (hosts == 1 || parts.uri.authority().is_some()),
        _ => hosts <= 1,
    };
    if right { Ok(()) } else { Err(Reason::ProtocolError.into()) }
}

/// No host that two readers could read differently; and in HTTP/2 not another one than `:authority`.
fn check_host(parts: &Parts, value: &HeaderValue) -> Result<(), Refusal> {
    let bytes = value.as_bytes();
    if !is_host(bytes) {
        return Err(Reason::ProtocolError.into());
    }
    let differs =
        |authority: &http::uri::Authority| !authority.as_str().as_bytes().eq_ignore_ascii_case(bytes);
    if parts.version == Version::HTTP_2 && parts.uri.authority().is_some_and(differs) {
        return Err(Reason::AmbiguousFraming.into());
    }
    Ok(())
}

/// Chunks are undone and made again on each connection; what else is coded, the endpoint could not undo (RFC 9112, 6.1).
fn check_coding(value: &HeaderValue) -> Result<(), Refusal> {
    if value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    Err(Refusal::with(Reason::ProtocolError, StatusCode::NOT_IMPLEMENTED))
}

/// Whether a response's head has fields that concern the endpoint's connection only.
pub(super) fn response_is_hop_by_hop(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| match *name {
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE | header::TE => true,
        _ => is_hop_by_hop(name.as_str()),
    })
}
