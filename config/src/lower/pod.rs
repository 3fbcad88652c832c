//! Pod: a workload, if it has a network of its own and still runs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub(crate) use self::{annotations::netns_of, membership::Membership};
use super::{Context, Meta, Place, address, metadata};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    identity::{Identity, TrustDomain},
    model::{ContainerPort, Workload},
    name::{NodeName, PodName, PortName, ServiceAccount, TenantId},
};

mod annotations;
mod membership;
mod probes;

/// What a pod says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodDraft {
    /// `None` for a pod that is no workload of the mesh.
    pub(crate) workload: Option<WorkloadDraft>,
    /// Addresses that belong to a node, by this pod's word: endpoints may not name them.
    pub(crate) node_addresses: Vec<IpAddr>,
    /// Where it asks for the node's network, if it does.
    /// Those of a pod on the node's network, which are the node's as well.
    pub(crate) host_addresses: Vec<IpAddr>,
    pub(crate) host_network_place: Option<Place>,
}

/// A workload whose tenant is not known yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkloadDraft {
    /// Its tenant is its namespace until `link` knows better.
    pub(crate) workload: Workload,
    pub(crate) membership: Membership,
    /// Whether it has the container of a sidecar.
    pub(crate) sidecar: bool,
    /// The sandbox with a network of its own that it runs in, if it does, and where it says so.
    pub(crate) sandbox: Option<(String, Place)>,
    /// Where it takes itself out of the mesh, if it does.
    pub(crate) off_place: Option<Place>,
    pub(crate) ready: bool,
    /// It ends, and is still ready otherwise.
    pub(crate) draining: bool,
    pub(crate) account_place: Place,
    /// Where each of its addresses is written, in order.
    pub(crate) address_places: Vec<Place>,
    pub(crate) netns_place: Option<Place>,
    /// Where it excludes outbound connections, if it does.
    pub(crate) around_places: Vec<Place>,
    /// Where ports are left alone inbound.
    pub(crate) inbound_place: Option<Place>,
}

pub(super) fn lower(
    context: &mut Context<'_>,
    root: &Node,
    meta: Meta,
    domain: &TrustDomain,
) -> Option<PodDraft> {
    let Some(spec) = root.get("spec") else {
        context.missing(root, "spec", "required: give the Pod its containers");
        return None;
    };
    let status = root.get("status");
    let mut node_addresses = addresses(context, status, "hostIP", "hostIPs").0;
    let (addresses, address_places) = addresses(context, status, "podIP", "podIPs");
    let host_network = spec.get("hostNetwork").filter(|node| node.bool() == Some(true));
    if host_network.is_some() {
        node_addresses.extend(&addresses);
    }
    let host_addresses = if host_network.is_some() { addresses.clone() } else { Vec::new() };
    let host_network_place = host_network.map(|node| context.place(node));
    let skipped = why_no_workload(root, host_network, addresses.is_empty());
    if let Some((severity, node, message)) = skipped {
        context.note(severity, Reason::NotAWorkload, node, message);
        return Some(PodDraft { workload: None, node_addresses, host_addresses, host_network_place });
    }
    at_most_one_per_family(context, root, &addresses);
    let namespace = meta.namespace?;
    let account_node = spec.get("serviceAccountName").or(spec.get("serviceAccount"));
    let service_account = match account_node {
        Some(node) => context.name::<ServiceAccount>(node)?,
        None => ServiceAccount::try_from("default").ok()?,
    };
    let node = match spec.get("nodeName") {
        Some(node) => Some(context.name::<NodeName>(node)?),
        None => None,
    };
    let sandbox = membership::sandbox(context, root);
    let membership = membership::read(context, root);
    let netns = annotations::netns(context, root);
    let identity = Identity { trust_domain: domain.clone(), namespace: namespace.clone(), service_account };
    let pod = PodName::new(namespace.clone(), meta.name);
    let workload = Workload {
        uid: meta.uid,
        labels: metadata::texts(root.at_path(&["metadata", "labels"])),
        node,
        addresses,
        netns: netns.as_ref().map(|(path, _)| path.clone()),
        ports: ports(context, spec),
        probes: probes::lower(context, spec),
        exclusions: annotations::exclusions(context, root),
        ..Workload::new(pod, TenantId::Namespace(namespace), identity)
    };
    let draft = WorkloadDraft {
        workload,
        membership,
        sidecar: membership::has_sidecar(spec),
        sandbox,
        off_place: membership::off_place(context, root),
        ready: is_ready(root) && !is_ending(root),
        draining: is_ready(root) && is_ending(root),
        account_place: context.place(account_node.unwrap_or(spec)),
        address_places,
        netns_place: netns.map(|(_, place)| place),
        around_places: annotations::around_places(context, root),
        inbound_place: annotations::inbound_place(context, root),
    };
    Some(PodDraft { workload: Some(draft), node_addresses, host_addresses, host_network_place })
}

/// Why a pod is no workload, if it is none.
fn why_no_workload<'a>(
    root: &'a Node,
    host_network: Option<&'a Node>,
    no_address: bool,
) -> Option<(Severity, &'a Node, String)> {
    if let Some(node) = host_network {
        let message =
            "shares the node's network, so there is no namespace to capture: not a workload".to_owned();
        return Some((Severity::Ignored, node, message));
    }
    let phase = root.at_path(&["status", "phase"]);
    if let Some(node) = phase.filter(|node| matches!(node.text(), Some("Succeeded" | "Failed"))) {
        let message = format!("has ended ({}): not a workload", node.text().unwrap_or_default());
        return Some((Severity::Ignored, node, message));
    }
    let message = "has no address yet: not a workload until status.podIP or status.podIPs gives one";
    no_address.then(|| (Severity::Warning, root, message.to_owned()))
}

/// The addresses of a pair of fields such as `podIP` and `podIPs`, the single one first.
fn addresses(
    context: &mut Context<'_>,
    status: Option<&Node>,
    single: &str,
    list: &str,
) -> (Vec<IpAddr>, Vec<Place>) {
    let Some(status) = status else { return Default::default() };
    let several = status.items_of(list).iter().filter_map(|item| item.get("ip"));
    let mut addresses = Vec::new();
    let mut places = Vec::new();
    for node in status.get(single).into_iter().chain(several) {
        let Some(address) = address::unicast(context, node) else { continue };
        if !addresses.contains(&address) {
            addresses.push(address);
            places.push(context.place(node));
        }
    }
    (addresses, places)
}

fn at_most_one_per_family(context: &mut Context<'_>, root: &Node, addresses: &[IpAddr]) {
    let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    if (v4 > 1 || addresses.len() - v4 > 1)
        && let Some(node) = root.at_path(&["status", "podIPs"]).or(root.at_path(&["status", "podIP"]))
    {
        context.invalid(node, "a pod has at most one IPv4 and one IPv6 address: remove the others");
    }
}

fn is_ready(root: &Node) -> bool {
    let conditions = root.get("status").map_or(&[][..], |status| status.items_of("conditions"));
    let ready = conditions.iter().find(|condition| condition.text_of("type") == Some("Ready"));
    // Without a kubelet nobody writes the condition; a pod in a file is there because it runs.
    ready.is_none_or(|condition| condition.text_of("status") == Some("True"))
}

fn is_ending(root: &Node) -> bool {
    root.at_path(&["metadata", "deletionTimestamp"]).is_some()
}

/// Containers, and init containers that stay (sidecars).
fn containers(spec: &Node) -> impl Iterator<Item = &Node> {
    let stays = |node: &&Node| node.text_of("restartPolicy") == Some("Always");
    spec.items_of("containers").iter().chain(spec.items_of("initContainers").iter().filter(stays))
}

/// TCP ports of containers, which Services may refer to by name.
fn ports(context: &mut Context<'_>, spec: &Node) -> Vec<ContainerPort> {
    let mut ports = Vec::new();
    for port in containers(spec).flat_map(|container| container.items_of("ports")) {
        let Some(number) = port.get("containerPort").and_then(|node| context.port(node)) else { continue };
        let name = port.get("name").and_then(|node| context.name::<PortName>(node));
        if matches!(port.text_of("protocol"), None | Some("TCP")) {
            ports.push(ContainerPort { name, number });
        }
    }
    ports
}
