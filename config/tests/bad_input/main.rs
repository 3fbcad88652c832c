//! What an author is told about bad input: the exact place, field and reason; and that neighbours live on.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Reason, Severity},
    store::{FileText, Options, Outcome, Store},
};

fn apply(text: &str) -> Outcome {
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    Store::new(Options::default()).apply(&files)
}

mod clashes;
mod grants;
mod grpc_routes;
mod large;
mod nothing;
mod pods;
mod policies;
mod routes;
mod services;
mod sources;

/// A manifest and the one rejection it must lead to.
struct Case {
    name: &'static str,
    manifest: &'static str,
    at: (u32, u32),
    field: &'static str,
    reason: Reason,
    says: &'static str,
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n";
const TENANT: &str = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: t}\nspec:\n";
const SLICE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: e\n  labels: {kubernetes.io/service-name: s}\naddressType: IPv4\n";

fn check(head: &str, cases: &[Case]) {
    for case in cases {
        let outcome = apply(&format!("{head}{}", case.manifest));
        let rejections: Vec<_> =
            outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected).collect();
        let [finding] = rejections[..] else { panic!("{}: not one rejection: {rejections:#?}", case.name) };
        let found = (finding.position.line, finding.position.column, finding.field.as_str(), finding.reason);
        assert_eq!(found, (case.at.0, case.at.1, case.field, case.reason), "{}: {finding}", case.name);
        assert!(finding.message.contains(case.says), "{}: {finding}", case.name);
        assert!(finding.excerpt.is_some(), "{}: no excerpt", case.name);
    }
}

const DOCUMENTS: &[Case] = &[
    Case {
        name: "list",
        manifest: "- a\n",
        at: (1, 1),
        field: "",
        reason: Reason::Malformed,
        says: "a mapping",
    },
    Case {
        name: "no kind",
        manifest: "apiVersion: v1\n",
        at: (1, 1),
        field: "kind",
        reason: Reason::MissingField,
        says: "kind",
    },
    Case {
        name: "no name",
        manifest: "apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {}\n",
        at: (4, 3),
        field: "metadata.name",
        reason: Reason::MissingField,
        says: "name",
    },
    Case {
        name: "a number for a name",
        manifest: "apiVersion: v1\nkind: Pod\nmetadata: {name: 5}\n",
        at: (3, 18),
        field: "metadata.name",
        reason: Reason::WrongType,
        says: "must be text, not the number 5: put it in quotes",
    },
    Case {
        name: "a boolean for a kind",
        manifest: "apiVersion: v1\nkind: true\nmetadata: {name: p}\n",
        at: (2, 7),
        field: "kind",
        reason: Reason::WrongType,
        says: "must be text, not the boolean true",
    },
    Case {
        name: "old version",
        manifest: "kind: HTTPRoute\napiVersion: gateway.networking.k8s.io/v1beta1\n",
        at: (2, 13),
        field: "apiVersion",
        reason: Reason::UnknownKind,
        says: "write gateway.networking.k8s.io/v1",
    },
    Case {
        name: "in a list",
        manifest: "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n",
        at: (4, 3),
        field: "items[0].apiVersion",
        reason: Reason::MissingField,
        says: "apiVersion",
    },
    Case {
        name: "list without items",
        manifest: "apiVersion: v1\nkind: List\nitem: []\n",
        at: (1, 1),
        field: "items",
        reason: Reason::MissingField,
        says: "items",
    },
    Case {
        name: "list of one kind without items",
        manifest: "apiVersion: v1\nkind: ServiceList\nspec: {}\n",
        at: (1, 1),
        field: "items",
        reason: Reason::MissingField,
        says: "A single one is of kind Service",
    },
    Case {
        name: "list of another version",
        manifest: "apiVersion: v2\nkind: List\nitems: []\n",
        at: (1, 13),
        field: "apiVersion",
        reason: Reason::UnknownKind,
        says: "write v1",
    },
    Case {
        name: "list of no list",
        manifest: "apiVersion: v1\nkind: List\nitems: {kind: Pod}\n",
        at: (3, 8),
        field: "items",
        reason: Reason::WrongType,
        says: "must be a list",
    },
];

const TENANTS: &[Case] = &[
    Case {
        name: "isolation",
        manifest: "  namespaces: [a]\n  isolation: vm\n",
        at: (6, 14),
        field: "spec.isolation",
        reason: Reason::InvalidValue,
        says: "thread or process",
    },
    Case {
        name: "quantity",
        manifest: "  namespaces: [a]\n  budget: {memory: {soft: 64mb}}\n",
        at: (6, 27),
        field: "spec.budget.memory.soft",
        reason: Reason::InvalidValue,
        says: "64Mi",
    },
    Case {
        name: "none at all",
        manifest: "  namespaces: [a]\n  budget: {connections: 0}\n",
        at: (6, 25),
        field: "spec.budget.connections",
        reason: Reason::InvalidValue,
        says: "a whole number from 1",
    },
    Case {
        name: "negative",
        manifest: "  namespaces: [a]\n  budget: {requestsPerSecond: -5}\n",
        at: (6, 31),
        field: "spec.budget.requestsPerSecond",
        reason: Reason::InvalidValue,
        says: "not the number -5",
    },
    Case {
        name: "thousandths of a byte",
        manifest: "  namespaces: [a]\n  budget: {memory: {hard: 512m}}\n",
        at: (6, 27),
        field: "spec.budget.memory.hard",
        reason: Reason::InvalidValue,
        says: "write 1Mi or more",
    },
    Case {
        name: "slow",
        manifest: "  namespaces: [a]\n  budget: {bytesPerSecond: {out: 10}}\n",
        at: (6, 34),
        field: "spec.budget.bytesPerSecond.out",
        reason: Reason::InvalidValue,
        says: "write 1k or more",
    },
    Case {
        name: "descriptors",
        manifest: "  namespaces: [a]\n  budget: {descriptors: 4}\n",
        at: (6, 25),
        field: "spec.budget.descriptors",
        reason: Reason::InvalidValue,
        says: "write 16 or more",
    },
    Case {
        name: "order",
        manifest: "  namespaces: [a]\n  budget: {connections: 5, connectionsPerWorkload: 6}\n",
        at: (6, 52),
        field: "spec.budget.connectionsPerWorkload",
        reason: Reason::InvalidValue,
        says: "must not be above connections",
    },
    Case {
        name: "misspelt",
        manifest: "  namespaces: [a]\n  budget: {requestPerSecond: 6}\n",
        at: (6, 12),
        field: "spec.budget.requestPerSecond",
        reason: Reason::UnknownField,
        says: "did you mean requestsPerSecond",
    },
    Case {
        name: "default with namespaces",
        manifest: "  globalDefault: true\n  namespaces: [a]\n",
        at: (6, 15),
        field: "spec.namespaces",
        reason: Reason::InvalidValue,
        says: "that no Tenant lists",
    },
    Case {
        name: "default with egress",
        manifest: "  globalDefault: true\n  egress: mesh\n",
        at: (6, 11),
        field: "spec.egress",
        reason: Reason::InvalidValue,
        says: "list those that it is for in another Tenant",
    },
    Case {
        name: "twice",
        manifest: "  namespaces: [a, a]\n",
        at: (5, 19),
        field: "spec.namespaces[1]",
        reason: Reason::Duplicate,
        says: "twice",
    },
    Case {
        name: "none",
        manifest: "  egress: any\n",
        at: (5, 3),
        field: "spec.namespaces",
        reason: Reason::MissingField,
        says: "namespaces",
    },
    Case {
        name: "yes",
        manifest: "  namespaces: yes\n",
        at: (5, 15),
        field: "spec.namespaces",
        reason: Reason::WrongType,
        says: "a list",
    },
];

const SLICES: &[Case] = &[
    Case {
        name: "loopback",
        manifest: "endpoints:\n- addresses: [127.0.0.1]\n",
        at: (8, 15),
        field: "endpoints[0].addresses[0]",
        reason: Reason::NotPermitted,
        says: "loopback",
    },
    Case {
        name: "link-local",
        manifest: "endpoints:\n- addresses: [169.254.1.1]\n",
        at: (8, 15),
        field: "endpoints[0].addresses[0]",
        reason: Reason::NotPermitted,
        says: "link-local",
    },
    Case {
        name: "family",
        manifest: "endpoints:\n- addresses: [\"fd00::1\"]\n",
        at: (8, 15),
        field: "endpoints[0].addresses[0]",
        reason: Reason::InvalidValue,
        says: "addressType",
    },
];

#[test]
fn documents_that_are_no_objects_are_refused_where_they_are() {
    check("", DOCUMENTS);
}

#[test]
fn tenants_and_slices_are_refused_at_the_field() {
    check(TENANT, TENANTS);
    check(SLICE, SLICES);
}

#[test]
fn what_is_rejected_is_not_besides_treated_as_something_else() {
    let outcome = apply(&format!("{TENANT}  namespaces: [a]\n  isolation: proces\n"));
    let said: Vec<_> = outcome.findings.iter().map(|finding| (finding.severity, &*finding.message)).collect();
    assert_eq!(said, [(Severity::Rejected, "must be thread or process, not the text \"proces\"")]);
    for class in ["thread", "process"] {
        let outcome = apply(&format!("{TENANT}  namespaces: [a]\n  isolation: {class}\n"));
        let about = |finding: &config::finding::Finding| finding.field == "spec.isolation";
        assert!(!outcome.findings.iter().any(about), "{:#?}", outcome.findings);
    }
}

#[test]
fn known_fields_that_are_not_obeyed_are_listed_and_the_object_is_accepted() {
    let outcome = apply(&format!(
        "{SERVICE}  trafficDistribution: Nearest\n  externalIPs: [1.2.3.4]\n  internalTrafficPolicy: Cluster\n  ports: [{{port: 80, nodePort: 30000}}]\n"
    ));
    let listed: Vec<_> = outcome
        .findings
        .iter()
        .map(|finding| (finding.severity, finding.position.line, &*finding.field))
        .collect();
    use Severity::NotObeyed;
    assert_eq!(
        listed,
        [
            (NotObeyed, 5, "spec.trafficDistribution"),
            (NotObeyed, 6, "spec.externalIPs"),
            (NotObeyed, 8, "spec.ports[0].nodePort"),
        ]
    );
    let service = outcome.mesh.services.values().next().unwrap();
    assert!(service.vips.is_empty(), "an external IP is never a virtual IP");
}

#[test]
fn other_kinds_are_listed_as_ignored() {
    let outcome = apply("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n");
    let finding = &outcome.findings[0];
    assert_eq!((finding.severity, finding.reason), (Severity::Ignored, Reason::UnknownKind));
}
