//! EndpointSlice: addresses behind a Service, written by hand or by a controller.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Context, Meta, Place, address, app_protocol};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::AppProtocol,
    name::{Name, PortName, ServiceName},
};

/// A slice whose addresses have not been compared with the pods yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SliceDraft {
    /// The Service it belongs to; `None` if it names none.
    pub(crate) service: Option<ServiceName>,
    pub(crate) service_place: Place,
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

/// A port of a slice: the Service's port of the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlicePort {
    pub(crate) name: Option<PortName>,
    pub(crate) number: u16,
    pub(crate) protocol: AppProtocol,
}

/// An address of a slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) place: Place,
    pub(crate) ready: bool,
}

const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<SliceDraft> {
    let namespace = meta.namespace?;
    let label = root.at_path(&["metadata", "labels", SERVICE_NAME]);
    let service = match label {
        Some(node) => Some(ServiceName::new(namespace, context.name::<Name>(node)?)),
        None => {
            let message = format!("has no label {SERVICE_NAME}, so no Service uses it: add the label");
            context.note(Severity::Warning, Reason::DanglingReference, root.get("metadata")?, message);
            None
        }
    };
    let service_place = context.place(label.unwrap_or(root));
    let family = root.get("addressType").and_then(Node::text);
    if !matches!(family, Some("IPv4" | "IPv6")) {
        return no_family(context, root);
    }
    let ports = root.items_of("ports").iter().filter_map(|port| slice_port(context, port)).collect();
    let mut endpoints = Vec::new();
    for endpoint in root.items_of("endpoints") {
        let ready = is_ready(endpoint);
        for node in endpoint.items_of("addresses") {
            let Some(address) = address::unicast(context, node) else { continue };
            if address.is_ipv4() != (family == Some("IPv4")) {
                let message =
                    format!("is not an address of type {}: see addressType", family.unwrap_or_default());
                context.invalid(node, message);
            }
            endpoints.push(SliceEndpoint { address, place: context.place(node), ready });
        }
    }
    Some(SliceDraft { service, service_place, ports, endpoints })
}

fn no_family(context: &mut Context<'_>, root: &Node) -> Option<SliceDraft> {
    match root.get("addressType") {
        Some(node) if node.text() == Some("FQDN") => {
            context.invalid(node, "FQDN is not obeyed: endpoints must be IPv4 or IPv6 addresses");
        }
        Some(node) => context.invalid(node, format!("must be IPv4 or IPv6, not {}", node.describe())),
        None => context.missing(root, "addressType", "required: add addressType: IPv4 or IPv6"),
    }
    None
}

/// `None` for a port that is not TCP, has no number, or (with a finding) is not valid.
fn slice_port(context: &mut Context<'_>, port: &Node) -> Option<SlicePort> {
    // An empty name is how Kubernetes writes the one port that has none.
    let named = port.get("name").filter(|node| node.text() != Some(""));
    let name = match named {
        Some(node) => Some(context.name::<PortName>(node)?),
        None => None,
    };
    let number = context.port(port.get("port")?)?;
    if !matches!(port.text_of("protocol"), None | Some("TCP")) {
        return None;
    }
    // Only what is said outright: a name's prefix speaks for the Service's port, which has the same name.
    let protocol = match port.get("appProtocol") {
        Some(_) => app_protocol::of_port(context, port),
        None => AppProtocol::Undeclared,
    };
    Some(SlicePort { name, number, protocol })
}

/// `ready` unset means ready (discovery/v1); one that is terminating gets no new connections.
fn is_ready(endpoint: &Node) -> bool {
    let condition = |name| endpoint.at_path(&["conditions", name]).and_then(Node::bool);
    condition("ready").unwrap_or(true) && !condition("terminating").unwrap_or(false)
}
