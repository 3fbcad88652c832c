//! PeerAuthentication (security.istio.io): whether callers have to prove who they are.

use super::{
    Context, Meta,
    scope::{self, Home},
};
use crate::{
    document::Node,
    finding::{Reason, Severity},
    model::{PeerAuthentication, PeerMode, Scope},
    name::{PolicyName, RootNamespace},
};

const SPEC: [&str; 3] = ["mtls", "portLevelMtls", "selector"];

pub(super) fn lower(
    context: &mut Context<'_>,
    root: &Node,
    meta: Meta,
    root_namespace: &RootNamespace,
) -> Option<PeerAuthentication> {
    let namespace = meta.namespace?;
    let home = Home::new(&namespace, root_namespace);
    let spec = root.get("spec");
    let labels = spec.and_then(scope::selector);
    let of_all = spec.and_then(|spec| spec.get("mtls")).and_then(|node| mode(context, node));
    let ports = spec.and_then(|spec| spec.get("portLevelMtls"));
    if let (Some(node), None) = (ports, &labels) {
        context.invalid(node, "ports are for selected workloads only: add selector.matchLabels");
    }
    if let Some(node) = ports.filter(|node| node.entries().is_empty()) {
        context.invalid(node, "says nothing of any port: remove it, or add one");
    }
    let mut read = |entry: &crate::document::Entry| {
        // One port, one way of writing it: of "80" and "080" nobody could tell which counts.
        let is_plain = |port: &u16| *port > 0 && port.to_string() == entry.key;
        let number = entry.key.parse::<u16>().ok().filter(is_plain);
        if number.is_none() {
            let message =
                "the key must be a port between 1 and 65535, in digits alone: \"80\", not \"080\" or \"+80\"";
            context.invalid(&entry.node, message);
        }
        Some((number?, mode(context, &entry.node)))
    };
    let ports = ports.map_or(&[][..], Node::entries).iter().filter_map(&mut read).collect();
    // In the root namespace, too, a selector means that namespace's own workloads: so it is in Istio.
    let scope = labels.map_or_else(
        || home.whole(),
        |labels| Scope::Selected { namespace: Some(namespace.clone()), labels },
    );
    let name = PolicyName::new(namespace.clone(), meta.name);
    Some(PeerAuthentication { name, created: meta.created, scope, mode: of_all, ports, unreadable: false })
}

/// What is in force in the place of an object that cannot be read: nothing it could have said is stricter.
pub(super) fn unreadable(
    root: &Node,
    meta: Meta,
    root_namespace: &RootNamespace,
) -> Option<PeerAuthentication> {
    let namespace = meta.namespace?;
    let home = Home { is_root: false, ..Home::new(&namespace, root_namespace) };
    let scope = match scope::of_unreadable(root.get("spec"), home, &SPEC) {
        selected @ Scope::Selected { .. } => selected,
        _ => Home::new(&namespace, root_namespace).whole(),
    };
    Some(PeerAuthentication::unreadable(PolicyName::new(namespace.clone(), meta.name), scope))
}

fn mode(context: &mut Context<'_>, mtls: &Node) -> Option<PeerMode> {
    let node = mtls.get("mode")?;
    match node.text() {
        Some("UNSET") => None,
        Some("STRICT") => Some(PeerMode::Strict),
        Some("PERMISSIVE") => Some(PeerMode::Permissive),
        Some("DISABLE") => {
            let message =
                "treated as PERMISSIVE: plaintext is taken, and so is what comes through the tunnel";
            context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
            Some(PeerMode::Disable)
        }
        _ => {
            let message = format!("must be STRICT, PERMISSIVE, DISABLE or UNSET, not {}", node.describe());
            context.invalid(node, message);
            None
        }
    }
}
