//! Conditions of routes in words, and why a request does not meet one. Decides nothing.

use http::{HeaderName, header, request::Parts};

use super::short;
use crate::{
    route::Miss,
    snapshot::routes::{Matcher, PathMatcher, ValueMatcher},
};

/// What a match asks for.
pub(super) fn describe(matcher: &Matcher) -> String {
    let mut conditions = Vec::new();
    if let Some(method) = &matcher.method {
        conditions.push(format!("method {method}"));
    }
    if !matches!(&matcher.path, PathMatcher::Prefix(prefix) if prefix.is_empty()) {
        conditions.push(if matcher.rpc.is_some() { call(&matcher.path) } else { path(&matcher.path) });
    }
    conditions.extend(matcher.headers.iter().map(|(name, value)| format!("header {name} {}", wanted(value))));
    conditions
        .extend(matcher.query.iter().map(|(name, value)| format!("query {} {}", short(name), wanted(value))));
    if conditions.is_empty() { "it takes every request".to_owned() } else { conditions.join(", ") }
}

/// What it is that a request does not meet of a match.
pub(super) fn missed(miss: Miss<'_>, of: &Matcher, request: &Parts) -> String {
    match miss {
        Miss::Path(wanted) if of.rpc.is_some() => {
            format!("{} is asked for, {} it is", call(wanted), short(request.uri.path()))
        }
        Miss::Method(method) => format!("method {method} is asked for, {} it is", request.method),
        Miss::Path(wanted) => format!("{} is asked for, {} it is", path(wanted), short(request.uri.path())),
        Miss::Header(name, value) => {
            format!("header {name} {} is asked for, {}", wanted(value), header(name, request))
        }
        Miss::Query(name, value) => {
            let query = request.uri.query().map_or_else(|| "none".to_owned(), short);
            format!("query {} {} is asked for, the query is {query}", short(name), wanted(value))
        }
    }
}

fn header(name: &HeaderName, request: &Parts) -> String {
    let values: Vec<String> = request
        .headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    match values.len() {
        0 if *name == header::HOST => "there is no host".to_owned(),
        0 => "it is not there".to_owned(),
        _ => format!("{} it is", short(&values.join(","))),
    }
}

fn path(path: &PathMatcher) -> String {
    match path {
        PathMatcher::Exact(path) => format!("path {}", short(path)),
        PathMatcher::Prefix(prefix) if prefix.is_empty() => "any path".to_owned(),
        PathMatcher::Prefix(prefix) => format!("path prefix {}", short(prefix)),
        PathMatcher::Regex(regex) => format!("path like {}", expression(regex)),
    }
}

/// A condition on a call of gRPC, as it was made into one on a path.
fn call(path: &PathMatcher) -> String {
    match path {
        PathMatcher::Exact(path) => match path.trim_start_matches('/').split_once('/') {
            Some((service, method)) => format!("method {} of gRPC service {}", short(method), short(service)),
            None => format!("gRPC service {}", short(path)),
        },
        PathMatcher::Prefix(prefix) => format!("gRPC service {}", short(prefix.trim_start_matches('/'))),
        PathMatcher::Regex(regex) => format!("gRPC call like {}", expression(regex)),
    }
}

fn wanted(value: &ValueMatcher) -> String {
    match value {
        ValueMatcher::Exact(text) => format!("= {}", short(text)),
        ValueMatcher::Regex(regex) => format!("like {}", expression(regex)),
    }
}

/// As it is written in the route, without what holds it to the whole value.
fn expression(regex: &regex::Regex) -> String {
    let text = regex.as_str();
    short(text.strip_prefix(r"\A(?:").and_then(|text| text.strip_suffix(r")\z")).unwrap_or(text))
}
