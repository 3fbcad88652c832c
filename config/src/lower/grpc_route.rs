//! GRPCRoute with a Service as parent (Gateway API v1, GAMMA), by Gateway API's own rules of validity.
//!
//! What it has as an HTTPRoute has it (parents, filters, backends, headers) is lowered there. Must never make a match of more calls
//! than its words say.

use super::{
    Context, Meta,
    http_route::{self, RouteDraft, RuleDraft, backends, filters, matches},
};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{Match, PathMatch, RpcMatch, Timeouts, ValueMatch},
    name::{RouteKind, RouteName},
};

// Gateway API v1, GRPCMethodMatch. The other limits are those of HTTPRoute.
const MAX_NAME: usize = 1024;

pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<RouteDraft> {
    let spec = root.get("spec")?;
    let name = RouteName::new(RouteKind::Grpc, meta.namespace?, meta.name);
    let parents = http_route::parents(context, spec, &name);
    http_route::at_most(context, spec, "rules", http_route::MAX_RULES);
    http_route::check_matches(context, spec);
    let rules: Vec<RuleDraft> =
        spec.items_of("rules").iter().filter_map(|node| rule(context, node, &name)).collect();
    if spec.items_of("rules").is_empty() {
        let message = "no rule is there to match any call, so all are answered UNIMPLEMENTED: add spec.rules";
        context.note(Severity::Warning, Reason::MissingField, spec, message);
    }
    http_route::unique_names(context, spec);
    Some(RouteDraft { name, created: meta.created, parents, rules })
}

fn rule(context: &mut Context<'_>, node: &Node, route: &RouteName) -> Option<RuleDraft> {
    http_route::at_most(context, node, "matches", http_route::MAX_MATCHES);
    http_route::at_most(context, node, "filters", http_route::MAX_FILTERS);
    http_route::at_most(context, node, "backendRefs", http_route::MAX_BACKENDS);
    let matches: Vec<Match> =
        node.items_of("matches").iter().filter_map(|node| one_match(context, node)).collect();
    let filters = filters::lower(context, node, route, false);
    let backends = node
        .items_of("backendRefs")
        .iter()
        .filter_map(|node| backends::lower(context, node, route, false))
        .collect();
    // Without backends, what the rule matches is answered UNAVAILABLE.
    let (filters, backends) = filters.map_or_else(Default::default, |filters| (filters, backends));
    let name = node.text_of("name").map(str::to_owned);
    Some(RuleDraft { name, matches, filters, backends, timeouts: Timeouts::default() })
}

/// One alternative; `None` (with findings) if its method is invalid.
fn one_match(context: &mut Context<'_>, node: &Node) -> Option<Match> {
    let path = match node.get("method") {
        Some(node) => Some(PathMatch::Rpc(method(context, node)?)),
        None => None,
    };
    http_route::at_most(context, node, "headers", matches::MAX_CONDITIONS);
    Some(Match { path, headers: matches::headers(context, node), ..Match::default() })
}

fn method(context: &mut Context<'_>, node: &Node) -> Option<RpcMatch> {
    let part = match node.text_of("type").unwrap_or("Exact") {
        "Exact" => exact,
        "RegularExpression" => pattern,
        _ => {
            let node = node.get("type").unwrap_or(node);
            context.invalid(node, format!("must be Exact or RegularExpression, not {}", node.describe()));
            return None;
        }
    };
    let (service, method) = (part(context, node, "service"), part(context, node, "method"));
    let rpc = RpcMatch { service: service?, method: method? };
    if rpc.service.is_none() && rpc.method.is_none() {
        let message =
            "names neither service nor method: name one of them, or remove this to match every call";
        context.invalid(node, message);
        return None;
    }
    // Of the two together, too.
    matches::regex(context, node, &rpc.pattern())?;
    Some(rpc)
}

/// A name as it is on the wire. `Some(None)`: any will do.
fn exact(context: &mut Context<'_>, parent: &Node, field: &'static str) -> Option<Option<ValueMatch>> {
    let Some(node) = parent.get(field) else { return Some(None) };
    let text = node.text().unwrap_or_default();
    let (is_name, form) = match field {
        "service" => (is_service(text), "a service's name with its package, as shop.v1.Cart"),
        _ => (is_word(text), "a method's name, as AddItem"),
    };
    if !is_name || text.len() > MAX_NAME {
        let message =
            format!("must be {form}, of letters, digits and '_', with at most {MAX_NAME} characters");
        context.invalid(node, message);
        return None;
    }
    if text.starts_with('.') {
        let message = "no call has a dot before its service's name, so this matches nothing: remove the dot";
        context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
    }
    Some(Some(ValueMatch::Exact(text.to_owned())))
}

/// A regular expression over the whole name. `Some(None)`: any will do, which an empty one says as well.
fn pattern(context: &mut Context<'_>, parent: &Node, field: &'static str) -> Option<Option<ValueMatch>> {
    let Some(node) = parent.get(field) else { return Some(None) };
    let text = node.text().unwrap_or_default();
    if text.len() > MAX_NAME {
        context.invalid(node, format!("is longer than {MAX_NAME} characters"));
        return None;
    }
    if text.is_empty() {
        return Some(None);
    }
    matches::regex(context, node, text)?;
    Some(Some(ValueMatch::Regex(text.to_owned())))
}

/// Names with dots between them; one may stand before the first (protobuf's form of a name from the root).
fn is_service(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).split('.').all(is_word)
}

fn is_word(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}
