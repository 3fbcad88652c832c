//! Whether a mesh's data plane answers for a pod: what the pod itself says of it.
//!
//! The other half, the namespace's label, is `link`'s: it is another object's word.

use serde::{Deserialize, Serialize};

use crate::{
    document::Node,
    finding::{Reason, Severity},
    lower::{Context, Place, metadata},
    opt_in::{self, Runtime},
};

/// What a pod says of its membership in the mesh, its label `canopy.mesh/mode: off` aside: whether that is obeyed depends on
/// its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Membership {
    /// It is in: it names its network namespace, or another mesh of the same protocol serves it.
    On,
    /// It says nothing: its namespace decides.
    AsNamespace,
}

/// Written by an ambient mesh on pods whose traffic it has taken over.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Says that a pod takes the tunnel's protocol by itself.
const TUNNEL: &str = "networking.istio.io/tunnel";

pub(super) fn read(context: &mut Context<'_>, root: &Node, is_sandboxed: bool) -> Membership {
    let label = |key| root.at_path(&["metadata", "labels", key]);
    let netns = metadata::annotation(root, metadata::NETNS);
    let known = [metadata::MODE_OFF, metadata::MODE_NODE].map(Some);
    if let Some(mode) = label(metadata::MODE).filter(|mode| !known.contains(&mode.text())) {
        let message = "does nothing: the mode of a pod is node or off, or what its namespace says";
        context.note(Severity::NotObeyed, Reason::NotObeyed, mode, message);
    }
    let redirected = metadata::annotation(root, REDIRECTION).and_then(Node::text) == Some("enabled");
    let tunnels = label(TUNNEL).and_then(Node::text) == Some("http");
    // What is within a sandbox cannot be captured, wherever its network namespace is.
    let captured = netns.is_some() && !is_sandboxed;
    if captured || redirected || tunnels { Membership::On } else { Membership::AsNamespace }
}

/// The sandbox with a network stack of its own that a pod runs in, if it does.
pub(super) fn sandbox(context: &Context<'_>, root: &Node) -> Option<(String, Place)> {
    let class = root.at_path(&["spec", "runtimeClassName"])?;
    let overhead = root.at_path(&["spec", "overhead"]);
    let runtime = Runtime {
        class: class.text(),
        handler: metadata::annotation(root, opt_in::RUNTIME_HANDLER).and_then(Node::text),
        overhead: overhead.is_some_and(|overhead| !overhead.entries().is_empty()),
    };
    Some((opt_in::sandbox(&runtime)?.to_owned(), context.place(class)))
}

/// Where a pod says that it is out, whatever its namespace says.
pub(super) fn off_place(context: &Context<'_>, root: &Node) -> Option<Place> {
    let mode = root.at_path(&["metadata", "labels", metadata::MODE])?;
    (mode.text() == Some(metadata::MODE_OFF)).then(|| context.place(mode))
}
