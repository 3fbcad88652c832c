//! Stage 5: which rule a request meets and where it goes: pure functions over a [`RouteTable`].
//!
//! Gateway API's rules of matching and precedence. This stage must never look at endpoints: that is `balance`.

use std::sync::Arc;

use http::{StatusCode, request::Parts};

use crate::snapshot::{
    Cluster, RouteTable,
    routes::{CompiledBackend, CompiledMirror, CompiledRule, Edits, Entry},
};

pub use self::matching::{Miss, compare};

pub mod edits;
mod matching;
mod paths;
mod redirect;
mod search;

/// What is to be done with a request.
#[derive(Debug)]
pub enum Decision<'a> {
    /// Send it on.
    Forward(Forward<'a>),
    /// Answer it with this redirect.
    Redirect {
        /// The rule that says so.
        rule: &'a Arc<CompiledRule>,
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
        /// The `location` header.
        location: http::HeaderValue,
    },
    /// Routes are attached, none matches.
    NoRoute,
    /// The rule's backend cannot be used.
    InvalidBackend {
        /// The rule.
        rule: &'a Arc<CompiledRule>,
    },
}

/// Where a request goes and what is changed on the way.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The rule; `None` where no route is attached.
    pub rule: Option<&'a Arc<CompiledRule>>,
    /// Who may answer.
    pub cluster: &'a Arc<Cluster>,
    /// Changes of the chosen backend alone, after the rule's.
    pub backend_edits: Option<&'a Edits>,
    /// Mirrors of the chosen backend alone, besides the rule's.
    pub backend_mirrors: &'a [CompiledMirror],
    /// Length of the path prefix that matched, for prefix rewrites; 0 otherwise.
    pub matched_prefix: usize,
}

/// Decides about a request. `chance(n)` gives a number below `n`, evenly; it is asked only where a choice is to be made.
pub fn decide<'a>(table: &'a RouteTable, request: &Parts, chance: impl FnOnce(u32) -> u32) -> Decision<'a> {
    if let Some(cluster) = &table.default {
        let forward =
            Forward { rule: None, cluster, backend_edits: None, backend_mirrors: &[], matched_prefix: 0 };
        return Decision::Forward(forward);
    }
    let Some(First { entry, matched_prefix }) = first(table, request) else {
        return Decision::NoRoute;
    };
    let rule = &entry.rule;
    if let Some(redirect) = &rule.redirect {
        let status = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
        return match redirect::location(redirect, request, matched_prefix, table.port) {
            Some(location) => Decision::Redirect { rule, status, location },
            None => Decision::InvalidBackend { rule },
        };
    }
    match backend(rule, chance).and_then(|backend| Some((backend, backend.cluster.as_ref()?))) {
        Some((backend, cluster)) => Decision::Forward(Forward {
            rule: Some(rule),
            cluster,
            backend_edits: (!backend.edits.is_empty()).then_some(&backend.edits),
            backend_mirrors: &backend.mirrors,
            matched_prefix,
        }),
        None => Decision::InvalidBackend { rule },
    }
}

/// The first of a table's matches that a request meets.
#[derive(Debug, Clone, Copy)]
pub struct First<'a> {
    /// The match and its rule.
    pub entry: &'a Entry,
    /// As in [`Forward`].
    pub matched_prefix: usize,
}

/// The first of a table's matches that a request meets, if it meets any.
pub fn first<'a>(table: &'a RouteTable, request: &Parts) -> Option<First<'a>> {
    let found = search::first(&table.index, request, |matcher| compare(matcher, request).ok())?;
    Some(First { entry: found.entry, matched_prefix: found.prefix })
}

/// The mirrors that get a copy of this request. `chance` as in [`decide`].
pub fn mirrors<'a>(
    forward: &Forward<'a>,
    mut chance: impl FnMut(u32) -> u32,
) -> impl Iterator<Item = &'a CompiledMirror> {
    let of_rule = forward.rule.map_or(&[][..], |rule| &rule.mirrors);
    of_rule.iter().chain(forward.backend_mirrors).filter(move |mirror| {
        mirror.numerator >= mirror.denominator || chance(mirror.denominator) < mirror.numerator
    })
}

/// A backend, by weight; `None` where the weights leave nothing to choose.
fn backend(rule: &CompiledRule, chance: impl FnOnce(u32) -> u32) -> Option<&CompiledBackend> {
    if let [only] = rule.backends.as_slice() {
        return (rule.total_weight > 0).then_some(only);
    }
    if rule.total_weight == 0 {
        return None;
    }
    let ticket = chance(rule.total_weight);
    let position = rule.backends.partition_point(|backend| backend.cumulative_weight <= ticket);
    rule.backends.get(position)
}

#[cfg(test)]
mod tests;
