//! Whom a security policy is about: `selector`, `targetRefs`, or the whole namespace or mesh.

use super::{Context, metadata};
use crate::{
    document::{Node, Value},
    finding::{Reason, Severity},
    model::{Labels, Scope},
    name::{Name, Namespace, RootNamespace, ServiceName},
};

/// The namespace of a policy, and whether it speaks for the whole mesh.
#[derive(Debug, Clone, Copy)]
pub(super) struct Home<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) is_root: bool,
}

impl<'a> Home<'a> {
    pub(super) fn new(namespace: &'a Namespace, root: &RootNamespace) -> Self {
        Self { namespace, is_root: *namespace == root.0 }
    }

    /// Everything it may speak for.
    pub(super) fn whole(self) -> Scope {
        if self.is_root { Scope::Mesh } else { Scope::Namespace(self.namespace.clone()) }
    }
}

/// The labels of `selector`; `None` where there is none, or it selects everything.
pub(super) fn selector(spec: &Node) -> Option<Labels> {
    let labels = metadata::texts(spec.at_path(&["selector", "matchLabels"]));
    (!labels.is_empty()).then_some(labels)
}

/// What `targetRef` and `targetRefs` name; `None` where there is neither.
pub(super) fn targets(context: &mut Context<'_>, spec: &Node, home: Home<'_>) -> Option<Vec<ServiceName>> {
    let single = spec.get("targetRef").into_iter();
    let nodes: Vec<&Node> = single.chain(spec.items_of("targetRefs")).collect();
    if let (Some(first), Some(_)) = (nodes.first(), spec.get("selector")) {
        context.invalid(first, "selector and targetRefs cannot stand together: remove one of them");
    }
    let services: Vec<ServiceName> = nodes.iter().filter_map(|node| target(context, node, home)).collect();
    (!nodes.is_empty()).then_some(services)
}

/// What else an AuthorizationPolicy may name (Istio 1.28). Another kind is a slip, and its policy must not vanish with it.
const OTHERS: [(&str, &str); 4] = [
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("inference.networking.k8s.io", "InferencePool"),
    ("networking.istio.io", "ServiceEntry"),
];

fn target(context: &mut Context<'_>, node: &Node, home: Home<'_>) -> Option<ServiceName> {
    if let Some(other) = node.get("namespace").filter(|other| other.text() != Some(home.namespace.as_str())) {
        context.reject(other, Reason::NotPermitted, "a target is in the policy's own namespace: remove this");
        return None;
    }
    let kind = node.text_of("kind").unwrap_or_default();
    let group = node.text_of("group").unwrap_or_default();
    if !(kind == "Service" && matches!(group, "" | "core")) {
        if !OTHERS.contains(&(group, kind)) {
            let message = "must be a Service (group \"\"): nobody has policies about such a kind";
            context.invalid(node.get("kind").unwrap_or(node), message);
            return None;
        }
        let message = format!("a {kind} of group {group:?} is not Canopy's: whoever runs it enforces this");
        context.note(Severity::NotObeyed, Reason::NotObeyed, node, message);
        return None;
    }
    let name: Name = context.name(node.get("name")?)?;
    Some(ServiceName::new(home.namespace.clone(), name))
}

/// The scope of an object that was rejected: its target where that can be read beyond doubt, else everything that it
/// may speak for. `known` are the fields that its `spec` may have: behind a slip of the pen there may be a selector.
pub(super) fn of_unreadable(spec: Option<&Node>, home: Home<'_>, known: &[&str]) -> Scope {
    let Some(spec) = spec else { return home.whole() };
    let understood = spec.entries().iter().all(|entry| known.contains(&entry.key.as_str()));
    let once = |key: &str| spec.entries().iter().filter(|entry| entry.key == key).count() == 1;
    let labels = spec.get("selector").filter(|_| once("selector")).and_then(plain_selector);
    match labels {
        Some(labels) if understood => {
            Scope::Selected { namespace: (!home.is_root).then(|| home.namespace.clone()), labels }
        }
        _ => home.whole(),
    }
}

/// The labels of a selector that holds nothing but labels.
fn plain_selector(selector: &Node) -> Option<Labels> {
    let [only] = selector.entries() else { return None };
    let entries = only.node.entries();
    let is_text = |node: &Node| matches!(node.value, Value::Text(_));
    let plain = only.key == "matchLabels" && entries.iter().all(|entry| is_text(&entry.node));
    let labels = metadata::texts(Some(&only.node));
    (plain && !labels.is_empty() && labels.len() == entries.len()).then_some(labels)
}
