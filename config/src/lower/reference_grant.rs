//! ReferenceGrant (Gateway API v1): what others may name in the namespace that it is in.
//!
//! It must never give more than it says: one that is rejected gives nothing.

use serde::{Deserialize, Serialize};

use super::{Context, Meta};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    name::{Name, Namespace, RouteKind},
};

/// A grant, of which every `from` may name every `to`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GrantDraft {
    /// Where the things are that may be named.
    pub(crate) namespace: Namespace,
    pub(crate) from: Vec<FromDraft>,
    pub(crate) to: Vec<ToDraft>,
}

/// Whose references: those of one kind of object in one namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FromDraft {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: Namespace,
}

/// To what: all of one kind, or one of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToDraft {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
}

// Gateway API v1, ReferenceGrantSpec, Group, Kind and ObjectName.
const MAX_ITEMS: usize = 16;
const MAX_KIND: usize = 63;
const MAX_NAME: usize = 253;

/// The group of routes.
pub(crate) const GATEWAY: &str = "gateway.networking.k8s.io";

pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<GrantDraft> {
    let spec = root.get("spec")?;
    let namespace = meta.namespace?;
    let from: Vec<FromDraft> =
        items(context, spec, "from").iter().filter_map(|node| from(context, node)).collect();
    let is_for_routes = from.iter().any(|from| is_route(&from.group, &from.kind));
    let to: Vec<ToDraft> =
        items(context, spec, "to").iter().filter_map(|node| to(context, node, is_for_routes)).collect();
    Some(GrantDraft { namespace, from, to })
}

/// Whether Canopy follows references of this kind.
fn is_route(group: &str, kind: &str) -> bool {
    group == GATEWAY && [RouteKind::Http, RouteKind::Grpc].iter().any(|route| route.as_str() == kind)
}

fn items<'a>(context: &mut Context<'_>, spec: &'a Node, field: &str) -> &'a [Node] {
    let Some(node) = spec.get(field) else { return &[] };
    let items = node.items();
    if !(1..=MAX_ITEMS).contains(&items.len()) {
        context.invalid(node, format!("has {} items: 1 to {MAX_ITEMS} are allowed", items.len()));
    }
    items
}

fn from(context: &mut Context<'_>, node: &Node) -> Option<FromDraft> {
    let (group, kind) = (group(context, node), kind(context, node));
    let namespace = context.name(node.get("namespace")?);
    let from = FromDraft { group: group?, kind: kind?, namespace: namespace? };
    if !is_route(&from.group, &from.kind) {
        let message = format!(
            "left to others: of what a {} refers to, Canopy follows nothing (only HTTPRoute and GRPCRoute, of group {GATEWAY})",
            from.kind
        );
        context.note(Severity::NotObeyed, Reason::LeftToOthers, node, message);
    }
    Some(from)
}

fn to(context: &mut Context<'_>, node: &Node, is_for_routes: bool) -> Option<ToDraft> {
    let (group, kind) = (group(context, node), kind(context, node));
    let name = match node.get("name") {
        Some(node) => Some(name(context, node)?),
        None => None,
    };
    let to = ToDraft { group: group?, kind: kind?, name };
    if is_for_routes {
        let message = match (to.group.as_str(), to.kind.as_str()) {
            ("", "Service") => {
                "without effect in the mesh: a route whose parent is a Service needs no grant for Services of other namespaces \
                 (Gateway API, GAMMA)"
            }
            _ => "without effect in the mesh: only Services can be backends of its routes",
        };
        context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
    }
    Some(to)
}

/// The group that has no name, which some call core.
pub(super) fn core_is_empty(group: &str) -> &str {
    if group == "core" { "" } else { group }
}

fn group(context: &mut Context<'_>, parent: &Node) -> Option<String> {
    let node = parent.get("group")?;
    let text = node.text().unwrap_or_default();
    if !text.is_empty() && Name::try_from(text).is_err() {
        context.invalid(node, format!("must be an API group, as {GATEWAY}, or \"\" for that of Services"));
        return None;
    }
    Some(core_is_empty(text).to_owned())
}

fn kind(context: &mut Context<'_>, parent: &Node) -> Option<String> {
    let node = parent.get("kind")?;
    let text = node.text().unwrap_or_default();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_kind = (1..=MAX_KIND).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(inner)
        && !text.ends_with('-');
    if !is_kind {
        context.invalid(node, "must be a kind, as HTTPRoute or Service");
        return None;
    }
    Some(text.to_owned())
}

/// The name of an object of whatever kind.
fn name(context: &mut Context<'_>, node: &Node) -> Option<String> {
    let text = node.text().unwrap_or_default();
    if !(1..=MAX_NAME).contains(&text.len()) {
        let message = format!("must have 1 to {MAX_NAME} characters; remove it to grant all of this kind");
        context.invalid(node, message);
        return None;
    }
    Some(text.to_owned())
}
