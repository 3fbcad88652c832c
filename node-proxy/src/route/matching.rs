//! Whether a request meets the conditions of one match (Gateway API v1, `HTTPRouteMatch`).
//!
//! Allocates only for a regex, where a value is spread over several header lines or percent-encoded. It must never look at
//! the host: in a mesh the Service says who is meant (GAMMA).

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Method, header, request::Parts};
use percent_encoding::percent_decode_str;

use crate::snapshot::routes::{Matcher, PathMatcher, ValueMatcher};

/// The first condition that a request does not meet. Borrows: whoever wants to know only whether it meets them all pays nothing
/// for it.
#[derive(Debug, Clone, Copy)]
pub enum Miss<'a> {
    /// It has another method.
    Method(&'a Method),
    /// It has another path.
    Path(&'a PathMatcher),
    /// It has no such header, or one of another value.
    Header(&'a HeaderName, &'a ValueMatcher),
    /// It has no such query parameter, or one of another value.
    Query(&'a str, &'a ValueMatcher),
}

/// How long the path prefix is that matched; 0 for other kinds of path conditions. Or what does not match.
pub fn compare<'a>(matcher: &'a Matcher, request: &Parts) -> Result<usize, Miss<'a>> {
    if let Some(method) = matcher.method.as_ref().filter(|method| **method != request.method) {
        return Err(Miss::Method(method));
    }
    let prefix = path(&matcher.path, request.uri.path()).ok_or(Miss::Path(&matcher.path))?;
    let missed = matcher.headers.iter().find(|(name, value)| !header_matches(name, value, request));
    if let Some((name, value)) = missed {
        return Err(Miss::Header(name, value));
    }
    match query_miss(&matcher.query, request.uri.query().unwrap_or_default()) {
        Some((name, value)) => Err(Miss::Query(name, value)),
        None => Ok(prefix),
    }
}

fn path(matcher: &PathMatcher, path: &str) -> Option<usize> {
    match matcher {
        PathMatcher::Exact(exact) => (path == exact).then_some(0),
        PathMatcher::Regex(regex) => regex.is_match(path).then_some(0),
        PathMatcher::Prefix(prefix) => {
            let rest = path.strip_prefix(prefix.as_str())?;
            let whole = prefix.is_empty() || rest.is_empty() || rest.starts_with('/');
            whole.then_some(prefix.len())
        }
    }
}

fn header_matches(name: &HeaderName, matcher: &ValueMatcher, request: &Parts) -> bool {
    let Some(value) = header_value(name, request) else { return false };
    match matcher {
        ValueMatcher::Exact(exact) => value.eq(exact.bytes()),
        ValueMatcher::Regex(_) => {
            let mut lines = request.headers.get_all(name).iter();
            match (lines.next(), lines.next()) {
                (Some(only), None) => value_matches(matcher, only.as_bytes()),
                _ => value_matches(matcher, &value.collect::<Vec<u8>>()),
            }
        }
    }
}

/// Several lines of one header count as one, joined by commas (RFC 9110, 5.2).
pub(super) fn header_value<'a>(
    name: &HeaderName,
    request: &'a Parts,
) -> Option<impl Iterator<Item = u8> + use<'a>> {
    let lines = request.headers.get_all(name).iter();
    // HTTP/2 has no such header, but says the same in the target.
    let host = || request.uri.authority().filter(|_| *name == header::HOST);
    let target = if request.headers.contains_key(name) { None } else { Some(host()?.as_str()) };
    let line = |(number, value): (usize, &'a HeaderValue)| {
        let comma = (number > 0).then_some(b',');
        comma.into_iter().chain(value.as_bytes().iter().copied())
    };
    Some(target.into_iter().flat_map(str::bytes).chain(lines.enumerate().flat_map(line)))
}

/// The first parameter of a name counts. Name and value are percent-encoded.
pub(super) fn parameter<'a>(name: &str, query: &'a str) -> Option<&'a str> {
    let (_, value) = parameters(query).find(|(key, _)| percent_decode_str(key).eq(name.bytes()))?;
    Some(value)
}

/// Names and values, percent-encoded.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn value_matches(matcher: &ValueMatcher, value: &[u8]) -> bool {
    match matcher {
        ValueMatcher::Exact(exact) => value == exact.as_bytes(),
        ValueMatcher::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
    }
}

fn query_miss<'a>(
    conditions: &'a [(String, ValueMatcher)],
    query: &str,
) -> Option<&'a (String, ValueMatcher)> {
    conditions.iter().find(|(name, matcher)| {
        !parameter(name, query).is_some_and(|value| match matcher {
            ValueMatcher::Exact(exact) => percent_decode_str(value).eq(exact.bytes()),
            ValueMatcher::Regex(_) => {
                let decoded: Cow<'_, [u8]> = percent_decode_str(value).into();
                value_matches(matcher, &decoded)
            }
        })
    })
}
