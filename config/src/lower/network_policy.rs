//! NetworkPolicy (networking.k8s.io/v1), by the API server's own rules of validity and defaults.

use super::{Context, Meta, authorization_policy::network, label_selector};
use crate::{
    document::{Node, Value},
    model::{NetworkPeer, NetworkPolicy, NetworkPort, NetworkRule, PortRange, Transport},
    name::{PolicyName, PortName},
};

pub(super) fn lower(context: &mut Context<'_>, root: &Node, meta: Meta) -> Option<NetworkPolicy> {
    let empty = Node { value: Value::Map(Vec::new()), at: root.at };
    let spec = root.get("spec").unwrap_or(&empty);
    let (ingress, egress) = directions(context, spec);
    let rules = |context: &mut Context<'_>, field: &str, peers: &str| {
        spec.items_of(field).iter().map(|node| rule(context, node, peers)).collect::<Vec<_>>()
    };
    let pods = spec.get("podSelector").map(|node| label_selector::lower(context, node)).unwrap_or_default();
    let (from, to) = (rules(context, "ingress", "from"), rules(context, "egress", "to"));
    Some(NetworkPolicy {
        name: PolicyName::new(meta.namespace?, meta.name),
        pods,
        ingress: ingress.then_some(from),
        egress: egress.then_some(to),
        unreadable: false,
    })
}

/// What is known of a policy that cannot be read.
pub(super) fn unreadable(meta: Meta) -> Option<NetworkPolicy> {
    Some(NetworkPolicy::unreadable(PolicyName::new(meta.namespace?, meta.name)))
}

/// What it is about: as `policyTypes` says; without, ingress always, and egress where there are rules for it.
fn directions(context: &mut Context<'_>, spec: &Node) -> (bool, bool) {
    let types = spec.items_of("policyTypes");
    for node in types.iter().filter(|node| !matches!(node.text(), Some("Ingress" | "Egress"))) {
        context.invalid(node, format!("must be Ingress or Egress, not {}", node.describe()));
    }
    if types.is_empty() {
        return (true, !spec.items_of("egress").is_empty());
    }
    let has = |wanted| types.iter().any(|node| node.text() == Some(wanted));
    (has("Ingress"), has("Egress"))
}

fn rule(context: &mut Context<'_>, node: &Node, peers: &str) -> NetworkRule {
    NetworkRule {
        peers: node.items_of(peers).iter().filter_map(|item| peer(context, item)).collect(),
        ports: node.items_of("ports").iter().filter_map(|item| port(context, item)).collect(),
    }
}

fn peer(context: &mut Context<'_>, node: &Node) -> Option<NetworkPeer> {
    let selector = |context: &mut Context<'_>, field: &str| {
        node.get(field).map(|selector| label_selector::lower(context, selector))
    };
    let namespaces = selector(context, "namespaceSelector");
    let pods = selector(context, "podSelector");
    match (node.get("ipBlock"), namespaces.is_some() || pods.is_some()) {
        (None, true) => Some(NetworkPeer::Pods { namespaces, pods }),
        (Some(block), false) => {
            let cidr = network(context, block.get("cidr")?)?;
            let mut except = Vec::new();
            for node in block.items_of("except") {
                let Some(net) = network(context, node) else { continue };
                if !(cidr.contains(&net) && net != cidr) {
                    context.invalid(node, format!("{net} is not a part of {cidr}: correct one of them"));
                }
                except.push(net);
            }
            Some(NetworkPeer::Block { cidr, except })
        }
        (Some(block), true) => {
            context.invalid(block, "an ipBlock stands alone: make another item of the selectors");
            None
        }
        (None, false) => {
            context.invalid(node, "says nobody: add podSelector, namespaceSelector or ipBlock");
            None
        }
    }
}

fn port(context: &mut Context<'_>, node: &Node) -> Option<NetworkPort> {
    let protocol = match node.get("protocol").map(|node| (node, node.text())) {
        None | Some((_, Some("TCP"))) => Transport::Tcp,
        Some((_, Some("UDP"))) => Transport::Udp,
        Some((_, Some("SCTP"))) => Transport::Sctp,
        Some((node, _)) => {
            context.invalid(node, format!("must be TCP, UDP or SCTP, not {}", node.describe()));
            return None;
        }
    };
    let end = node.get("endPort");
    let port = match (node.get("port"), end) {
        (None, None) => PortRange::Any,
        (Some(port), None) if port.text().is_some() => PortRange::Named(context.name::<PortName>(port)?),
        (Some(port), None) => {
            let number = context.port(port)?;
            PortRange::Numbers(number, number)
        }
        (Some(port), Some(end)) if port.int().is_some() => {
            let (first, last) = (context.port(port)?, context.port(end)?);
            if last < first {
                context.invalid(end, format!("must not be below the port, {first}"));
            }
            PortRange::Numbers(first, last)
        }
        (_, Some(end)) => {
            context.invalid(end, "ends a range that begins with a number: write that as port");
            return None;
        }
    };
    Some(NetworkPort { protocol, port })
}
