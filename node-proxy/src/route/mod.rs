//! Stage 5: which rule a request meets and where it goes: pure functions over a [`RouteTable`].
//!
//! Gateway API's rules of matching and precedence. This stage must never look at endpoints: that is `balance`.

use std::sync::Arc;

use http::request::Parts;

use crate::snapshot::{
    Cluster, RouteTable,
    routes::{CompiledRule, Edits},
};

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
        status: http::StatusCode,
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
    /// Length of the path prefix that matched, for prefix rewrites; 0 otherwise.
    pub matched_prefix: usize,
}

/// Decides about a request. `chance(n)` gives a number below `n`, evenly.
pub fn decide<'a>(table: &'a RouteTable, _request: &Parts, _chance: impl FnOnce(u32) -> u32) -> Decision<'a> {
    match &table.default {
        Some(cluster) => {
            Decision::Forward(Forward { rule: None, cluster, backend_edits: None, matched_prefix: 0 })
        }
        None => Decision::NoRoute,
    }
}
