//! What holds of any directory: reading it is total, the order in which it arrives does not matter where nothing conflicts, and
//! damage is its owner's affair and never opens.
//!
//! The objects are the sound ones of the corpus (`tests/corpus`), so that whatever is made of them begins with what reaches each
//! lowering.

mod decision;
mod trees;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use config::{
    finding::{Finding, ObjectRef, Severity},
    model::Mesh,
    report::{Report, TextOptions, render_json, render_text},
    store::{FileText, Options, Outcome, Store},
};
use proptest::{prelude::*, sample::Index};

use self::{
    decision::{admitted, belongings},
    trees::{edit, edits},
};

/// A sound object of every kind, in the order of their names.
const OBJECTS: [&str; 13] = [
    include_str!("../corpus/cases/AuthorizationPolicy/good.yaml"),
    include_str!("../corpus/cases/EndpointSlice/good.yaml"),
    include_str!("../corpus/cases/GRPCRoute/good.yaml"),
    include_str!("../corpus/cases/HTTPRoute/good.yaml"),
    include_str!("../corpus/cases/Namespace/good.yaml"),
    include_str!("../corpus/cases/NetworkPolicy/good.yaml"),
    include_str!("../corpus/cases/PeerAuthentication/good.yaml"),
    include_str!("../corpus/cases/Pod/good.yaml"),
    include_str!("../corpus/cases/ReferenceGrant/good.yaml"),
    include_str!("../corpus/cases/Service/good.yaml"),
    include_str!("../corpus/cases/ServiceAccount/good.yaml"),
    include_str!("../corpus/cases/ServiceEntry/good.yaml"),
    include_str!("../corpus/cases/Tenant/good.yaml"),
];
const BANK: &str = include_str!("../corpus/scene/bank.yaml");
const SHOP: &str = include_str!("../corpus/scene/shop.yaml");

/// Policies whose damage is looked at: each refuses something that the others let in.
const POLICIES: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - from: [{source: {namespaces: [annex, shop]}}]
    to: [{operation: {ports: [\"8080\"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  action: DENY
  rules:
  - from: [{source: {principals: [cluster.local/ns/annex/sa/side]}}]
  - to: [{operation: {ports: [\"22\"]}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

fn store() -> Store {
    Store::new(Options { node: "here".try_into().ok(), ..Options::default() })
}

/// What is the neighbour's where nobody else writes anything.
static OF_BANK: LazyLock<Vec<String>> = LazyLock::new(|| {
    let alone = store().apply(&files(&[("bank.yaml", BANK.as_bytes())]));
    belongings(&alone.mesh, "bank")
});

fn files(texts: &[(&str, &[u8])]) -> BTreeMap<PathBuf, FileText> {
    let file = |(name, bytes): &(&str, &[u8])| (PathBuf::from(name), FileText::from(bytes.to_vec()));
    texts.iter().map(file).collect()
}

fn is_rejected(outcome: &Outcome) -> bool {
    outcome.findings.iter().any(|finding| finding.severity == Severity::Rejected)
}

/// Whom a text of one object names.
fn named(text: &str) -> ObjectRef {
    let kind = text.lines().find_map(|line| line.strip_prefix("kind: ")).expect("a kind");
    let namespace = (!["Namespace", "Tenant"].contains(&kind)).then_some("shop");
    ObjectRef::new(kind, namespace, "it")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn whatever_is_below_its_name_an_object_has_a_status_or_is_told_and_its_neighbours_have_nothing_of_it(
        which in 0..OBJECTS.len(), edits in edits()
    ) {
        let text = edit(OBJECTS[which], &edits);
        let outcome = store().apply(&files(&[("bank.yaml", BANK.as_bytes()), ("it.yaml", text.as_bytes())]));
        let it = named(OBJECTS[which]);
        let has_status = outcome.standings.iter().any(|standing| standing.object == it);
        let is_told = outcome.findings.iter().any(|finding| finding.object.as_ref() == Some(&it));
        prop_assert!(has_status || is_told, "{it} vanished: {text}\n{:#?}", outcome.findings);
        let report = Report::new(&outcome);
        render_text(&report, TextOptions { all: true });
        prop_assert!(render_json(&report).is_ok());
        prop_assert_eq!(&belongings(&outcome.mesh, "bank"), &*OF_BANK, "{}", text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_order_of_files_and_of_objects_in_them_makes_no_difference_where_nothing_conflicts(
        order in Just(documents()).prop_shuffle(), places in prop::collection::vec(0..6_usize, 64)
    ) {
        let texts = |order: &[&str]| {
            let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
            for (number, document) in order.iter().enumerate() {
                let file = texts.entry(PathBuf::from(format!("{}.yaml", places[number]))).or_default();
                file.push_str("---\n");
                file.push_str(document);
            }
            texts.into_iter().map(|(name, text)| (name, FileText::from(text.as_str()))).collect()
        };
        let one = store().apply(&texts(&documents()));
        let other = store().apply(&texts(&order));
        let rejected = one.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
        prop_assert_eq!(rejected.collect::<Vec<_>>(), Vec::<&Finding>::new());
        prop_assert_eq!(sorted(&one.mesh), sorted(&other.mesh));
        prop_assert_eq!(&one.standings, &other.standings);
    }
}

/// A mesh whose endpoints are in one order: they are a set, of which who balances picks at random.
fn sorted(mesh: &Mesh) -> Mesh {
    let mut mesh = mesh.clone();
    for service in mesh.services.values_mut() {
        for port in &mut Arc::make_mut(service).ports {
            port.endpoints.sort_by_key(|endpoint| endpoint.address);
        }
    }
    mesh
}

/// All objects that do not conflict, and a second slice of one Service.
fn documents() -> Vec<&'static str> {
    let scene = [BANK, SHOP].into_iter().flat_map(|text| text.split("---\n"));
    scene.chain(OBJECTS).chain([MORE]).collect()
}

const MORE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
    metadata: {name: more, namespace: shop, labels: {kubernetes.io/service-name: web}}\n\
    addressType: IPv4\nports: [{name: http, port: 8080}]\n\
    endpoints: [{addresses: [203.0.113.1]}, {addresses: [10.0.0.1], conditions: {ready: false}}]\n";

/// An edit of some bytes in one place of a text.
fn damaged(text: &str, at: &Index, length: usize, put: &[u8]) -> Vec<u8> {
    let from = at.index(text.len());
    let to = (from + length).min(text.len());
    [&text.as_bytes()[..from], put, &text.as_bytes()[to..]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damage_to_policies_is_nothing_to_neighbours_and_lets_nobody_in_where_it_is_refused(
        at in any::<Index>(), length in 0_usize..40, put in put()
    ) {
        // A line --- that comes into the midst of another is a document more, which may be as it is meant.
        prop_assume!(!put.windows(3).any(|bytes| bytes == b"---") || put.starts_with(b"---"));
        let with = |bytes: &[u8]| {
            files(&[("bank.yaml", BANK.as_bytes()), ("shop.yaml", SHOP.as_bytes()), ("policies.yaml", bytes)])
        };
        let mut running = store();
        let whole = running.apply(&with(POLICIES.as_bytes()));
        let before = admitted(&whole.mesh, "shop");
        let bytes = damaged(POLICIES, &at, length, &put);
        for (daemon, outcome) in [("runs", running.apply(&with(&bytes))), ("starts", store().apply(&with(&bytes)))] {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&belongings(&outcome.mesh, "bank"), &*OF_BANK, "{}", text);
            // Who starts has to know what it was; who runs knows.
            let says = daemon == "runs" || says_what_it_is(&text);
            if says && is_rejected(&outcome) {
                let after = admitted(&outcome.mesh, "shop");
                let more: Vec<_> = after.difference(&before).collect();
                prop_assert!(more.is_empty(), "who {daemon} lets in {more:?}:\n{text}\n{:#?}", outcome.findings);
            }
        }
    }

    #[test]
    fn damage_to_anything_of_a_tenant_changes_nothing_of_another(
        which in 0..OBJECTS.len(), at in any::<Index>(), length in 0_usize..40, put in put()
    ) {
        let bytes = damaged(OBJECTS[which], &at, length, &put);
        let with = |bytes: &[u8]| files(&[("bank.yaml", BANK.as_bytes()), ("it.yaml", bytes)]);
        let mut running = store();
        running.apply(&with(OBJECTS[which].as_bytes()));
        for outcome in [running.apply(&with(&bytes)), store().apply(&with(&bytes))] {
            let text = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&belongings(&outcome.mesh, "bank"), &*OF_BANK, "{}", text);
        }
        let it = named(OBJECTS[which]);
        let kept = running.in_force().any(|object| *object == it);
        let after = running.apply(&with(&bytes));
        prop_assert!(kept || !is_rejected(&after), "{it} is lost: {}", String::from_utf8_lossy(&bytes));
    }
}

/// Whether the policies still have the words by which they are told.
fn says_what_it_is(text: &str) -> bool {
    let count = |word: &str| (text.matches(word).count(), POLICIES.matches(word).count());
    [
        "kind: AuthorizationPolicy\n",
        "kind: PeerAuthentication\n",
        "apiVersion: security.istio.io/v1\n",
        ", namespace: shop}\n",
    ]
    .into_iter()
    .all(|word| count(word).0 == count(word).1)
}

/// What somebody's hand, or a disk, puts in the place of bytes.
fn put() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ -~\n\\t]{0,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..6),
        prop::sample::select(vec!["---\n", "[", "{", "*a", "&a ", "~", "\\r\n", ": ", "\\0", "- "])
            .prop_map(|text| text.as_bytes().to_vec()),
    ]
}
