//! How long an endpoint's response says it is: whatever it says, the client is told one thing.
//!
//! Hyper has read the body by what counts (RFC 9112, 6.3), but leaves in the head what did not count, and its server would write the body
//! by that. It must never let two lengths on, nor a coding that was not undone.

use http::{HeaderMap, HeaderValue, StatusCode, header, response::Parts};

use crate::telemetry::Reason;

/// Leaves one length in a response's head, or none.
pub(super) fn settle(parts: &mut Parts) -> Result<(), Reason> {
    let headers = &mut parts.headers;
    if is_chunked(headers)? || parts.status == StatusCode::NO_CONTENT {
        // The chunks count, and are made anew for the client; a 204 has no length at all (RFC 9110, 8.6).
        headers.remove(header::CONTENT_LENGTH);
        return Ok(());
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    if lengths.next().is_none() && number(first.as_bytes()).is_some() {
        return Ok(());
    }
    let length = only_length(headers).ok_or(Reason::UpstreamProtocol)?;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

/// Whether the body comes in chunks. Another coding is this connection's, but only the client could undo it, who would not be told.
fn is_chunked(headers: &HeaderMap) -> Result<bool, Reason> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Reason::UpstreamProtocol),
    }
}

/// The same length said several times counts as said once (RFC 9110, 8.6).
fn only_length(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(header::CONTENT_LENGTH).iter();
    let mut lengths = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let first = number(lengths.next()?.trim_ascii())?;
    lengths.all(|length| number(length.trim_ascii()) == Some(first)).then_some(first)
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    digits.parse().ok()
}
