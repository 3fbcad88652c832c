//! References to Services: backends of a rule, and where mirrors go.

use serde::{Deserialize, Serialize};

use super::{Context, FilterDraft, filters};
use crate::{
    document::Node,
    lower::Place,
    name::{RouteKind, RouteName, ServiceName},
};

/// A backend that has not been looked up yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackendDraft {
    pub(crate) weight: u32,
    pub(crate) reference: ReferenceDraft,
    /// `None`: one of them cannot be applied, and so its share of requests must be answered with an error.
    pub(crate) filters: Option<Vec<FilterDraft>>,
}

/// A Service and port, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReferenceDraft {
    /// `None` for a kind that cannot be a backend.
    pub(crate) target: Option<(ServiceName, u16)>,
    pub(crate) name_place: Place,
    pub(crate) port_place: Place,
}

/// Gateway API v1, BackendRef: weight.
const MAX_WEIGHT: i64 = 1_000_000;

/// A backend of a rule, with its weight and filters.
pub(in crate::lower) fn lower(
    context: &mut Context<'_>,
    node: &Node,
    route: &RouteName,
    prefix_only: bool,
) -> Option<BackendDraft> {
    let weight = match node.get("weight") {
        Some(node) => weight(context, node)?,
        None => 1,
    };
    let reference = reference(context, node, route)?;
    super::at_most(context, node, "filters", super::MAX_FILTERS);
    let filters = filters::lower(context, node, route, prefix_only);
    if route.kind == RouteKind::Http {
        filters::check_no_redirect(context, node);
    }
    Some(BackendDraft { weight, reference, filters })
}

/// A reference to a Service, with its port.
pub(super) fn reference(context: &mut Context<'_>, node: &Node, route: &RouteName) -> Option<ReferenceDraft> {
    let is_service = matches!(node.text_of("group"), None | Some("" | "core"))
        && matches!(node.text_of("kind"), None | Some("Service"));
    let name_node = node.get("name")?;
    let name_place = context.place(name_node);
    let port_place = context.place(node.get("port").unwrap_or(name_node));
    if !is_service {
        let name_place = context.place(node.get("kind").or(node.get("group")).unwrap_or(node));
        return Some(ReferenceDraft { target: None, name_place, port_place });
    }
    let service = super::service_name(context, node, route)?;
    let Some(port_node) = node.get("port") else {
        context.missing(node, "port", "required: say which port of the Service");
        return None;
    };
    let port = context.port(port_node)?;
    Some(ReferenceDraft { target: Some((service, port)), name_place, port_place })
}

fn weight(context: &mut Context<'_>, node: &Node) -> Option<u32> {
    let weight = node.int().filter(|weight| (0..=MAX_WEIGHT).contains(weight));
    if weight.is_none() {
        context.invalid(node, format!("must be a weight from 0 to {MAX_WEIGHT}, not {}", node.describe()));
    }
    u32::try_from(weight?).ok()
}
