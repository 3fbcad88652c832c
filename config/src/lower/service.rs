//! Service: virtual addresses, ports, and who is meant to be behind them.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{Context, Meta, Place, address, app_protocol, metadata};
use crate::{
    document::{Node, Value},
    finding::{Reason, Severity},
    model::{AppProtocol, Reach},
    name::{PortName, ServiceName},
};

/// A Service without its endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceDraft {
    pub(crate) name: ServiceName,
    pub(crate) vips: Vec<IpAddr>,
    /// Where each of its addresses is written, in order.
    pub(crate) vip_places: Vec<Place>,
    /// Empty if endpoints can only come from EndpointSlices.
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) selector_place: Place,
    pub(crate) publish_not_ready: bool,
    pub(crate) ports: Vec<PortDraft>,
    pub(crate) reach: Reach,
    /// What a controller makes hints of, where there is one.
    pub(crate) preference: Option<Preference>,
    /// Seconds.
    pub(crate) affinity: Option<u32>,
}

/// Which endpoints are to be preferred (`trafficDistribution`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Preference {
    /// Those in the caller's zone.
    Zone,
    /// Those on the caller's node, and then those in its zone.
    Node,
}

/// A port without its endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PortDraft {
    pub(crate) number: u16,
    pub(crate) name: Option<PortName>,
    pub(crate) protocol: AppProtocol,
    pub(crate) target: TargetPort,
    pub(crate) target_place: Place,
}

/// The pods' port behind a Service's port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum TargetPort {
    Number(u16),
    Named(PortName),
}

/// `None` for a Service that has no traffic of its own, and (with findings) for an invalid one.
pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<Option<ServiceDraft>> {
    let Some(spec) = root.get("spec") else {
        context.missing(root, "spec", "required: give the Service its ports");
        return None;
    };
    let name = ServiceName::new(meta.namespace?, meta.name);
    if let Some(node) = spec.get("type").filter(|node| node.text() == Some("ExternalName")) {
        let message = "an ExternalName Service is a DNS alias: it is never parent or backend of a route here";
        context.note(Severity::Ignored, Reason::NotObeyed, node, message);
        return Some(None);
    }
    one_of(context, spec.get("type"), &["ClusterIP", "NodePort", "LoadBalancer"]);
    let (vips, vip_places) = vips(context, spec);
    let ports = ports(context, spec);
    one_of(context, spec.get("internalTrafficPolicy"), &["Cluster", "Local"]);
    let is_local = spec.text_of("internalTrafficPolicy") == Some("Local");
    Some(Some(ServiceDraft {
        name,
        vips,
        vip_places,
        selector: metadata::texts(spec.get("selector")),
        selector_place: context.place(spec.get("selector").unwrap_or(spec)),
        publish_not_ready: spec.get("publishNotReadyAddresses").and_then(Node::bool).unwrap_or(false),
        ports,
        reach: if is_local { Reach::Node } else { Reach::Cluster },
        preference: match spec.text_of("trafficDistribution") {
            Some("PreferClose" | "PreferSameZone") => Some(Preference::Zone),
            Some("PreferSameNode") => Some(Preference::Node),
            // What else there may be one day is no preference; that it is not obeyed is said of the field.
            _ => None,
        },
        affinity: affinity(context, spec),
    }))
}

/// For how long Kubernetes takes a client back to its endpoint, where the Service says nothing of it: three hours.
const AFFINITY: u32 = 10_800;
/// The longest, a day.
const LONGEST_AFFINITY: u32 = 86_400;

/// Seconds; `None` if the Service asks for none.
fn affinity(context: &mut Context<'_>, spec: &Node) -> Option<u32> {
    let node = spec.get("sessionAffinity");
    one_of(context, node, &["None", "ClientIP"]);
    node.filter(|node| node.text() == Some("ClientIP"))?;
    let Some(timeout) = spec.at_path(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"]) else {
        return Some(AFFINITY);
    };
    let seconds = timeout.int().and_then(|seconds| u32::try_from(seconds).ok());
    let seconds = seconds.filter(|seconds| (1..=LONGEST_AFFINITY).contains(seconds));
    if seconds.is_none() {
        let message = format!(
            "must be a number of seconds between 1 and {LONGEST_AFFINITY}, not {}",
            timeout.describe()
        );
        context.invalid(timeout, message);
    }
    seconds
}

fn one_of(context: &mut Context<'_>, node: Option<&Node>, words: &[&str]) {
    if let Some(node) = node.filter(|node| !node.text().is_some_and(|text| words.contains(&text))) {
        context.invalid(node, format!("must be one of {}, not {}", words.join(", "), node.describe()));
    }
}

/// Cluster addresses; none for a headless Service (`None`) or one that has not been given any.
fn vips(context: &mut Context<'_>, spec: &Node) -> (Vec<IpAddr>, Vec<Place>) {
    let several = spec.items_of("clusterIPs");
    let single = spec.get("clusterIP").filter(|_| several.is_empty());
    if let (Some(node), Some(first)) = (spec.get("clusterIP"), several.first())
        && node.text() != first.text()
    {
        context.invalid(node, "must equal clusterIPs[0]: make them the same or remove one");
    }
    let mut vips: Vec<IpAddr> = Vec::new();
    let mut places = Vec::new();
    for node in single.into_iter().chain(several) {
        if matches!(node.text(), Some("None" | "")) {
            continue;
        }
        let Some(address) = address::unicast(context, node) else { continue };
        if vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4()) {
            context.invalid(node, "a Service has at most one IPv4 and one IPv6 address: remove this one");
            continue;
        }
        vips.push(address);
        places.push(context.place(node));
    }
    (vips, places)
}

fn ports(context: &mut Context<'_>, spec: &Node) -> Vec<PortDraft> {
    let nodes = spec.items_of("ports");
    let mut drafts: Vec<PortDraft> = Vec::new();
    for node in nodes {
        if nodes.len() > 1 && node.get("name").is_none() {
            context.missing(node, "name", "required: a Service with several ports names each of them");
        }
        let Some(draft) = port(context, node) else { continue };
        if drafts.iter().any(|other| other.number == draft.number) {
            context.reject(
                node,
                Reason::Duplicate,
                format!("port {} is there twice: remove one", draft.number),
            );
        } else if draft.name.is_some() && drafts.iter().any(|other| other.name == draft.name) {
            context.reject(node, Reason::Duplicate, "another port has this name: port names are unique");
        } else {
            drafts.push(draft);
        }
    }
    drafts
}

/// `None` for a port that is not TCP, or (with findings) not valid.
fn port(context: &mut Context<'_>, node: &Node) -> Option<PortDraft> {
    one_of(context, node.get("protocol"), &["TCP", "UDP", "SCTP"]);
    let number = context.port(node.get("port")?)?;
    let name = match node.get("name") {
        Some(node) => Some(context.name::<PortName>(node)?),
        None => None,
    };
    let target = target(context, node, number)?;
    if !matches!(node.text_of("protocol"), None | Some("TCP")) {
        return None;
    }
    let declared = app_protocol::of_port(context, node);
    let protocol = if declared == AppProtocol::Undeclared && node.get("appProtocol").is_none() {
        app_protocol::of_well_known(number)
    } else {
        declared
    };
    let target_place = context.place(node.get("targetPort").unwrap_or(node));
    Some(PortDraft { number, name, protocol, target, target_place })
}

fn target(context: &mut Context<'_>, port: &Node, number: u16) -> Option<TargetPort> {
    let Some(node) = port.get("targetPort") else { return Some(TargetPort::Number(number)) };
    match &node.value {
        // Kubernetes' clients write 0 for "not set".
        Value::Int(0) => Some(TargetPort::Number(number)),
        Value::Int(_) => context.port(node).map(TargetPort::Number),
        _ => context.name::<PortName>(node).map(TargetPort::Named),
    }
}
