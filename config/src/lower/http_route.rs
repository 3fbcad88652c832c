//! HTTPRoute with a Service as parent (Gateway API v1, GAMMA), by Gateway API's own rules of validity; and what a GRPCRoute has alike.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Context, Meta, Place, duration};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{Match, Timeouts},
    name::{Namespace, PortName, RouteKind, RouteName, ServiceName},
};

pub(crate) use self::{
    backends::{BackendDraft, ReferenceDraft, TargetDraft},
    filters::FilterDraft,
};

pub(super) mod backends;
pub(super) mod filters;
mod header_edit;
pub(super) mod matches;

/// A route whose references have not been followed yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RouteDraft {
    pub(crate) name: RouteName,
    pub(crate) created: Option<i64>,
    pub(crate) parents: Vec<ParentDraft>,
    pub(crate) rules: Vec<RuleDraft>,
}

/// A Service that the route wants to attach to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParentDraft {
    pub(crate) service: ServiceName,
    pub(crate) port: Option<u16>,
    /// The name of a port (`sectionName`).
    pub(crate) section: Option<PortName>,
    pub(crate) place: Place,
}

/// A rule whose backends have not been looked up yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleDraft {
    pub(crate) name: Option<String>,
    pub(crate) matches: Vec<Match>,
    pub(crate) filters: Vec<FilterDraft>,
    pub(crate) backends: Vec<BackendDraft>,
    pub(crate) timeouts: Timeouts,
}

// Gateway API v1, HTTPRouteSpec and HTTPRouteRule: maxItems.
const MAX_PARENTS: usize = 32;
pub(super) const MAX_RULES: usize = 16;
pub(super) const MAX_MATCHES: usize = 64;
const MAX_MATCHES_OF_ALL_RULES: usize = 128;
pub(super) const MAX_FILTERS: usize = 16;
pub(super) const MAX_BACKENDS: usize = 16;

/// How a request is answered that has no backend that could be used.
pub(crate) fn failure(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Http => "500",
        RouteKind::Grpc => "UNAVAILABLE",
    }
}

pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<RouteDraft> {
    let spec = root.get("spec")?;
    let name = RouteName::new(RouteKind::Http, meta.namespace?, meta.name);
    let parents = parents(context, spec, &name);
    at_most(context, spec, "rules", MAX_RULES);
    check_matches(context, spec);
    let rules: Vec<RuleDraft> = match spec.get("rules") {
        Some(list) => list.items().iter().filter_map(|node| rule(context, node, &name)).collect(),
        // Gateway API's default: one rule that matches everything and has no backend.
        None => vec![RuleDraft {
            name: None,
            matches: Vec::new(),
            filters: Vec::new(),
            backends: Vec::new(),
            timeouts: Timeouts::default(),
        }],
    };
    unique_names(context, spec);
    Some(RouteDraft { name, created: meta.created, parents, rules })
}

/// Of all rules together.
pub(super) fn check_matches(context: &mut Context<'_>, spec: &Node) {
    let Some(rules) = spec.get("rules") else { return };
    let all: usize = rules.items().iter().map(|rule| rule.items_of("matches").len()).sum();
    if all > MAX_MATCHES_OF_ALL_RULES {
        let message = format!(
            "has {all} matches in all its rules, at most {MAX_MATCHES_OF_ALL_RULES} are allowed: split the route"
        );
        context.invalid(rules, message);
    }
}

/// The Services that a route wants to attach to.
pub(super) fn parents(context: &mut Context<'_>, spec: &Node, route: &RouteName) -> Vec<ParentDraft> {
    at_most(context, spec, "parentRefs", MAX_PARENTS);
    let mut parents: Vec<ParentDraft> = Vec::new();
    for node in spec.items_of("parentRefs") {
        let group = node.text_of("group").unwrap_or("gateway.networking.k8s.io");
        let kind = node.text_of("kind").unwrap_or("Gateway");
        if !(kind == "Service" && matches!(group, "" | "core")) {
            let hint = if kind == "Service" { ": for a Service write group: \"\"" } else { "" };
            let message = format!("a {kind} of group {group:?} is not a parent in the mesh{hint}");
            context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
            continue;
        }
        let Some(parent) = parent(context, node, route) else { continue };
        let is_same = |other: &ParentDraft| {
            (&other.service, other.port, &other.section) == (&parent.service, parent.port, &parent.section)
        };
        if parents.iter().any(is_same) {
            context.reject(node, Reason::Duplicate, "the same parent is there twice: remove one");
            continue;
        }
        parents.push(parent);
    }
    parents
}

fn parent(context: &mut Context<'_>, node: &Node, route: &RouteName) -> Option<ParentDraft> {
    let port = match node.get("port") {
        Some(node) => Some(context.port(node)?),
        None => None,
    };
    let section = match node.get("sectionName") {
        Some(node) => Some(context.name::<PortName>(node)?),
        None => None,
    };
    let service = service_name(context, node, route)?;
    Some(ParentDraft { service, port, section, place: context.place(node.get("name")?) })
}

/// `name` and `namespace` of a reference; the route's own namespace if none is given.
fn service_name(context: &mut Context<'_>, node: &Node, route: &RouteName) -> Option<ServiceName> {
    let name = context.name(node.get("name")?)?;
    Some(ServiceName::new(namespace(context, node, route)?, name))
}

fn namespace(context: &mut Context<'_>, node: &Node, route: &RouteName) -> Option<Namespace> {
    match node.get("namespace") {
        Some(node) => context.name(node),
        None => Some(route.namespace.clone()),
    }
}

fn rule(context: &mut Context<'_>, node: &Node, route: &RouteName) -> Option<RuleDraft> {
    at_most(context, node, "matches", MAX_MATCHES);
    at_most(context, node, "filters", MAX_FILTERS);
    at_most(context, node, "backendRefs", MAX_BACKENDS);
    let matches: Vec<Match> =
        node.items_of("matches").iter().filter_map(|node| matches::lower(context, node)).collect();
    let prefix_only = filters::has_one_prefix_match(node);
    let filters = filters::lower(context, node, route, prefix_only);
    filters::check_redirect_alone(context, node);
    let backends = node
        .items_of("backendRefs")
        .iter()
        .filter_map(|node| backends::lower(context, node, route, prefix_only))
        .collect();
    // Without backends, what the rule matches is answered 500.
    let (filters, backends) = filters.map_or_else(Default::default, |filters| (filters, backends));
    let timeouts = timeouts(context, node);
    let name = node.text_of("name").map(str::to_owned);
    Some(RuleDraft { name, matches, filters, backends, timeouts })
}

fn timeouts(context: &mut Context<'_>, rule: &Node) -> Timeouts {
    let Some(node) = rule.get("timeouts") else { return Timeouts::default() };
    let mut of = |name: &str| {
        let node = node.get(name)?;
        let parsed = duration::parse(node.text().unwrap_or_default());
        if parsed.is_none() {
            context.invalid(
                node,
                format!("must be a duration such as 10s, 500ms or 1m30s, not {}", node.describe()),
            );
        }
        // Zero switches the time-out off (Gateway API, HTTPRouteTimeouts).
        parsed.filter(|duration| !duration.is_zero())
    };
    let (request, backend_request) = (of("request"), of("backendRequest"));
    if let (Some(whole), Some(part), Some(node)) = (request, backend_request, node.get("backendRequest"))
        && part > whole
    {
        context.invalid(node, "must not be longer than the request's time-out");
    }
    Timeouts { request, backend_request }
}

/// Rules that have a name have each their own.
pub(super) fn unique_names(context: &mut Context<'_>, spec: &Node) {
    let mut seen = BTreeSet::new();
    for node in spec.items_of("rules").iter().filter_map(|rule| rule.get("name")) {
        let name = node.text().unwrap_or_default();
        if crate::name::Name::try_from(name).is_err() {
            context.invalid(node, "must be lower case letters, digits, '-' or '.', at most 253");
        } else if !seen.insert(name) {
            context.reject(node, Reason::Duplicate, "another rule of this route has this name: change one");
        }
    }
}

/// A list is no longer than Gateway API lets it be.
pub(super) fn at_most(context: &mut Context<'_>, parent: &Node, field: &str, limit: usize) {
    if let Some(node) = parent.get(field).filter(|node| node.items().len() > limit) {
        let message =
            format!("has {} items, at most {limit} are allowed: split the route", node.items().len());
        context.invalid(node, message);
    }
}
