//! NetworkPolicy (networking.k8s.io/v1): which pods may reach which, by labels and addresses.
//!
//! Enforced by the cluster's network; kept here so that Canopy takes no short cut past it.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Labels;
use crate::name::{PolicyName, PortName};

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPolicy {
    /// Its namespace, whose pods it is about, and its name.
    pub name: PolicyName,
    /// Which pods of its namespace.
    pub pods: LabelSelector,
    /// What may reach them; `None` if the policy says nothing of it.
    pub ingress: Option<Vec<NetworkRule>>,
    /// What they may reach; `None` if the policy says nothing of it.
    pub egress: Option<Vec<NetworkRule>>,
    /// It could not be read: what it allows is not known.
    pub unreadable: bool,
}

impl NetworkPolicy {
    /// What is known of a policy that cannot be read: it may be about any pod of its namespace, in any direction.
    pub(crate) fn unreadable(name: PolicyName) -> Self {
        let nothing = || Some(Vec::new());
        Self { name, pods: LabelSelector::default(), ingress: nothing(), egress: nothing(), unreadable: true }
    }
}

/// One alternative of what is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRule {
    /// The other end is any of these; empty for anybody.
    pub peers: Vec<NetworkPeer>,
    /// The port is any of these; empty for any port.
    pub ports: Vec<NetworkPort>,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum NetworkPeer {
    /// Pods.
    Pods {
        /// Of namespaces with these labels; `None` is the policy's own namespace.
        namespaces: Option<LabelSelector>,
        /// With these labels; `None` is all of them.
        pods: Option<LabelSelector>,
    },
    /// Addresses.
    Block {
        /// In this network,
        cidr: IpNet,
        /// but in none of these.
        except: Vec<IpNet>,
    },
}

/// Ports of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPort {
    /// The protocol.
    pub protocol: Transport,
    /// Which ports.
    pub port: PortRange,
}

/// A protocol above IP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortRange {
    /// All.
    Any,
    /// The port that the destination pod's containers call so.
    Named(PortName),
    /// From the first to the last.
    Numbers(u16, u16),
}

/// What labels have to be like. An empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels with their values, all of them.
    pub labels: Labels,
    /// Conditions, all of them.
    pub expressions: Vec<LabelExpression>,
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelExpression {
    /// The label's key.
    pub key: String,
    /// The condition.
    pub operator: LabelOperator,
}

/// What a label is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelOperator {
    /// It is there, with one of these values.
    In(Vec<String>),
    /// It is not there, or has none of these values.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether labels are as it wants them.
    pub fn matches(&self, labels: &Labels) -> bool {
        has_all(labels, &self.labels) && self.expressions.iter().all(|expression| expression.holds(labels))
    }
}

impl LabelExpression {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            LabelOperator::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelOperator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

/// Whether `labels` has every one of `wanted`.
pub fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
