//! Which of two entries counts first where both match (Gateway API v1, `HTTPRouteRule.matches`).
//!
//! Regular expressions are left to the implementation there; here they come after all prefixes. It must never say that two
//! entries of one table are equal.

use std::cmp::{Ordering, Reverse};

use super::{Entry, Matcher, PathMatcher};

impl Entry {
    /// `Less` for the one that counts first.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let conditions = |matcher: &Matcher| {
            (matcher.method.is_none(), Reverse(matcher.headers.len()), Reverse(matcher.query.len()))
        };
        let (one, two) = (&self.matcher, &other.matcher);
        path(&one.path, &two.path)
            .then_with(|| conditions(one).cmp(&conditions(two)))
            .then_with(|| self.created.cmp(&other.created))
            .then_with(|| self.rule.route.cmp(&other.rule.route))
            .then_with(|| self.position.cmp(&other.position))
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
