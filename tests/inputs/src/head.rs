//! A request's head from any bytes, as an HTTP parser would hand it on. Not a target of its own.

use http::{Request, Uri, Version, request::Parts};

/// What HTTP/1's parser takes, or, marked as HTTP/2, what that version's could be made of the same fields.
pub(crate) fn read(text: &[u8], is_http2: bool) -> Option<Parts> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    if !request.parse(text).ok()?.is_complete() {
        return None;
    }
    let mut head = Request::builder().method(request.method?).uri(request.path?);
    for field in request.headers.iter() {
        let hidden = is_http2 && CONNECTIONS.iter().any(|name| name.eq_ignore_ascii_case(field.name));
        if !hidden {
            head = head.header(field.name, field.value);
        }
    }
    let mut parts = head.body(()).ok()?.into_parts().0;
    parts.version = match (is_http2, request.version?) {
        (true, _) => Version::HTTP_2,
        (false, 0) => Version::HTTP_10,
        (false, _) => Version::HTTP_11,
    };
    if is_http2 && parts.uri.authority().is_none() {
        let target = format!("http://cart.shop{}", parts.uri.path_and_query()?);
        parts.uri = target.parse::<Uri>().ok()?;
    }
    Some(parts)
}

/// Fields that HTTP/2's parser refuses.
const CONNECTIONS: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
