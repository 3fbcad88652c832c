//! EndpointSlice: addresses behind a Service, written by hand or by a controller.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Context, Meta, Place, address, app_protocol};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{AppProtocol, Topology, Zone},
    name::{Name, NodeName, PortName, ServiceName},
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
    /// It ends, and still serves.
    pub(crate) draining: bool,
    /// Where it is, and for whom.
    pub(crate) topology: Topology,
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
        let (ready, draining) = readiness(endpoint);
        let topology = topology(context, endpoint);
        for node in endpoint.items_of("addresses") {
            let Some(address) = address::unicast(context, node) else { continue };
            if address.is_ipv4() != (family == Some("IPv4")) {
                let message =
                    format!("is not an address of type {}: see addressType", family.unwrap_or_default());
                context.invalid(node, message);
            }
            let (place, topology) = (context.place(node), topology.clone());
            endpoints.push(SliceEndpoint { address, place, ready, draining, topology });
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

/// Whether new connections may go there, and whether they may where none is ready (discovery/v1, KEP-1669). One that says it is
/// ready is, even while it ends: a Service that publishes addresses that are not ready wants those. Unset means ready, but not of
/// one that ends; and serving as it is ready.
fn readiness(endpoint: &Node) -> (bool, bool) {
    let condition = |name| endpoint.at_path(&["conditions", name]).and_then(Node::bool);
    let terminating = condition("terminating").unwrap_or(false);
    let ready = condition("ready").unwrap_or(!terminating);
    let serving = condition("serving").unwrap_or(ready);
    (ready, !ready && serving && terminating)
}

/// What is no name is named, and left out: a hint is a preference.
fn topology(context: &mut Context<'_>, endpoint: &Node) -> Topology {
    let node = endpoint.get("nodeName").and_then(|node| context.name::<NodeName>(node));
    let hinted = |hint: &str| {
        let hints = endpoint.at_path(&["hints", hint]);
        hints.into_iter().flat_map(Node::items).filter_map(|one| one.get("name")).collect::<Vec<_>>()
    };
    let for_nodes = hinted("forNodes").into_iter().filter_map(|node| context.name::<NodeName>(node));
    let for_nodes = for_nodes.collect();
    let mut for_zones = Vec::new();
    for node in hinted("forZones") {
        match node.text().map(Zone::try_from) {
            Some(Ok(zone)) => for_zones.push(zone),
            Some(Err(error)) => context.invalid(node, error.to_string()),
            None => {}
        }
    }
    Topology { node, for_nodes, for_zones }
}
