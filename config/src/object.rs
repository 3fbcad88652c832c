//! From documents to objects: which kind a document is, and whom it names. Lists are taken apart here.

use std::sync::Arc;

use crate::{
    document::{Entry, Node, Value, shorten},
    finding::{ObjectRef, Position, Reason, Severity},
    suspect::{self, Found},
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
    GrpcRoute,
    ReferenceGrant,
    Tenant,
    AuthorizationPolicy,
    PeerAuthentication,
    NetworkPolicy,
    ServiceEntry,
}

impl Kind {
    pub(crate) const ALL: [Kind; 13] = [
        Self::Namespace,
        Self::ServiceAccount,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::ReferenceGrant,
        Self::Tenant,
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
        Self::NetworkPolicy,
        Self::ServiceEntry,
    ];

    /// Those whose objects protect something: what may have been one of them never vanishes.
    pub(crate) const SECURITY: [Kind; 3] =
        [Self::AuthorizationPolicy, Self::PeerAuthentication, Self::NetworkPolicy];

    /// That of an object; `None` of one that is not read.
    pub(crate) fn of(object: &ObjectRef) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == &*object.kind)
    }

    /// Whether what may have been such an object never vanishes: a security object, or a Tenant, which may keep its
    /// namespaces to the mesh.
    pub(crate) fn protects(self) -> bool {
        self == Self::Tenant || Self::SECURITY.contains(&self)
    }

    /// Its name in manifests, and its type in the schema tables.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::ReferenceGrant => "ReferenceGrant",
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
            Self::HttpRoute | Self::GrpcRoute => &["gateway.networking.k8s.io/v1"],
            Self::ReferenceGrant => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
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

    /// Whether owners write it, as opposed to what controllers make, or what says who somebody is: that counts against a budget.
    pub(crate) fn is_configuration(self) -> bool {
        match self {
            Self::Service
            | Self::HttpRoute
            | Self::GrpcRoute
            | Self::ReferenceGrant
            | Self::AuthorizationPolicy
            | Self::PeerAuthentication
            | Self::NetworkPolicy
            | Self::ServiceEntry => true,
            Self::Namespace | Self::ServiceAccount | Self::Pod | Self::EndpointSlice | Self::Tenant => false,
        }
    }

    /// Whether Kubernetes itself has it, and it says what is there and not what may be: whoever reads it without a field knows less
    /// of it, and nothing wrong.
    pub(crate) fn is_fact(self) -> bool {
        matches!(
            self,
            Self::Namespace | Self::ServiceAccount | Self::Pod | Self::Service | Self::EndpointSlice
        )
    }

    fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Tenant)
    }
}

/// The kinds that are read, as manifests name them.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    Kind::ALL.into_iter().map(Kind::as_str)
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
    /// The security objects that it may have been.
    pub(crate) found: Found,
}

/// Takes a document apart into objects; more than one for a list.
pub(crate) fn objects(root: Node) -> Vec<Result<Object, NotAnObject>> {
    let mut out = Vec::new();
    collect(root, ("", None), &mut out);
    out
}

/// `of` is the kind of the list that this is an item of, if it has one.
fn collect(mut root: Node, (prefix, of): (&str, Option<Kind>), out: &mut Vec<Result<Object, NotAnObject>>) {
    // An object of a kind that is read says so itself, under its name.
    if known_kind(&root).is_none()
        && let Some(merged) = kind::merged(&root, prefix)
    {
        out.push(Err(suspicious(merged, &root, of)));
        return;
    }
    let Some(list) = list(&root) else {
        let object = identify(&root, prefix);
        out.push(match object {
            Ok((kind, name)) => Ok(Object { kind, name, root }),
            Err(defect) => Err(suspicious(defect, &root, of)),
        });
        return;
    };
    let items = match items(&root, &list, prefix) {
        Ok(()) => root.entries_mut().iter_mut().find(|entry| entry.key == "items"),
        Err(defect) => {
            out.push(Err(suspicious(defect, &root, of)));
            return;
        }
    };
    let items = items.map(|entry| entry.node.take_items()).unwrap_or_default();
    for (index, mut item) in items.into_iter().enumerate() {
        list.inherit(&mut item);
        let kind = list.of.as_ref().map(|(kind, _)| *kind);
        collect(item, (&join(prefix, &format!("items[{index}]")), kind), out);
    }
}

/// A list of objects, as `kubectl get -o yaml` writes it, or of one kind, as the API server sends it.
struct List {
    /// Kind and version of items that do not say theirs.
    of: Option<(Kind, String)>,
}

fn list(root: &Node) -> Option<List> {
    let (kind, api_version) = (root.text_of("kind")?, root.text_of("apiVersion")?);
    if kind == "List" {
        return (api_version == "v1").then_some(List { of: None });
    }
    let kind = known(kind.strip_suffix("List")?, api_version)?;
    Some(List { of: Some((kind, api_version.to_owned())) })
}

impl List {
    fn inherit(&self, item: &mut Node) {
        let Some((kind, api_version)) = &self.of else { return };
        let at = item.at;
        let Value::Map(entries) = &mut item.value else { return };
        for (key, text) in [("kind", kind.as_str()), ("apiVersion", api_version)] {
            if !entries.iter().any(|entry| entry.key == key) {
                let node = Node { value: Value::Text(text.to_owned()), at };
                entries.push(Entry { key: key.to_owned(), at, node });
            }
        }
    }
}

/// Whether a list has its items where they belong.
fn items(root: &Node, list: &List, prefix: &str) -> Result<(), NotAnObject> {
    let mut all = root.entries().iter().filter(|entry| entry.key == "items");
    let items = all.next().map(|entry| &entry.node);
    let reject = |at, reason, message| Err(rejected(at, join(prefix, "items"), reason, message));
    if let Some(second) = all.next() {
        return reject(second.at, Reason::Duplicate, "given twice: make one list of both".to_owned());
    }
    match (items, &list.of) {
        (Some(Node { value: Value::List(_) | Value::Null, .. }), _) => Ok(()),
        (Some(node), _) => {
            let message = format!("must be a list, not {}: start each item with \"- \"", node.describe());
            reject(node.at, Reason::WrongType, message)
        }
        (None, None) => {
            let message = "required: a List has its objects in items".to_owned();
            reject(root.at, Reason::MissingField, message)
        }
        (None, Some((kind, _))) => {
            let kind = kind.as_str();
            let message =
                format!("required: a {kind}List has its objects in items. A single one is of kind {kind}");
            reject(root.at, Reason::MissingField, message)
        }
    }
}

/// Adds what a part may have been. A part that is not for Canopy is looked into as well where it has items: kubectl
/// would take it apart.
fn suspicious(mut defect: NotAnObject, root: &Node, of: Option<Kind>) -> NotAnObject {
    let has_items = root.get("items").is_some_and(|items| matches!(items.value, Value::List(_)));
    if defect.severity == Severity::Rejected || has_items {
        defect.found = suspect::in_item(root, of);
    }
    if defect.severity != Severity::Rejected && !defect.found.is_empty() {
        defect.severity = Severity::Rejected;
        defect.message =
            "has policies in items, and is no list that is read: write kind: List and apiVersion: v1"
                .to_owned();
    }
    defect
}

fn rejected(at: Position, field: String, reason: Reason, message: String) -> NotAnObject {
    NotAnObject { severity: Severity::Rejected, reason, at, field, message, found: Found::default() }
}

fn join(prefix: &str, field: &str) -> String {
    [prefix, field].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".")
}

fn identify(root: &Node, prefix: &str) -> Result<(Kind, ObjectRef), NotAnObject> {
    let reject = |at, field: &str, reason, message| rejected(at, join(prefix, field), reason, message);
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
        return Err(kind::unknown(root, kind, api_version, prefix));
    };
    let name = root.at_path(&["metadata", "name"]);
    let Some(name) =
        name.map(|node| node.text().ok_or_else(|| no_text(node, "metadata.name"))).transpose()?
    else {
        let at = root.get("metadata").unwrap_or(root).at;
        let message = format!("required: give this {} a name", kind.as_str());
        return Err(reject(at, "metadata.name", Reason::MissingField, message));
    };
    let namespace = root.at_path(&["metadata", "namespace"]).and_then(Node::text);
    // One that names a namespace and can have none is refused, and must not be taken for the one of its name.
    let namespace = namespace.or(kind.is_namespaced().then_some("default"));
    let name = ObjectRef {
        kind: Arc::from(kind.as_str()),
        namespace: namespace.map(|namespace| Arc::from(shorten(namespace))),
        name: Arc::from(name),
    };
    Ok((kind, name))
}

fn known(kind: &str, api_version: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|known| known.as_str() == kind && known.api_versions().contains(&api_version))
}

fn known_kind(root: &Node) -> Option<Kind> {
    known(root.text_of("kind")?, root.text_of("apiVersion")?)
}
