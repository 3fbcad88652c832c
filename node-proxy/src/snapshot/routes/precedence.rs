//! Which of two entries counts first where both match (Gateway API v1, `HTTPRouteRule.matches` and `GRPCRouteRule.matches`).
//!
//! Regular expressions are left to the implementation there; here they come after all prefixes, and in a gRPC service or method after
//! all names, the longer one first, but before what takes any. It must never say that two entries of one table are equal.

use std::cmp::{Ordering, Reverse};

use super::{Entry, Matcher, PathMatcher};

/// Of a gRPC call: by service, then by method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RpcRank(pub PartRank, pub PartRank);

/// Of a gRPC service or method, by its characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartRank {
    /// A name.
    Name(Reverse<u32>),
    /// A regular expression.
    Regex(Reverse<u32>),
    /// Whatever it is.
    Any,
}

impl PartRank {
    /// Of a name.
    pub fn name(name: &str) -> Self {
        Self::Name(Reverse(length(name)))
    }

    /// Of a regular expression.
    pub fn regex(pattern: &str) -> Self {
        Self::Regex(Reverse(length(pattern)))
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

impl Entry {
    /// `Less` for the one that counts first.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let conditions = |matcher: &Matcher| {
            (matcher.method.is_none(), Reverse(matcher.headers.len()), Reverse(matcher.query.len()))
        };
        let (one, two) = (&self.matcher, &other.matcher);
        call(one.rpc, two.rpc)
            .unwrap_or_else(|| path(&one.path, &two.path))
            .then_with(|| conditions(one).cmp(&conditions(two)))
            .then_with(|| self.created.cmp(&other.created))
            .then_with(|| self.rule.route.cmp(&other.rule.route))
            .then_with(|| self.position.cmp(&other.position))
    }
}

/// Where either asks for a call; what asks for none takes any.
fn call(one: Option<RpcRank>, other: Option<RpcRank>) -> Option<Ordering> {
    let any = RpcRank(PartRank::Any, PartRank::Any);
    match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(any).cmp(&other.unwrap_or(any))),
    }
}

fn path(one: &PathMatcher, other: &PathMatcher) -> Ordering {
    let class = |path: &PathMatcher| match path {
        PathMatcher::Exact(_) => 0,
        PathMatcher::Prefix(_) => 1,
        PathMatcher::Regex(_) => 2,
    };
    match (one, other) {
        (PathMatcher::Prefix(one), PathMatcher::Prefix(other)) if one != other => {
            other.chars().count().cmp(&one.chars().count())
        }
        _ => class(one).cmp(&class(other)),
    }
}
