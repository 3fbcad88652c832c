//! The first table: every kind of object, written by each of those who may write it. A cell is whom that changes.

use super::{
    Case, What,
    page::{self, Told},
    parts,
    scene::{
        DEFAULT, LABELS, NAMESPACES, OUTSIDE, ROOT, SOMEWHERE, Text, later, namespace, namespace_file, netns,
        object, pod, pod_object, tenant, tenant_file, vip,
    },
};

/// Who writes, as the columns have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// Who has a namespace writes in it.
    Owner(&'static str),
    /// The platform writes an object that names no namespace.
    Platform,
}

impl Writer {
    /// In the order of the columns.
    pub(crate) const ALL: [Self; 5] =
        [Self::Owner("bank"), Self::Owner("shop"), Self::Owner("forum"), Self::Owner(ROOT), Self::Platform];

    /// The column's name.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Owner("bank") => "`bank`, whose Service it is",
            Self::Owner("shop") => "`shop`, who calls it",
            Self::Owner("forum") => "`forum`, who does not",
            Self::Owner(_) => "the mesh's root namespace",
            Self::Platform => "the platform, in no namespace",
        }
    }

    /// As the manifest names it, and of which it is then.
    fn namespace(self) -> (&'static str, &'static str) {
        match self {
            Self::Owner(of) => (of, of),
            Self::Platform => ("", DEFAULT),
        }
    }
}

/// What somebody writes, of which namespace it is, and calls to whom it is about.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) of: &'static str,
    pub(crate) said: Vec<Text>,
    pub(crate) calls: Vec<What>,
}

/// A row: what the page calls it, and what each writer writes.
pub(crate) type Row = (&'static str, fn(Writer) -> Written);

pub(crate) const ROWS: [Row; 19] = [
    ("HTTPRoute, its parent `bank`'s Service", |by| {
        one(by, "HTTPRoute", "name: web", |_| route("bank", "")).about(|_| vec![What::Calls("bank")])
    }),
    ("HTTPRoute, its parent a Service of its own namespace", |by| {
        one(by, "HTTPRoute", "name: web", |of| route(of, "bank")).about(own)
    }),
    ("GRPCRoute, its parent `bank`'s Service", |by| {
        one(by, "GRPCRoute", "name: web", |_| route("bank", "")).about(|_| vec![What::Calls("bank")])
    }),
    ("GRPCRoute, its parent a Service of its own namespace", |by| {
        one(by, "GRPCRoute", "name: web", |of| route(of, "bank")).about(own)
    }),
    (GRANT, |by| {
        let spec = "spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service}]}";
        one(by, GRANT, "name: web", |_| spec.into())
    }),
    ("AuthorizationPolicy", |by| {
        one(by, "AuthorizationPolicy", "name: web", |_| "spec: {action: DENY, rules: [{}]}".into())
    }),
    ("AuthorizationPolicy with a selector", |by| {
        let spec = "spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}";
        one(by, "AuthorizationPolicy", "name: web", |_| spec.into())
    }),
    ("AuthorizationPolicy with a target", |by| {
        let spec = "spec: {targetRefs: [{group: '', kind: Service, name: web}], action: DENY, rules: [{}]}";
        one(by, "AuthorizationPolicy", "name: web", |_| spec.into())
    }),
    ("PeerAuthentication", |by| {
        one(by, "PeerAuthentication", "name: web", |_| "spec: {mtls: {mode: STRICT}}".into())
    }),
    ("PeerAuthentication with a selector", |by| {
        let spec = "spec: {selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}";
        one(by, "PeerAuthentication", "name: web", |_| spec.into())
    }),
    ("NetworkPolicy, of what may come", |by| {
        let spec = "spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}";
        one(by, "NetworkPolicy", "name: web", |_| spec.into())
    }),
    ("NetworkPolicy, of what may go", |by| {
        let spec = "spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}";
        one(by, "NetworkPolicy", "name: web", |_| spec.into()).about(others)
    }),
    ("ServiceEntry", |by| one(by, "ServiceEntry", "name: web", |_| entry("")).about(|_| vec![What::Outside])),
    ("Service, whatever its selector picks", |by| {
        one(by, "Service", "name: more", |of| service(&vip("more", of), "")).about(own)
    }),
    ("EndpointSlice of its own pods and of addresses outside", |by| {
        one(by, "EndpointSlice", SLICE, |of| slice(&[&pod("web", of), &pod("far", of), SOMEWHERE])).about(own)
    }),
    ("Pod, whatever its labels are", |by| {
        let (named, of) = by.namespace();
        let metadata = format!("{LABELS}, annotations: {{{}}}", netns("more", of));
        let text = pod_object("more", of, &metadata, "").replace(&format!(", namespace: {of}"), &in_(named));
        Written { of, said: vec![said(&text)], calls: own(of) }
    }),
    ("ServiceAccount", |by| one(by, "ServiceAccount", "name: more", |_| String::new())),
    ("Namespace, its labels, its Tenant `egress: mesh`", |by| {
        let of = if by == Writer::Platform { "bank" } else { by.namespace().1 };
        Written { of, said: vec![(namespace_file(of), namespace(of, "team: web"))], calls: own(of) }
    }),
    ("Tenant, which lists `bank`", |by| {
        let spec = "egress: any, isolation: process";
        let text = tenant("bank", "bank", spec);
        let (of, said) = match by {
            Writer::Platform => ("bank", (tenant_file("bank"), text)),
            Writer::Owner(of) => {
                (of, said(&text.replace("name: bank", &format!("name: bank, namespace: {of}"))))
            }
        };
        Written { of, said: vec![said], calls: vec![What::Outside] }
    }),
];

/// Of which Services need none.
const GRANT: &str = "ReferenceGrant";

/// Every cell of the table.
pub(crate) fn cases() -> Vec<Case> {
    let table = page::table(page::OBJECTS);
    let of_row = |(name, write): &Row| {
        let row = table.iter().find(|row| row[0] == *name);
        let row = row.unwrap_or_else(|| panic!("the page has no row {name:?}"));
        assert_eq!(row.len(), 1 + Writer::ALL.len(), "{name}: a writer is missing");
        let cell = |(by, words): (Writer, &&'static str)| case(name, by, words, write(by));
        Writer::ALL.into_iter().zip(&row[1..]).map(cell).collect::<Vec<_>>()
    };
    ROWS.iter().flat_map(of_row).collect()
}

fn case(name: &str, by: Writer, words: &str, written: Written) -> Case {
    let Written { of, said, calls } = written;
    let refused = Told { severity: "rejected", reason: "invalid-value", says: "is cluster-scoped" };
    let no_use = Told { severity: "not-obeyed", reason: "not-obeyed", says: "without effect in the mesh" };
    let told = match words {
        "refused" => vec![refused],
        _ if name == GRANT => vec![no_use],
        _ => Vec::new(),
    };
    let changes = parts(words, of, &calls);
    Case { name: format!("{name}, by {}", by.column()), of, given: Vec::new(), said, changes, told }
}

impl Written {
    fn about(self, calls: fn(&'static str) -> Vec<What>) -> Self {
        Self { calls: calls(self.of), ..self }
    }
}

/// Calls to the namespace's own Services.
pub(crate) fn own(of: &'static str) -> Vec<What> {
    vec![What::Calls(of)]
}

fn others(of: &'static str) -> Vec<What> {
    NAMESPACES.into_iter().filter(|other| *other != of).map(What::Calls).collect()
}

fn one(by: Writer, kind: &str, metadata: &str, body: impl Fn(&'static str) -> String) -> Written {
    let (named, of) = by.namespace();
    Written { of, said: vec![said(&object(kind, named, metadata, &body(of)))], calls: Vec::new() }
}

fn in_(namespace: &str) -> String {
    if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") }
}

/// A file that comes before all others, with an object that is younger than all others.
pub(crate) fn said(text: &str) -> Text {
    ("0-said.yaml".into(), later(text))
}

/// To a Service `web` of another namespace, or its own (""), with a copy to that of its own.
pub(crate) fn route(parent: &str, backend: &str) -> String {
    let of = |namespace| in_(namespace);
    format!(
        "spec: {{parentRefs: [{{group: '', kind: Service, name: web{}}}], rules: [{{backendRefs: [{{name: web, port: 80{}}}], \
         filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: web, port: 80}}}}}}]}}]}}",
        of(parent),
        of(backend)
    )
}

pub(crate) fn service(vip: &str, more: &str) -> String {
    format!(
        "spec: {{clusterIP: {vip}, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]{more}}}"
    )
}

/// What makes a slice one of the Service `web`.
pub(crate) const SLICE: &str = "name: web, labels: {kubernetes.io/service-name: web}";

pub(crate) fn slice(addresses: &[&str]) -> String {
    let family = if addresses.iter().any(|address| address.contains(':')) { "IPv6" } else { "IPv4" };
    let endpoints: Vec<_> = addresses.iter().map(|address| format!("{{addresses: ['{address}']}}")).collect();
    format!("addressType: {family}\nports: [{{port: 8080}}]\nendpoints: [{}]", endpoints.join(", "))
}

pub(crate) fn entry(more: &str) -> String {
    format!(
        "spec: {{hosts: [web.example.org], addresses: [{OUTSIDE}], ports: [{{number: 443, name: tls, protocol: TLS}}], \
         resolution: NONE{more}}}"
    )
}
