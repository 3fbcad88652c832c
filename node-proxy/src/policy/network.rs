//! NetworkPolicy (networking.k8s.io/v1): whether a connection between two pods would be let through by the cluster's network.
//!
//! Asked before a delivery that the network cannot see. Only `Allowed` may be taken for a yes: a pair that is denied, or
//! that cannot be told, goes across the pods' interfaces, where whoever enforces NetworkPolicy decides. Pure.
//!
//! A cell asks the policies of its own tenant's end alone: what another tenant wrote must never cost it time. And of those
//! never more than [`LOOKED_AT`].

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use config::{
    model::{
        ContainerPort, LabelOperator, LabelSelector, Labels, NamespaceFacts, NetworkPeer, NetworkPolicy,
        NetworkPort, NetworkRule, PortRange, Transport, Workload,
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
    /// The policies that were asked let it through.
    Allowed,
    /// They do not.
    Denied,
    /// It depends on what is not known here.
    Unknown,
}

/// Whose policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Those of who connects, about what it may reach.
    Source,
    /// Those of who is connected to, about what may reach it.
    Destination,
    /// Those of both: all of them have to agree.
    Both,
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
pub fn allows(
    network: &Network,
    asked: Asked,
    source: &Workload,
    destination: &Workload,
    to: SocketAddr,
) -> Evaluated {
    if source.pod == destination.pod {
        return Evaluated::Allowed;
    }
    let (Some(from_policies), Some(to_policies)) =
        (network.pods.get(&source.pod), network.pods.get(&destination.pod))
    else {
        return Evaluated::Unknown;
    };
    let free_to_go = asked == Asked::Destination || from_policies.egress.is_empty();
    if free_to_go && (asked == Asked::Source || to_policies.ingress.is_empty()) {
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
    evaluate(asked, &source, &destination, (to.port(), Transport::Tcp))
}

/// The same of two pods of this node, by what is known of them now.
pub fn between(
    snapshot: &Snapshot,
    asked: Asked,
    source: &Arc<Workload>,
    destination: &Arc<Workload>,
    to: SocketAddr,
) -> Evaluated {
    allows(&snapshot.directory.network, asked, snapshot.now(source), snapshot.now(destination), to)
}

fn facts<'a>(network: &'a Network, namespace: &Namespace) -> Option<&'a NamespaceFacts> {
    network.namespaces.get(namespace).map(AsRef::as_ref)
}

impl<'a> Pod<'a> {
    fn of(workload: &'a Workload, namespace: &'a NamespaceFacts, policies: &'a PodNetwork) -> Self {
        Self { namespace, labels: &workload.labels, ports: &workload.ports, policies }
    }
}

/// Whether policies let a connection through: the source's for what it may reach, the destination's for what may reach it.
/// Whether the two ends are one pod, which may always reach itself, is the caller's to know.
pub fn evaluate(
    asked: Asked,
    source: &End<'_>,
    destination: &End<'_>,
    (port, protocol): (u16, Transport),
) -> Evaluated {
    let look = |other| Look { other, port, protocol, pod: destination.pod, left: LOOKED_AT };
    let out = || {
        source.pod.map_or(Evaluated::Allowed, |pod| {
            look(destination).at(&pod.policies.egress, |policy| policy.egress.as_deref())
        })
    };
    let into = || {
        destination.pod.map_or(Evaluated::Allowed, |pod| {
            look(source).at(&pod.policies.ingress, |policy| policy.ingress.as_deref())
        })
    };
    let (out, into) = match asked {
        Asked::Source => return out(),
        Asked::Destination => return into(),
        Asked::Both => (out(), into()),
    };
    match (out, into) {
        (Evaluated::Denied, _) | (_, Evaluated::Denied) => Evaluated::Denied,
        (Evaluated::Allowed, Evaluated::Allowed) => Evaluated::Allowed,
        _ => Evaluated::Unknown,
    }
}

/// Policies, peers, ports, labels and values that one end's evaluation looks at; beyond it the answer is not known. Some tens
/// of microseconds: it is asked for each connection, and again for many at a time.
pub const LOOKED_AT: usize = 4096;

/// One end's evaluation: what is compared with what its policies say.
struct Look<'a> {
    /// The other end.
    other: &'a End<'a>,
    port: u16,
    protocol: Transport,
    /// The pod that is connected to, which may give its ports names.
    pod: Option<Pod<'a>>,
    /// How much more may be looked at.
    left: usize,
}

impl Look<'_> {
    fn at(
        mut self,
        policies: &[Arc<NetworkPolicy>],
        rules: impl Fn(&NetworkPolicy) -> Option<&[NetworkRule]>,
    ) -> Evaluated {
        self.any_of(policies, rules).unwrap_or(Evaluated::Unknown)
    }

    /// `None` when it would be more than may be looked at; nothing of it is looked at then.
    fn spend(&mut self, values: usize) -> Option<()> {
        self.left = self.left.checked_sub(values)?;
        Some(())
    }

    /// Policies add up: one that allows is enough; without any that is about this direction, everything is allowed. But what stands for
    /// policies that are not evaluated here is outvoted by none: with most kinds of them, a denial counts before everything.
    fn any_of(
        &mut self,
        policies: &[Arc<NetworkPolicy>],
        rules: impl Fn(&NetworkPolicy) -> Option<&[NetworkRule]>,
    ) -> Option<Evaluated> {
        let mut said = None;
        for policy in policies {
            self.spend(1)?;
            let Some(rules) = rules(policy) else { continue };
            if policy.unreadable {
                return Some(Evaluated::Unknown);
            }
            if said == Some(Evaluated::Allowed) {
                continue;
            }
            said = match self.of(policy, rules)? {
                Evaluated::Denied => said.or(Some(Evaluated::Denied)),
                other => Some(other),
            };
        }
        Some(said.unwrap_or(Evaluated::Allowed))
    }

    fn of(&mut self, policy: &NetworkPolicy, rules: &[NetworkRule]) -> Option<Evaluated> {
        let mut said = Evaluated::Denied;
        for rule in rules {
            self.spend(1)?;
            if !self.is_port(&rule.ports)? {
                continue;
            }
            if rule.peers.is_empty() {
                return Some(Evaluated::Allowed);
            }
            for peer in &rule.peers {
                match self.is_peer(peer, &policy.name.namespace)? {
                    Evaluated::Allowed => return Some(Evaluated::Allowed),
                    Evaluated::Unknown => said = Evaluated::Unknown,
                    Evaluated::Denied => {}
                }
            }
        }
        Some(said)
    }

    fn is_port(&mut self, ports: &[NetworkPort]) -> Option<bool> {
        for port in ports {
            self.spend(1)?;
            if port.protocol == self.protocol && self.is_one(&port.port)? {
                return Some(true);
            }
        }
        Some(ports.is_empty())
    }

    fn is_one(&mut self, port: &PortRange) -> Option<bool> {
        Some(match port {
            PortRange::Any => true,
            PortRange::Numbers(first, last) => (*first..=*last).contains(&self.port),
            PortRange::Named(name) => {
                let ports = self.pod.map_or(&[][..], |pod| pod.ports);
                self.spend(ports.len())?;
                let named = |port: &ContainerPort| port.name.as_ref() == Some(name);
                ports.iter().any(|port| port.number == self.port && named(port))
            }
        })
    }

    fn is_peer(&mut self, peer: &NetworkPeer, own: &Namespace) -> Option<Evaluated> {
        self.spend(1)?;
        let found = match (peer, self.other.pod) {
            (NetworkPeer::Pods { namespaces, pods }, Some(pod)) => {
                let namespace = match namespaces {
                    Some(selector) => self.selects(selector, &pod.namespace.labels)?,
                    None => pod.namespace.name == *own,
                };
                let selected = namespace
                    && match pods {
                        Some(selector) => self.selects(selector, pod.labels)?,
                        None => true,
                    };
                if selected { Evaluated::Allowed } else { Evaluated::Denied }
            }
            (NetworkPeer::Pods { .. }, None) => Evaluated::Denied,
            (NetworkPeer::Block { cidr, except }, pod) => {
                self.spend(except.len())?;
                let address = self.other.address;
                let inside = cidr.contains(&address) && !except.iter().any(|net| net.contains(&address));
                match (inside, pod) {
                    (false, _) => Evaluated::Denied,
                    (true, None) => Evaluated::Allowed,
                    // Blocks are meant for addresses outside the cluster; whether they count for pods, too, is each
                    // network's own choice (NetworkPolicy, "ipBlock").
                    (true, Some(_)) => Evaluated::Unknown,
                }
            }
        };
        Some(found)
    }

    fn selects(&mut self, selector: &LabelSelector, labels: &Labels) -> Option<bool> {
        self.spend(selector.labels.len() + selector.expressions.len())?;
        let values = selector.expressions.iter().map(|expression| match &expression.operator {
            LabelOperator::In(values) | LabelOperator::NotIn(values) => values.len(),
            LabelOperator::Exists | LabelOperator::DoesNotExist => 0,
        });
        self.spend(values.sum())?;
        Some(selector.matches(labels))
    }
}
