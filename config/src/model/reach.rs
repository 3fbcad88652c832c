//! How far connections to a Service go: to which of its endpoints, as seen from a node.
//!
//! What is said of it, by the Service and its EndpointSlices. Which endpoints that are on one node is decided where the node is known.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::NodeName;

/// Which endpoints connections may go to (`internalTrafficPolicy`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// All; those first that are meant for the caller's node or zone, where all say for whom they are.
    #[default]
    Cluster,
    /// Those on the caller's node, and no other's.
    Node,
}

/// Where an endpoint is, and for whom it is meant. Kept where something follows from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// The node it is on.
    pub node: Option<NodeName>,
    /// The nodes whose callers should go there (`hints.forNodes`); empty if nothing is said of nodes.
    pub for_nodes: Vec<NodeName>,
    /// The zones whose callers should go there (`hints.forZones`); empty if nothing is said of zones.
    pub for_zones: Vec<Zone>,
}

impl Topology {
    /// Where it is, if anything is known that has consequences.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}

/// Where a caller is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// The node, if it has a name.
    pub node: Option<NodeName>,
    /// The zone that it is in, if that is known.
    pub zone: Option<Zone>,
}

/// The name of a zone: a value of the label `topology.kubernetes.io/zone`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

/// The label that says in which zone a node is, and, copied from it, a pod.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Why a text is no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a label's value: 1 to 63 letters, digits, '-', '_' and '.', the first and the last of them a letter or digit"
)]
pub struct ZoneError;

impl TryFrom<String> for Zone {
    type Error = ZoneError;
    fn try_from(text: String) -> Result<Self, ZoneError> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let is_valid = bytes.len() <= 63 && outer(bytes.first()) && outer(bytes.last());
        if is_valid && bytes.iter().copied().all(inner) { Ok(Self(text)) } else { Err(ZoneError) }
    }
}

impl TryFrom<&str> for Zone {
    type Error = ZoneError;
    fn try_from(text: &str) -> Result<Self, ZoneError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_what_a_label_may_say() {
        for (text, is_one) in [
            ("europe-west1-b", true),
            ("Rack_7.A", true),
            ("7", true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a b", false),
            ("z\u{fc}rich", false),
        ] {
            assert_eq!(Zone::try_from(text).is_ok(), is_one, "{text}");
        }
        assert!(Zone::try_from("a".repeat(63)).is_ok() && Zone::try_from("a".repeat(64)).is_err());
    }
}
