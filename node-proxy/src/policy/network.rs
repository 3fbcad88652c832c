//! NetworkPolicy (networking.k8s.io/v1): whether a connection between two pods would be let through by the cluster's network.
//!
//! Asked before a delivery that the network cannot see. Only `Allowed` may be taken for a yes: a pair that is denied, or
//! that cannot be told, goes across the pods' interfaces, where whoever enforces NetworkPolicy decides. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use config::{
    model::{
        ContainerPort, Labels, NamespaceFacts, NetworkPeer, NetworkPolicy, NetworkPort, NetworkRule,
        PortRange, Transport, Workload,
    },
    name::Namespace,
};

use crate::snapshot::{
    Snapshot,
    network::{Network, PodNetwork},
};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluated {
    /// Both ends' policies let it through.
    Allowed,
    /// One end's policies do not.
    Denied,
    /// It depends on what is not known here.
    Unknown,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The pod; `None` for an address outside the cluster.
    pub pod: Option<Pod<'a>>,
}

/// A pod, as policies see it.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    /// Its namespace, with labels.
    pub namespace: &'a NamespaceFacts,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its containers' ports.
    pub ports: &'a [ContainerPort],
    /// The policies that are about it.
    pub policies: &'a PodNetwork,
}

/// Whether a pod of this machine may connect to another of this machine, at this address and port, over TCP.
pub fn allows(network: &Network, source: &Workload, destination: &Workload, to: SocketAddr) -> Evaluated {
    if source.pod == destination.pod {
        return Evaluated::Allowed;
    }
    let (Some(from_policies), Some(to_policies)) =
        (network.pods.get(&source.pod), network.pods.get(&destination.pod))
    else {
        return Evaluated::Unknown;
    };
    if from_policies.egress.is_empty() && to_policies.ingress.is_empty() {
        return Evaluated::Allowed;
    }
    let (Some(from_namespace), Some(to_namespace)) =
        (facts(network, &source.pod.namespace), facts(network, &destination.pod.namespace))
    else {
        return Evaluated::Unknown;
    };
    let Some(from) = source.addresses.iter().find(|address| address.is_ipv4() == to.is_ipv4()) else {
        return Evaluated::Unknown;
    };
    let end = |workload, address, namespace, policies| End {
        address,
        pod: Some(Pod::of(workload, namespace, policies)),
    };
    let source = end(source, *from, from_namespace, from_policies);
    let destination = end(destination, to.ip(), to_namespace, to_policies);
    evaluate(&source, &destination, to.port(), Transport::Tcp)
}

/// The same of two pods of this node, by what is known of them now.
pub fn between(
    snapshot: &Snapshot,
    source: &Arc<Workload>,
    destination: &Arc<Workload>,
    to: SocketAddr,
) -> Evaluated {
    allows(&snapshot.directory.network, snapshot.now(source), snapshot.now(destination), to)
}

fn facts<'a>(network: &'a Network, namespace: &Namespace) -> Option<&'a NamespaceFacts> {
    network.namespaces.get(namespace).map(AsRef::as_ref)
}

impl<'a> Pod<'a> {
    fn of(workload: &'a Workload, namespace: &'a NamespaceFacts, policies: &'a PodNetwork) -> Self {
        Self { namespace, labels: &workload.labels, ports: &workload.ports, policies }
    }
}

/// Whether both ends' policies let a connection through: the source's for what it may reach, the destination's for what
/// may reach it. Whether the two ends are one pod, which may always reach itself, is the caller's to know.
pub fn evaluate(source: &End<'_>, destination: &End<'_>, port: u16, protocol: Transport) -> Evaluated {
    let target = Target { port, protocol, pod: destination.pod };
    let out = source.pod.map_or(Evaluated::Allowed, |pod| {
        any_of(&pod.policies.egress, |policy| policy.egress.as_deref(), destination, &target)
    });
    let into = destination.pod.map_or(Evaluated::Allowed, |pod| {
        any_of(&pod.policies.ingress, |policy| policy.ingress.as_deref(), source, &target)
    });
    match (out, into) {
        (Evaluated::Denied, _) | (_, Evaluated::Denied) => Evaluated::Denied,
        (Evaluated::Allowed, Evaluated::Allowed) => Evaluated::Allowed,
        _ => Evaluated::Unknown,
    }
}

/// What is connected to.
struct Target<'a> {
    port: u16,
    protocol: Transport,
    /// The pod that may give its ports names.
    pod: Option<Pod<'a>>,
}

/// Policies add up: one that allows is enough; without any that is about this direction, everything is allowed.
fn any_of(
    policies: &[Arc<NetworkPolicy>],
    rules: impl Fn(&NetworkPolicy) -> Option<&[NetworkRule]>,
    other: &End<'_>,
    target: &Target<'_>,
) -> Evaluated {
    let mut said = None;
    for policy in policies {
        let Some(rules) = rules(policy) else { continue };
        let one = if policy.unreadable { Evaluated::Unknown } else { of(policy, rules, other, target) };
        match one {
            Evaluated::Allowed => return Evaluated::Allowed,
            Evaluated::Unknown => said = Some(Evaluated::Unknown),
            Evaluated::Denied => said = said.or(Some(Evaluated::Denied)),
        }
    }
    said.unwrap_or(Evaluated::Allowed)
}

fn of(policy: &NetworkPolicy, rules: &[NetworkRule], other: &End<'_>, target: &Target<'_>) -> Evaluated {
    let mut said = Evaluated::Denied;
    for rule in rules.iter().filter(|rule| is_port(&rule.ports, target)) {
        if rule.peers.is_empty() {
            return Evaluated::Allowed;
        }
        for peer in &rule.peers {
            match is_peer(peer, &policy.name.namespace, other) {
                Evaluated::Allowed => return Evaluated::Allowed,
                Evaluated::Unknown => said = Evaluated::Unknown,
                Evaluated::Denied => {}
            }
        }
    }
    said
}

fn is_port(ports: &[NetworkPort], target: &Target<'_>) -> bool {
    ports.is_empty()
        || ports.iter().any(|port| port.protocol == target.protocol && is_one(&port.port, target))
}

fn is_one(port: &PortRange, target: &Target<'_>) -> bool {
    match port {
        PortRange::Any => true,
        PortRange::Numbers(first, last) => (*first..=*last).contains(&target.port),
        PortRange::Named(name) => target.pod.is_some_and(|pod| {
            let named = |port: &ContainerPort| port.name.as_ref() == Some(name);
            pod.ports.iter().any(|port| named(port) && port.number == target.port)
        }),
    }
}

fn is_peer(peer: &NetworkPeer, own: &Namespace, other: &End<'_>) -> Evaluated {
    match (peer, other.pod) {
        (NetworkPeer::Pods { namespaces, pods }, Some(pod)) => {
            let namespace = match namespaces {
                Some(selector) => selector.matches(&pod.namespace.labels),
                None => pod.namespace.name == *own,
            };
            let selected = namespace && pods.as_ref().is_none_or(|selector| selector.matches(pod.labels));
            if selected { Evaluated::Allowed } else { Evaluated::Denied }
        }
        (NetworkPeer::Pods { .. }, None) => Evaluated::Denied,
        (NetworkPeer::Block { cidr, except }, pod) => {
            let inside =
                cidr.contains(&other.address) && !except.iter().any(|net| net.contains(&other.address));
            match (inside, pod) {
                (false, _) => Evaluated::Denied,
                (true, None) => Evaluated::Allowed,
                // Blocks are meant for addresses outside the cluster; whether they count for pods, too, is each
                // network's own choice (NetworkPolicy, "ipBlock").
                (true, Some(_)) => Evaluated::Unknown,
            }
        }
    }
}
