//! Compiled HTTPRoutes or GRPCRoutes of one Service port, filed so that the first that matches is found without looking at all of them.
//!
//! Compiled once (regexes, header names, keys); matching itself is `route::decide`. It must never be
//! able to match without bound: regexes are size-limited and linear.

use std::{sync::Arc, time::Duration};

use config::{model::AppProtocol, name::RouteName};
use http::{HeaderName, HeaderValue, Method};

use super::Cluster;

mod beginning;
mod chunks;
mod index;
mod keys;
mod lengths;
mod precedence;

pub use self::precedence::{PartRank, RpcRank};
pub(crate) use self::{
    chunks::{By, Filed},
    index::Index,
    keys::{Key, Sort},
};

/// The rules of one Service port for one caller.
#[derive(Debug)]
pub struct RouteTable {
    /// The Service port they are for: the listener's port in Gateway API's words.
    pub port: u16,
    /// Where requests go when no route is attached at all; `None` where one is, so that no match is a 404.
    pub default: Option<Arc<Cluster>>,
    /// What a port speaks that declares nothing: what the attached routes are of; nothing where none is attached.
    pub protocol: AppProtocol,
    /// Matches, by what they ask for.
    pub(crate) index: Index,
}

impl RouteTable {
    /// The table of a Service port that no route is attached to.
    pub fn open(cluster: &Arc<Cluster>) -> Self {
        Self {
            port: cluster.port,
            default: Some(Arc::clone(cluster)),
            protocol: AppProtocol::Undeclared,
            index: Index::default(),
        }
    }

    /// The table of a Service port that routes are attached to, which have no matches yet.
    pub fn closed(port: u16) -> Self {
        Self { port, default: None, protocol: AppProtocol::Http1, index: Index::default() }
    }

    /// The same with a change: it costs what changes, and shares the rest.
    #[must_use]
    pub fn changed(&self, change: Change) -> Self {
        Self {
            port: self.port,
            default: self.default.clone(),
            protocol: self.protocol,
            index: self.index.changed(change),
        }
    }

    /// The same for a port that speaks this where it declares nothing.
    #[must_use]
    pub fn speaking(self, protocol: AppProtocol) -> Self {
        Self { protocol, ..self }
    }

    /// All entries in the order in which they count (Gateway API: path, method, headers, query, age, name, position): the
    /// first that matches decides. For whoever looks at a table; a request never needs all of them.
    pub fn entries(&self) -> Vec<&Entry> {
        self.index.entries()
    }
}

/// One match and the rule it leads to. No two of a table are of the same route and position.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What must hold; shared by the tables that the rule stands in.
    pub matcher: Arc<Matcher>,
    /// What is done then; shared likewise.
    pub rule: Arc<CompiledRule>,
    /// When its route was made, in seconds since the epoch; `i64::MAX`, the youngest, where nobody knows.
    pub created: i64,
    /// Which of its route's matches it is.
    pub position: u32,
}

/// What becomes different in a table.
#[derive(Debug, Default)]
pub struct Change {
    /// Entries that are there and go.
    pub gone: Vec<Entry>,
    /// In the places of those of the same route, position and matcher: with another rule.
    pub renewed: Vec<Entry>,
    /// Entries that come.
    pub new: Vec<Entry>,
}

impl Change {
    /// Nothing but what comes.
    pub fn of_new(new: Vec<Entry>) -> Self {
        Self { new, ..Self::default() }
    }
}

/// Compiled conditions.
#[derive(Debug)]
pub struct Matcher {
    /// On the path.
    pub path: PathMatcher,
    /// Where that is on a gRPC call: how it ranks among others. Entries of one table have it, or have no condition on the path, or none
    /// of them has it.
    pub rpc: Option<RpcRank>,
    /// On the method.
    pub method: Option<Method>,
    /// On headers.
    pub headers: Vec<(HeaderName, ValueMatcher)>,
    /// On query parameters.
    pub query: Vec<(String, ValueMatcher)>,
}

/// A compiled condition on the path.
#[derive(Debug)]
pub enum PathMatcher {
    /// Equal.
    Exact(String),
    /// By elements; without trailing slash, empty for `/`.
    Prefix(String),
    /// The whole path.
    Regex(regex::Regex),
}

/// A compiled condition on a value.
#[derive(Debug)]
pub enum ValueMatcher {
    /// Equal.
    Exact(String),
    /// The whole value.
    Regex(regex::Regex),
}

/// A rule, compiled; shared by its matches.
#[derive(Debug)]
pub struct CompiledRule {
    /// The route it belongs to.
    pub route: RouteName,
    /// Its name, or its position in the route.
    pub name: String,
    /// Changes to requests, responses and targets.
    pub edits: Edits,
    /// Answer instead of forwarding.
    pub redirect: Option<config::model::Redirect>,
    /// Copies of requests, whichever backend gets them.
    pub mirrors: Vec<CompiledMirror>,
    /// Shares of requests; cumulative weights, so that a pick is one search.
    pub backends: Vec<CompiledBackend>,
    /// Sum of all weights.
    pub total_weight: u32,
    /// From the request's head to the end of the response.
    pub request_timeout: Option<Duration>,
    /// Of one try.
    pub backend_timeout: Option<Duration>,
}

/// Changes to a request and its response.
#[derive(Debug, Default)]
pub struct Edits {
    /// To the request's headers.
    pub request: Vec<HeaderChange>,
    /// To the response's headers.
    pub response: Vec<HeaderChange>,
    /// To host and path.
    pub rewrite: Option<config::model::Rewrite>,
}

impl Edits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty() && self.rewrite.is_none()
    }
}

/// One change of a header.
#[derive(Debug, Clone)]
pub enum HeaderChange {
    /// Overwrite.
    Set(HeaderName, HeaderValue),
    /// Append.
    Add(HeaderName, HeaderValue),
    /// Delete.
    Remove(HeaderName),
}

/// A share of a rule's requests.
#[derive(Debug)]
pub struct CompiledBackend {
    /// Sum of the weights up to and including this one.
    pub cumulative_weight: u32,
    /// Where; `None` is answered 500.
    pub cluster: Option<Arc<Cluster>>,
    /// Changes of this backend alone.
    pub edits: Edits,
    /// Copies of the requests that it gets.
    pub mirrors: Vec<CompiledMirror>,
}

/// A mirror.
#[derive(Debug)]
pub struct CompiledMirror {
    /// Where.
    pub cluster: Arc<Cluster>,
    /// How many of `denominator`.
    pub numerator: u32,
    /// Never 0.
    pub denominator: u32,
}
