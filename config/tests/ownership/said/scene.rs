//! Who is there before anybody writes anything: tenants that call everything by the same names.
//!
//! In every namespace there are the pods `web`, on the node that reads, and `far`, on another one, with the same labels, and a
//! Service `web` of both. All tenants are kept to the mesh, so that it can be seen what opens anything outside.

use std::fmt::Write as _;

/// `bank` has a Service; `shop`, and `shop-too` of the same tenant, call it; `forum` has nothing to do with either;
/// `istio-system` is the mesh's root namespace, and `default` where objects are that name none.
pub(crate) const NAMESPACES: [&str; 6] = ["bank", "shop", "shop-too", "forum", ROOT, DEFAULT];
pub(crate) const ROOT: &str = "istio-system";
pub(crate) const DEFAULT: &str = "default";
/// The node that reads, an address of its own, and the one that a pod calls its node's.
pub(crate) const NODE: &str = "here";
pub(crate) const OWN_ADDRESS: &str = "192.0.2.2";
pub(crate) const NODE_ADDRESS: &str = "192.0.2.1";
/// Outside: one to be opened by an entry, one that a slice may name.
pub(crate) const OUTSIDE: &str = "203.0.113.9";
pub(crate) const SOMEWHERE: &str = "203.0.113.8";

/// A file's name and text.
pub(crate) type Text = (String, String);

/// The tenant of a namespace.
pub(crate) fn tenant_of(namespace: &str) -> &str {
    match namespace {
        "shop-too" => "shop",
        other => other,
    }
}

/// The pods' addresses, in the order of their names: `far`, `more` (of whoever writes one), `web`.
pub(crate) fn pod(name: &str, of: &str) -> String {
    let last = match name {
        "web" => 1,
        "far" => 2,
        _ => 3,
    };
    format!("10.0.{}.{last}", number(of))
}

/// The Services' addresses: `web`, and `more` of whoever writes one.
pub(crate) fn vip(name: &str, of: &str) -> String {
    format!("10.96.{}.{}", u8::from(name != "web"), number(of))
}

fn number(of: &str) -> usize {
    1 + NAMESPACES.iter().position(|namespace| *namespace == of).unwrap_or(NAMESPACES.len())
}

/// An object of a namespace, or of none (""), with whatever else its metadata say.
pub(crate) fn object(kind: &str, of: &str, metadata: &str, body: &str) -> String {
    let api = match kind {
        "HTTPRoute" | "GRPCRoute" | "ReferenceGrant" => "gateway.networking.k8s.io/v1",
        "AuthorizationPolicy" | "PeerAuthentication" => "security.istio.io/v1",
        "NetworkPolicy" => "networking.k8s.io/v1",
        "ServiceEntry" => "networking.istio.io/v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Tenant" => "canopy.mesh/v1alpha1",
        _ => "v1",
    };
    let namespace = if of.is_empty() { String::new() } else { format!(", namespace: {of}") };
    format!("---\napiVersion: {api}\nkind: {kind}\nmetadata: {{{metadata}{namespace}, {CREATED}}}\n{body}\n")
}

const CREATED: &str = "creationTimestamp: '2026-01-01T00:00:00Z'";

/// The same objects, by their word made a month later.
pub(crate) fn later(text: &str) -> String {
    text.replace("'2026-01-", "'2026-02-")
}

/// The same, which say that they are older than all that is there.
pub(crate) fn older(texts: &[Text]) -> Vec<Text> {
    texts.iter().map(|(name, text)| (name.clone(), text.replace("'2026-", "'2025-"))).collect()
}

/// A pod on the node that reads; `more` of its metadata and its spec.
pub(crate) fn pod_object(name: &str, of: &str, metadata: &str, spec: &str) -> String {
    let address = pod(name, of);
    let body = format!(
        "spec: {{nodeName: {NODE}, serviceAccountName: app, containers: [{{name: c}}]{spec}}}\nstatus: {{podIP: {address}}}"
    );
    object("Pod", of, &format!("name: {name}, {metadata}"), &body)
}

/// Its network namespace, as an annotation.
pub(crate) fn netns(name: &str, of: &str) -> String {
    format!("canopy.mesh/netns: /run/netns/{of}-{name}")
}

pub(crate) const LABELS: &str = "labels: {app: web}";

/// The files of the scene.
pub(crate) fn files() -> Vec<Text> {
    let mut files: Vec<Text> =
        NAMESPACES.into_iter().map(|of| (format!("{of}.yaml"), of_namespace(of))).collect();
    files.extend(
        NAMESPACES.into_iter().map(|of| (namespace_file(of), namespace(of, "canopy.mesh/mode: node"))),
    );
    for of in NAMESPACES.into_iter().filter(|of| tenant_of(of) == *of) {
        let own: Vec<_> = NAMESPACES.into_iter().filter(|namespace| tenant_of(namespace) == of).collect();
        files.push((tenant_file(of), tenant(of, &own.join(", "), "egress: mesh")));
    }
    files
}

/// The file that has a Namespace, and nothing else.
pub(crate) fn namespace_file(of: &str) -> String {
    format!("namespace-{of}.yaml")
}

pub(crate) fn namespace(of: &str, labels: &str) -> String {
    object("Namespace", "", &format!("name: {of}, labels: {{{labels}}}"), "")
}

/// The file that has a Tenant, and nothing else.
pub(crate) fn tenant_file(of: &str) -> String {
    format!("tenant-{of}.yaml")
}

pub(crate) fn tenant(name: &str, namespaces: &str, spec: &str) -> String {
    object("Tenant", "", &format!("name: {name}"), &format!("spec: {{namespaces: [{namespaces}], {spec}}}"))
}

fn of_namespace(of: &str) -> String {
    let mut text = object("ServiceAccount", of, "name: app", "");
    let annotations = format!("{LABELS}, annotations: {{{}}}", netns("web", of));
    let here = pod_object("web", of, &annotations, "");
    let far = pod_object("far", of, LABELS, "").replace(&format!("nodeName: {NODE}"), "nodeName: there");
    let service = format!(
        "spec: {{clusterIP: {}, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}",
        vip("web", of)
    );
    let service = object("Service", of, "name: web", &service);
    let _ = write!(text, "{here}{far}{service}");
    match of {
        // One of whose policies it matters what other namespaces are called.
        "bank" => text + &object("NetworkPolicy", of, "name: callers", BANK_POLICY),
        "shop" => text.replace("status: {", &format!("status: {{hostIP: {NODE_ADDRESS}, ")),
        _ => text,
    }
}

const BANK_POLICY: &str = "spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: \
    {matchLabels: {kubernetes.io/metadata.name: shop}}}]}]}";
