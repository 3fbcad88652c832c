//! From documents to objects: which kind a document is, and whom it names. Lists are taken apart here.

use std::sync::Arc;

use crate::{
    document::{Node, Value, shorten},
    finding::{ObjectRef, Position, Reason, Severity},
};

mod kind;

/// The kinds that Canopy reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Namespace,
    ServiceAccount,
    Pod,
    Service,
    EndpointSlice,
    HttpRoute,
    Tenant,
    AuthorizationPolicy,
    PeerAuthentication,
    NetworkPolicy,
    ServiceEntry,
}

impl Kind {
    pub(crate) const ALL: [Kind; 11] = [
        Self::Namespace,
        Self::ServiceAccount,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::HttpRoute,
        Self::Tenant,
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
        Self::NetworkPolicy,
        Self::ServiceEntry,
    ];

    /// Its name in manifests, and its type in the schema tables.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::HttpRoute => "HTTPRoute",
            Self::Tenant => "Tenant",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ServiceEntry => "ServiceEntry",
        }
    }

    /// The versions that are read, the one to write first.
    pub(crate) fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Namespace | Self::ServiceAccount | Self::Pod | Self::Service => &["v1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::HttpRoute => &["gateway.networking.k8s.io/v1"],
            Self::Tenant => &["canopy.mesh/v1alpha1"],
            Self::AuthorizationPolicy | Self::PeerAuthentication => {
                &["security.istio.io/v1", "security.istio.io/v1beta1"]
            }
            Self::NetworkPolicy => &["networking.k8s.io/v1"],
            Self::ServiceEntry => {
                &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"]
            }
        }
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Tenant)
    }
}

/// An object of a kind that is read, under the name its manifest gives it (checked when it is lowered).
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) name: ObjectRef,
    pub(crate) root: Node,
}

/// A document, or item of a list, that is no object of a kind that is read.
#[derive(Debug)]
pub(crate) struct NotAnObject {
    pub(crate) severity: Severity,
    pub(crate) reason: Reason,
    pub(crate) at: Position,
    pub(crate) field: String,
    pub(crate) message: String,
}

/// Takes a document apart into objects; more than one for a `kind: List`.
pub(crate) fn objects(root: Node) -> Vec<Result<Object, NotAnObject>> {
    let mut out = Vec::new();
    collect(root, "", &mut out);
    out
}

fn collect(mut root: Node, prefix: &str, out: &mut Vec<Result<Object, NotAnObject>>) {
    // An object of a kind that is read says so itself, under its name.
    if known_kind(&root).is_none()
        && let Some(merged) = kind::merged(&root, prefix)
    {
        out.push(Err(merged));
        return;
    }
    let is_list =
        root.text_of("kind").is_some_and(|kind| kind == "List") && root.text_of("apiVersion") == Some("v1");
    if !is_list || !prefix.is_empty() {
        out.push(identify(root, prefix));
        return;
    }
    let at = root.at;
    let items = root.entries_mut().iter_mut().find(|entry| entry.key == "items").map(|entry| &mut entry.node);
    let items = match items {
        Some(node) if matches!(node.value, Value::List(_) | Value::Null) => node.take_items(),
        Some(node) => {
            let message = format!("must be a list, not {}: start each item with \"- \"", node.describe());
            return out.push(Err(bad_items(node.at, Reason::WrongType, message)));
        }
        None => {
            let message = "required: a List has its objects in items".to_owned();
            return out.push(Err(bad_items(at, Reason::MissingField, message)));
        }
    };
    for (index, item) in items.into_iter().enumerate() {
        collect(item, &format!("items[{index}]"), out);
    }
}

fn bad_items(at: Position, reason: Reason, message: String) -> NotAnObject {
    NotAnObject { severity: Severity::Rejected, reason, at, field: "items".to_owned(), message }
}

fn identify(root: Node, prefix: &str) -> Result<Object, NotAnObject> {
    let reject = |at, field: &str, reason, message: String| NotAnObject {
        severity: Severity::Rejected,
        reason,
        at,
        field: [prefix, field].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("."),
        message,
    };
    let no_text = |node: &Node, field: &str| {
        let message = format!("must be text, not {}: put it in quotes", node.describe());
        reject(node.at, field, Reason::WrongType, message)
    };
    let missing = |field| match root.get(field) {
        Some(node) => no_text(node, field),
        None => {
            reject(root.at, field, Reason::MissingField, format!("required: every object says its {field}"))
        }
    };
    if root.entries().is_empty() {
        let message =
            format!("an object is a mapping with apiVersion, kind and metadata, not {}", root.describe());
        return Err(reject(root.at, "", Reason::Malformed, message));
    }
    let kind = root.text_of("kind").ok_or_else(|| missing("kind"))?;
    let api_version = root.text_of("apiVersion").ok_or_else(|| missing("apiVersion"))?;
    let Some(kind) = known(kind, api_version) else {
        return Err(kind::unknown(&root, kind, api_version, prefix));
    };
    let name = root.at_path(&["metadata", "name"]);
    let Some(name) =
        name.map(|node| node.text().ok_or_else(|| no_text(node, "metadata.name"))).transpose()?
    else {
        let at = root.get("metadata").unwrap_or(&root).at;
        let message = format!("required: give this {} a name", kind.as_str());
        return Err(reject(at, "metadata.name", Reason::MissingField, message));
    };
    let namespace = root.at_path(&["metadata", "namespace"]).and_then(Node::text).unwrap_or("default");
    let name = ObjectRef {
        kind: Arc::from(kind.as_str()),
        namespace: kind.is_namespaced().then(|| Arc::from(shorten(namespace))),
        name: Arc::from(name),
    };
    Ok(Object { kind, name, root })
}

fn known(kind: &str, api_version: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|known| known.as_str() == kind && known.api_versions().contains(&api_version))
}

fn known_kind(root: &Node) -> Option<Kind> {
    known(root.text_of("kind")?, root.text_of("apiVersion")?)
}
