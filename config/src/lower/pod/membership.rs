//! Whether a mesh's data plane answers for a pod: what the pod itself says of it.
//!
//! The other half, the namespace's label, is `link`'s: it is another object's word.

use crate::{
    document::Node,
    finding::{Reason, Severity},
    lower::{Context, metadata},
};

/// What a pod says of its membership in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It is out, whatever its namespace says (label `canopy.mesh/mode: off`).
    Off,
    /// It is in: it names its network namespace, or another mesh of the same protocol serves it.
    On,
    /// It says nothing: its namespace decides.
    AsNamespace,
}

/// Written by an ambient mesh on pods whose traffic it has taken over.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Says that a pod takes the tunnel's protocol by itself.
const TUNNEL: &str = "networking.istio.io/tunnel";

pub(super) fn read(context: &mut Context<'_>, root: &Node) -> Membership {
    let label = |key| root.at_path(&["metadata", "labels", key]);
    let netns = metadata::annotation(root, metadata::NETNS);
    match label(metadata::MODE) {
        Some(mode) if mode.text() == Some(metadata::MODE_OFF) => {
            if let Some(node) = netns {
                let message = "the pod is out of the mesh by its label canopy.mesh/mode: it is not captured";
                context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
            }
            return Membership::Off;
        }
        Some(mode) if mode.text() != Some(metadata::MODE_NODE) => {
            let message = "does nothing: the mode of a pod is off, or what its namespace says";
            context.note(Severity::NotObeyed, Reason::NotObeyed, mode, message);
        }
        _ => {}
    }
    let redirected = metadata::annotation(root, REDIRECTION).and_then(Node::text) == Some("enabled");
    let tunnels = label(TUNNEL).and_then(Node::text) == Some("http");
    if netns.is_some() || redirected || tunnels { Membership::On } else { Membership::AsNamespace }
}
