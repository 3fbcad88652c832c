//! Whether a mesh's data plane answers for a pod: what the pod itself says of it.
//!
//! The other half, the namespace's label, is `link`'s: it is another object's word.

use serde::{Deserialize, Serialize};

use crate::{
    document::Node,
    lower::{Context, Place, metadata},
    opt_in::{self, Runtime},
};

/// What a pod says of its membership in the mesh, its label `canopy.mesh/mode: off` aside: whether that is obeyed depends on
/// its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Membership {
    /// Another mesh of the same protocol serves it.
    Elsewhere,
    /// It says nothing of that: labels decide, or the network namespace that it names in a file.
    AsLabelled,
}

/// Written by an ambient mesh on pods whose traffic it has taken over.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Says that a pod takes the tunnel's protocol by itself.
const TUNNEL: &str = "networking.istio.io/tunnel";

pub(super) fn read(context: &mut Context<'_>, root: &Node) -> Membership {
    let label = |key| root.at_path(&["metadata", "labels", key]);
    metadata::check_mode(context, root, "pod");
    let redirected = metadata::annotation(root, REDIRECTION).and_then(Node::text) == Some("enabled");
    let tunnels = label(TUNNEL).and_then(Node::text) == Some("http");
    if redirected || tunnels { Membership::Elsewhere } else { Membership::AsLabelled }
}

/// The sandbox with a network stack of its own that a pod runs in, if it does.
pub(super) fn sandbox(context: &Context<'_>, root: &Node) -> Option<(String, Place)> {
    let class = root.at_path(&["spec", "runtimeClassName"]);
    let handler = metadata::annotation(root, opt_in::RUNTIME_HANDLER);
    let overhead = root.at_path(&["spec", "overhead"]);
    let runtime = Runtime {
        class: class.and_then(Node::text),
        handler: handler.and_then(Node::text),
        overhead: overhead.is_some_and(|overhead| !overhead.entries().is_empty()),
    };
    // What a runtime runs by default has no class.
    let place = context.place(class.or(handler)?);
    Some((opt_in::sandbox(&runtime)?.to_owned(), place))
}

/// Whether it has the container of a sidecar.
pub(super) fn has_sidecar(spec: &Node) -> bool {
    let is_one =
        |container: &Node| opt_in::is_sidecar(container.text_of("name"), container.text_of("restartPolicy"));
    spec.items_of("initContainers").iter().any(is_one)
}

/// Where a pod says that it is out, whatever its namespace says.
pub(super) fn off_place(context: &Context<'_>, root: &Node) -> Option<Place> {
    let mode = root.at_path(&["metadata", "labels", metadata::MODE])?;
    (mode.text() == Some(metadata::MODE_OFF)).then(|| context.place(mode))
}
