//! Whether a request meets the conditions of one match (Gateway API v1, `HTTPRouteMatch`).
//!
//! Allocates only where a value is spread over several header lines or percent-encoded under a regex. It must never look at
//! the host: in a mesh the Service says who is meant (GAMMA).

use std::borrow::Cow;

use http::{HeaderName, header, request::Parts};
use percent_encoding::percent_decode_str;

use crate::snapshot::routes::{Matcher, PathMatcher, ValueMatcher};

/// How long the path prefix is that matched; 0 for other kinds of path conditions. `None` where anything does not match.
pub(super) fn matches(matcher: &Matcher, request: &Parts) -> Option<usize> {
    if matcher.method.as_ref().is_some_and(|method| *method != request.method) {
        return None;
    }
    let prefix = path(&matcher.path, request.uri.path())?;
    let headers = matcher.headers.iter().all(|(name, value)| header_matches(name, value, request));
    let matches = headers && query_matches(&matcher.query, request.uri.query().unwrap_or_default());
    matches.then_some(prefix)
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

/// Several lines of one header count as one, joined by commas (RFC 9110, 5.2).
fn header_matches(name: &HeaderName, matcher: &ValueMatcher, request: &Parts) -> bool {
    let mut values = request.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        // HTTP/2 has no such header, but says the same in the target.
        (None, _) if name == header::HOST => {
            request.uri.authority().is_some_and(|host| value_matches(matcher, host.as_str().as_bytes()))
        }
        (None, _) => false,
        (Some(only), None) => value_matches(matcher, only.as_bytes()),
        (Some(first), Some(second)) => {
            let mut joined = first.as_bytes().to_vec();
            for value in std::iter::once(second).chain(values) {
                joined.push(b',');
                joined.extend_from_slice(value.as_bytes());
            }
            value_matches(matcher, &joined)
        }
    }
}

fn value_matches(matcher: &ValueMatcher, value: &[u8]) -> bool {
    match matcher {
        ValueMatcher::Exact(exact) => value == exact.as_bytes(),
        ValueMatcher::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
    }
}

fn query_matches(conditions: &[(String, ValueMatcher)], query: &str) -> bool {
    conditions.iter().all(|(name, matcher)| {
        let first = parameters(query).find(|(key, _)| percent_decode_str(key).eq(name.bytes()));
        first.is_some_and(|(_, value)| match matcher {
            ValueMatcher::Exact(exact) => percent_decode_str(value).eq(exact.bytes()),
            ValueMatcher::Regex(_) => {
                let decoded: Cow<'_, [u8]> = percent_decode_str(value).into();
                value_matches(matcher, &decoded)
            }
        })
    })
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}
