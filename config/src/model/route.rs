//! HTTPRoute and GRPCRoute in the model: matches, filters, backends (Gateway API v1, GAMMA).
//!
//! Matching and precedence are the snapshot's; here is only what was said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{RouteName, ServiceName, TenantId};

/// An accepted HTTPRoute, or GRPCRoute: what a gRPC call is on the wire is an HTTP request. The name says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRoute {
    /// Its namespace, name and kind.
    pub name: RouteName,
    /// Who owns it.
    pub tenant: TenantId,
    /// `creationTimestamp` as seconds since the epoch, when known: the older of two equal matches wins.
    pub created: Option<i64>,
    /// The Services it is attached to; at least one.
    pub parents: Vec<Parent>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A Service that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// The Service.
    pub service: ServiceName,
    /// Only this port of it; all ports if `None`.
    pub port: Option<u16>,
}

/// One rule: any of `matches`, then `filters`, then one of `backends`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The rule's name, for logs and metrics.
    pub name: Option<String>,
    /// Alternatives; empty means every request (path prefix `/`).
    pub matches: Vec<Match>,
    /// What is done to request and response.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight; empty is answered 500 (gRPC: UNAVAILABLE) unless a filter redirects.
    pub backends: Vec<Backend>,
    /// How long a request may take.
    pub timeouts: Timeouts,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// On the path; `None` is prefix `/`.
    pub path: Option<PathMatch>,
    /// On headers; names in lower case, each at most once.
    pub headers: Vec<HeaderMatch>,
    /// On query parameters; each name at most once.
    pub query: Vec<QueryMatch>,
    /// On the method, in upper case.
    pub method: Option<String>,
}

/// A condition on the path (without the query).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// Equal, case sensitive.
    Exact(String),
    /// By whole path elements: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// A regular expression over the whole path. Was compiled once when lowered, so it is valid.
    Regex(String),
    /// The gRPC method that is called.
    Rpc(RpcMatch),
}

/// A condition on the method of a gRPC call, whose path is `/SERVICE/METHOD`; at least one of the two is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RpcMatch {
    /// On the service, with its package; any if `None`.
    pub service: Option<ValueMatch>,
    /// On the method's own name; any if `None`.
    pub method: Option<ValueMatch>,
}

impl RpcMatch {
    /// The condition as a regular expression over the whole path.
    pub fn pattern(&self) -> String {
        let part = |part: &Option<ValueMatch>| match part {
            Some(ValueMatch::Exact(text)) => regex::escape(text),
            Some(ValueMatch::Regex(pattern)) => format!("(?:{pattern})"),
            None => "[^/]+".to_owned(),
        };
        format!("/{}/{}", part(&self.service), part(&self.method))
    }
}

/// A condition on one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueMatch {
    /// Equal, case sensitive.
    Exact(String),
    /// A regular expression over the whole value. Was compiled once when lowered, so it is valid.
    Regex(String),
}

/// A condition on one header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// Header name in lower case.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// A condition on one query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryMatch {
    /// Parameter name, case sensitive.
    pub name: String,
    /// What its (decoded) value must be.
    pub value: ValueMatch,
}

/// What a rule or backend does to a request or response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// `RequestHeaderModifier`
    RequestHeaders(HeaderEdit),
    /// `ResponseHeaderModifier`
    ResponseHeaders(HeaderEdit),
    /// `RequestRedirect`
    Redirect(Redirect),
    /// `URLRewrite`
    Rewrite(Rewrite),
    /// `RequestMirror`
    Mirror(Mirror),
}

/// Header changes: set, then add, then remove. Names and values are valid HTTP (RFC 9110, 5.1 and 5.5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderEdit {
    /// Overwrite.
    pub set: Vec<(String, String)>,
    /// Append.
    pub add: Vec<(String, String)>,
    /// Delete.
    pub remove: Vec<String>,
}

/// Answer with a redirect instead of forwarding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// Scheme of the location; the request's if `None`.
    pub scheme: Option<String>,
    /// Host of the location; the request's if `None`.
    pub hostname: Option<String>,
    /// Port of the location; by the specification's rules if `None`.
    pub port: Option<u16>,
    /// Path of the location; the request's if `None`.
    pub path: Option<PathEdit>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Change where the request says it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// New `host`/`:authority`.
    pub hostname: Option<String>,
    /// New path.
    pub path: Option<PathEdit>,
}

/// How a path is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathEdit {
    /// The whole path.
    Full(String),
    /// The prefix that matched.
    Prefix(String),
}

/// Send a copy of the request elsewhere and ignore the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Where.
    pub target: BackendTarget,
    /// How many of `denominator` requests.
    pub numerator: u32,
    /// Never 0.
    pub denominator: u32,
}

/// Where a share of a rule's requests goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Its share, relative to the sum of all; 0 gets nothing.
    pub weight: u32,
    /// Where.
    pub target: BackendTarget,
    /// Filters of this backend alone.
    pub filters: Vec<Filter>,
}

/// A backend, resolved or known to be unusable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum BackendTarget {
    /// A port of a Service that exists.
    Service {
        /// The Service.
        service: ServiceName,
        /// One of its ports.
        port: u16,
    },
    /// Nothing that can be reached: its share of requests is answered 500 (gRPC: UNAVAILABLE).
    Invalid(InvalidBackend),
}

/// Why a backend cannot be used (Gateway API reasons of `ResolvedRefs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvalidBackend {
    /// No such Service, or no such port.
    BackendNotFound,
    /// Neither core nor a Service.
    InvalidKind,
    /// Across namespaces without permission.
    RefNotPermitted,
    /// It has a filter of a type that nothing here can do.
    FilterNotApplied,
}

/// Time-outs of a rule; `None` is no time-out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// From the request's head to the end of the response.
    pub request: Option<Duration>,
    /// From sending to one backend to the end of its response.
    pub backend_request: Option<Duration>,
}
