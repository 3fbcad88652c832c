//! References to Services: backends of a rule, and where mirrors go.

use serde::{Deserialize, Serialize};

use super::{Context, FilterDraft, filters};
use crate::{
    document::Node,
    lower::{Place, reference_grant::core_is_empty},
    name::{Namespace, RouteKind, RouteName, ServiceName},
};

/// A backend that has not been looked up yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackendDraft {
    pub(crate) weight: u32,
    pub(crate) reference: ReferenceDraft,
    /// `None`: one of them cannot be applied, and so its share of requests must be answered with an error.
    pub(crate) filters: Option<Vec<FilterDraft>>,
}

/// What is referred to, by name, and where that is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReferenceDraft {
    pub(crate) target: TargetDraft,
    pub(crate) name_place: Place,
    pub(crate) port_place: Place,
}

/// A name, before anybody has looked who has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum TargetDraft {
    /// A port of a Service.
    Service(ServiceName, u16),
    /// Of a kind that cannot be a backend.
    Other { group: String, kind: String, namespace: Namespace, name: String },
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
        let target = TargetDraft::Other {
            group: core_is_empty(node.text_of("group").unwrap_or_default()).to_owned(),
            kind: node.text_of("kind").unwrap_or("Service").to_owned(),
            namespace: super::namespace(context, node, route)?,
            name: name_node.text().unwrap_or_default().to_owned(),
        };
        return Some(ReferenceDraft { target, name_place, port_place });
    }
    let service = super::service_name(context, node, route)?;
    let Some(port_node) = node.get("port") else {
        context.missing(node, "port", "required: say which port of the Service");
        return None;
    };
    let port = context.port(port_node)?;
    Some(ReferenceDraft { target: TargetDraft::Service(service, port), name_place, port_place })
}

fn weight(context: &mut Context<'_>, node: &Node) -> Option<u32> {
    let weight = node.int().filter(|weight| (0..=MAX_WEIGHT).contains(weight));
    if weight.is_none() {
        context.invalid(node, format!("must be a weight from 0 to {MAX_WEIGHT}, not {}", node.describe()));
    }
    u32::try_from(weight?).ok()
}
