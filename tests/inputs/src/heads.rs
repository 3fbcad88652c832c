//! Any request's head, on its way to an endpoint of either version: refused, or with one meaning: one host, the client's
//! own; nothing that concerns the client's connection alone; and nothing that a second parser would read differently.

use http::{Version, header, request::Parts};
use node_proxy::{accept::Protocol, relay::http::heads::relayed};

use crate::head;

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let Some((how, text)) = bytes.split_first() else { return };
    let (is_http2, to_http2) = (how & 1 != 0, how & 2 != 0);
    let Some(mut parts) = head::read(text, is_http2) else { return };
    // What hyper's own parser does: chunks replace a length.
    let chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
    if chunked {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    let before = (parts.version, host(&parts));
    let to = if to_http2 { Protocol::Http2 } else { Protocol::Http1 };
    if relayed(&mut parts, to, !chunked).is_err() {
        return;
    }
    if before.0 > Version::HTTP_10 {
        assert_eq!(host(&parts), before.1, "the host that was routed by is another one now: {parts:?}");
    }
    assert_hop(&parts, to_http2);
    if !to_http2 {
        assert_reads_the_same(&parts, chunked);
    }
}

/// The host a request says: of its target, or of its field.
fn host(parts: &Parts) -> Option<Vec<u8>> {
    let in_field = parts.headers.get(header::HOST).map(|host| host.as_bytes().to_ascii_lowercase());
    parts
        .uri
        .authority()
        .map(|authority| authority.as_str().to_ascii_lowercase().into_bytes())
        .or(in_field)
        .filter(|host| !host.is_empty())
}

/// Nothing is left of the client's connection.
fn assert_hop(parts: &Parts, to_http2: bool) {
    let all = |name| parts.headers.get_all(name).iter().map(|value| value.as_bytes()).collect::<Vec<_>>();
    for name in ["keep-alive", "proxy-connection"] {
        assert!(all(name).is_empty(), "{parts:?}");
    }
    let (connection, te, upgrade) = (all("connection"), all("te"), all("upgrade"));
    assert!(te.is_empty() || te == [b"trailers"], "{parts:?}");
    if to_http2 {
        let coding = all("transfer-encoding");
        assert!(connection.is_empty() && upgrade.is_empty() && coding.is_empty(), "{parts:?}");
        assert!(all("host").is_empty(), "{parts:?}");
    } else {
        assert!(
            connection.is_empty() || connection == [&b"te"[..]] || connection == [&b"upgrade"[..]],
            "{parts:?}"
        );
        assert!(upgrade.len() <= 1 && (upgrade.is_empty() || connection == [&b"upgrade"[..]]), "{parts:?}");
        assert!(all("host").len() <= 1, "{parts:?}");
    }
}

/// As it is written, a parser takes the same request out of it.
fn assert_reads_the_same(parts: &Parts, chunked: bool) {
    let mut text = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend(b"\r\n");
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut again = httparse::Request::new(&mut fields);
    let length = again.parse(&text).expect("what is sent can be read");
    assert!(length == httparse::Status::Complete(text.len()), "{}", text.escape_ascii());
    assert_eq!(again.headers.len(), parts.headers.len(), "{}", text.escape_ascii());
    assert_eq!(again.path, Some(&*parts.uri.to_string()), "{}", text.escape_ascii());
    let codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter().count();
    assert_eq!(codings, usize::from(chunked), "{}", text.escape_ascii());
    assert!(codings == 0 || !parts.headers.contains_key(header::CONTENT_LENGTH), "{}", text.escape_ascii());
}
