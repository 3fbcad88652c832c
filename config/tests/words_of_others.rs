//! An object that its author may write closes nothing beyond its own namespace, whatever words it has in it: not when its
//! document is too large or too deep to be read, and not when its file is.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    Limits,
    finding::Severity,
    model::{Action, Scope},
    store::{FileText, Options, Store},
};

/// What is closed, where files are read within these limits: `shop`, or `*` for the mesh.
fn closed(text: &str, limits: Limits) -> Vec<String> {
    let mut store = Store::new(Options { limits, ..Options::default() });
    let outcome = store.apply(&BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]));
    let is_rejected = outcome.findings.iter().any(|finding| finding.severity == Severity::Rejected);
    assert!(is_rejected, "read: {text}");
    let mesh = &outcome.mesh;
    let denying = mesh.authorization.values().filter(|policy| policy.action == Action::Unreadable);
    let strict = mesh.peer_authentication.values().filter(|peers| peers.unreadable);
    let scopes = denying.map(|policy| &policy.scope).chain(strict.map(|peers| &peers.scope));
    let show = |scope: &Scope| match scope {
        Scope::Mesh => "*".to_owned(),
        Scope::Namespace(namespace) => namespace.to_string(),
        other => format!("{other:?}"),
    };
    scopes.map(show).collect()
}

/// Whatever an author puts there.
const WORDS: &str =
    "kind: AuthorizationPolicy, apiVersion: security.istio.io/v1, namespace: istio-system, namespace: bank";

fn object(version: &str, kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata:\n  name: p\n  annotations: {{note: \"{WORDS}\", kind: AuthorizationPolicy, namespace: istio-system}}\n  \
         labels: {{namespace: bank}}\n  namespace: shop\nspec: {spec}\n"
    )
}

const POLICY: (&str, &str) = ("security.istio.io/v1", "AuthorizationPolicy");

#[test]
fn an_object_that_is_too_large_is_of_the_namespace_that_its_metadata_name() {
    let many = format!("{{rules: [{}]}}", vec!["{}"; 40].join(", "));
    let deep = format!("{{a: {}{}}}", "[".repeat(60), "]".repeat(60));
    let few = || Limits { nodes_per_document: 30, ..Limits::default() };
    let list = |object: &str| {
        let item = object.replace('\n', "\n  ");
        format!("apiVersion: v1\nkind: List\nitems:\n- {}\n", item.trim_end())
    };
    for (spec, limits) in [(&many, few()), (&deep, Limits::default())] {
        for (version, kind, expected) in [
            (POLICY.0, POLICY.1, vec!["shop"]),
            ("security.istio.io/v1", "PeerAuthentication", vec!["shop"]),
            ("v1", "Pod", vec![]),
            ("v1", "Service", vec![]),
            ("example.org/v1", "Anything", vec![]),
        ] {
            let object = object(version, kind, spec);
            assert_eq!(closed(&object, limits.clone()), expected, "{object}");
            assert_eq!(closed(&list(&object), limits.clone()), expected, "{object}, in a list");
        }
    }
    // Really many, and as JSON.
    let many = vec!["{}"; 100_001].join(",");
    let json = format!(
        "{{\"apiVersion\":\"{}\",\"kind\":\"{}\",\"metadata\":{{\"annotations\":{{\"namespace\":\"bank\"}},\
         \"name\":\"p\",\"namespace\":\"shop\"}},\"spec\":{{\"rules\":[{many}]}}}}",
        POLICY.0, POLICY.1
    );
    assert_eq!(closed(&json, Limits::default()), ["shop"]);
}

#[test]
fn documents_of_a_file_that_is_too_large_are_of_the_namespaces_that_their_metadata_name() {
    // The last one may be cut off, and is not relied upon.
    let last = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n".to_owned();
    let text = [object("v1", "Pod", "{}"), object(POLICY.0, POLICY.1, "{}"), last].join("---\n");
    let default = Limits::default;
    for limits in [Limits { file_bytes: 10, ..default() }, Limits { documents_per_file: 0, ..default() }] {
        assert_eq!(closed(&text, limits), ["shop"]);
    }
}

#[test]
fn broken_text_closes_the_mesh_only_where_it_names_no_other_namespace() {
    let root = "kind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: [\n";
    assert_eq!(closed(root, Limits::default()), ["*"]);
    let of_two = format!("{root}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: shop}}\n");
    assert_eq!(closed(&of_two, Limits::default()), ["*"], "another document is another object");
    let broken = object(POLICY.0, POLICY.1, "[");
    let closed_by_it = closed(&broken, Limits::default());
    assert!(closed_by_it.contains(&"shop".to_owned()), "{closed_by_it:?}");
    assert!(!closed_by_it.contains(&"*".to_owned()), "{closed_by_it:?}");
    // Nor where it names none that can be read, and the file names several.
    let elsewhere = "kind: AuthorizationPolicy\nmetadata: {name: p, namespace: Shop_1}\nspec: [\n---\n";
    let file = format!("{elsewhere}{}", object("v1", "Pod", "{}"));
    assert!(!closed(&file, Limits::default()).contains(&"*".to_owned()));
}
