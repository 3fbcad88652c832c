//! Match conditions to matchers.
//!
//! Must never make a matcher that needs more than linear time or unbounded memory: regexes are limited in size, and one that
//! cannot be compiled takes its whole match with it (it matches nothing, rather than everything).

use config::model::{Match, PathMatch, RpcMatch, Rule, ValueMatch};
use http::{HeaderName, Method};
use regex::{Regex, RegexBuilder};

use crate::snapshot::routes::{Matcher, PartRank, PathMatcher, RpcRank, ValueMatcher};

/// Bytes that one compiled regex may take, and again its lazily built automaton, per thread that runs it. `\w` alone, with
/// all of Unicode, takes some 30 KiB.
const REGEX_BYTES: usize = 256 * 1024;

/// The matchers of a rule, in its order. No matches at all means every request.
pub(super) fn compile(rule: &Rule) -> Vec<Matcher> {
    if rule.matches.is_empty() {
        return compile_one(&Match::default()).into_iter().collect();
    }
    rule.matches.iter().filter_map(compile_one).collect()
}

fn compile_one(from: &Match) -> Option<Matcher> {
    let path = compile_path(from.path.as_ref())?;
    let method = match &from.method {
        Some(method) => Some(Method::from_bytes(method.as_bytes()).ok()?),
        None => None,
    };
    let header = |header: &config::model::HeaderMatch| {
        Some((HeaderName::from_bytes(header.name.as_bytes()).ok()?, compile_value(&header.value)?))
    };
    let query = |query: &config::model::QueryMatch| Some((query.name.clone(), compile_value(&query.value)?));
    let headers = from.headers.iter().map(header).collect::<Option<Vec<_>>>()?;
    let query = from.query.iter().map(query).collect::<Option<Vec<_>>>()?;
    let rpc = match &from.path {
        Some(PathMatch::Rpc(rpc)) => Some(RpcRank(part(rpc.service.as_ref()), part(rpc.method.as_ref()))),
        _ => None,
    };
    Some(Matcher { path, rpc, method, headers, query })
}

/// How a condition on a gRPC service or method ranks.
fn part(part: Option<&ValueMatch>) -> PartRank {
    match part {
        Some(ValueMatch::Exact(name)) => PartRank::name(name),
        Some(ValueMatch::Regex(pattern)) => PartRank::regex(pattern),
        None => PartRank::Any,
    }
}

fn compile_path(path: Option<&PathMatch>) -> Option<PathMatcher> {
    Some(match path {
        None => PathMatcher::Prefix(String::new()),
        Some(PathMatch::Exact(path)) => PathMatcher::Exact(path.clone()),
        // `/a/` and `/a` are the same prefix, of the same length.
        Some(PathMatch::Prefix(prefix)) => PathMatcher::Prefix(prefix.trim_end_matches('/').to_owned()),
        Some(PathMatch::Regex(pattern)) => PathMatcher::Regex(anchored(pattern)?),
        Some(PathMatch::Rpc(rpc)) => compile_rpc(rpc)?,
    })
}

/// The path of a call is its service and its method, so names alone are a path or its first element.
fn compile_rpc(rpc: &RpcMatch) -> Option<PathMatcher> {
    match (&rpc.service, &rpc.method) {
        (Some(ValueMatch::Exact(service)), Some(ValueMatch::Exact(method))) => {
            Some(PathMatcher::Exact(format!("/{service}/{method}")))
        }
        (Some(ValueMatch::Exact(service)), None) => Some(PathMatcher::Prefix(format!("/{service}"))),
        (service, method) => {
            // Each by itself, for the reason that `anchored` has.
            for part in [service, method].into_iter().flatten() {
                compile_value(part)?;
            }
            Some(PathMatcher::Regex(anchored(&rpc.pattern())?))
        }
    }
}

fn compile_value(value: &ValueMatch) -> Option<ValueMatcher> {
    Some(match value {
        ValueMatch::Exact(text) => ValueMatcher::Exact(text.clone()),
        ValueMatch::Regex(pattern) => ValueMatcher::Regex(anchored(pattern)?),
    })
}

/// A regex that has to match from end to end.
fn anchored(pattern: &str) -> Option<Regex> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern).size_limit(REGEX_BYTES).dfa_size_limit(REGEX_BYTES).build().ok()
    };
    // By itself first: `a)|(b` is no regex, but would be one between the brackets below, and an unanchored one.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}
