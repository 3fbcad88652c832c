//! What differs between two directories, told to whom it concerns.

use std::collections::BTreeMap;

use super::*;
use crate::store::{FileText, Options, Outcome, Store};

mod kinds;

const SHOP: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}, annotations: {canopy.mesh/netns: /run/netns/cart}}
spec: {serviceAccountName: default, containers: [{name: c, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: \"\", kind: Service, name: cart}]
  rules: [{backendRefs: [{name: cart, port: 80, weight: 90}]}]
";

const BANK: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: bank}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: to-cart, namespace: bank}
spec:
  parentRefs: [{group: \"\", kind: Service, name: cart, namespace: shop}]
  rules: [{backendRefs: [{name: cart, namespace: shop, port: 80}]}]
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: late, namespace: shop, labels: {app: cart}, annotations: {canopy.mesh/netns: /run/netns/late}}
spec: {serviceAccountName: default, containers: [{name: c, ports: [{containerPort: 8080}]}]}
status: {podIP: 10.0.0.2}
";

fn read(files: &[(&str, &str)]) -> Outcome {
    let files = files.iter().map(|(path, text)| (PathBuf::from(path), FileText::from(*text)));
    Store::new(Options::default()).apply(&files.collect::<BTreeMap<_, _>>())
}

fn state(outcome: &Outcome) -> State<'_> {
    State { mesh: &outcome.mesh, basis: &outcome.basis }
}

fn difference(before: &[(&str, &str)], after: &[(&str, &str)]) -> Difference {
    let (before, after) = (read(before), read(after));
    between(state(&before), state(&after))
}

fn objects(difference: &Difference) -> Vec<String> {
    let line = |change: &ObjectChange| {
        format!("{:?} {} of {} at line {}", change.what, change.object, change.owner, change.line)
    };
    difference.objects.iter().map(line).collect()
}

#[test]
fn the_same_in_other_lines_files_and_words_is_no_difference() {
    let moved = format!("# A comment.\n\n{}", SHOP.replace("weight: 90}", "weight: 90, kind: Service}"));
    let difference =
        difference(&[("a.yaml", SHOP), ("b.yaml", BANK)], &[("c.yaml", BANK), ("d.yaml", &moved)]);
    assert_eq!(difference, Difference::default());
}

#[test]
fn a_changed_field_is_told_by_its_path_to_its_owner_and_the_routes_of_the_service_to_all_callers() {
    let edited = SHOP.replace("weight: 90", "weight: 10");
    let difference =
        difference(&[("a.yaml", SHOP), ("b.yaml", BANK)], &[("a.yaml", &edited), ("b.yaml", BANK)]);
    assert_eq!(objects(&difference), ["Changed HTTPRoute shop/cart of ns/shop at line 16"]);
    let field = FieldChange {
        field: "rules[0].backends[0].weight".to_owned(),
        before: Some("90".to_owned()),
        after: Some("10".to_owned()),
    };
    assert_eq!(difference.objects[0].fields.fields, [field]);
    let [routes] = &difference.routes[..] else { panic!("{:?}", difference.routes) };
    assert_eq!((routes.owner.to_string().as_str(), &routes.callers), ("ns/shop", &None));
    assert!(difference.workloads.is_empty() && difference.endpoints.is_empty());
}

#[test]
fn a_consumers_route_is_told_to_its_own_callers_alone() {
    let difference = difference(&[("a.yaml", SHOP)], &[("a.yaml", SHOP), ("b.yaml", BANK)]);
    let expected =
        ["Added HTTPRoute bank/to-cart of ns/bank at line 5", "Added Namespace bank of ns/bank at line 1"];
    assert_eq!(objects(&difference), expected);
    let [routes] = &difference.routes[..] else { panic!("{:?}", difference.routes) };
    assert_eq!(
        (routes.owner.to_string().as_str(), routes.service.to_string().as_str()),
        ("ns/bank", "shop/cart")
    );
    assert_eq!(routes.callers.as_ref().map(Namespace::as_str), Some("bank"));
}

#[test]
fn a_pod_that_comes_is_a_workload_and_an_endpoint_and_one_that_becomes_another_is_planted_anew() {
    let with = difference(&[("a.yaml", SHOP)], &[("a.yaml", SHOP), ("p.yaml", POD)]);
    assert_eq!(objects(&with), ["Added Pod shop/late of ns/shop at line 1"]);
    let pods = |difference: &Difference| -> Vec<(String, What)> {
        difference.workloads.iter().map(|change| (change.pod.to_string(), change.what)).collect()
    };
    assert_eq!(pods(&with), [("shop/late".to_owned(), What::Added)]);
    let [endpoints] = &with.endpoints[..] else { panic!("{:?}", with.endpoints) };
    assert_eq!((endpoints.port, endpoints.added.len(), endpoints.removed.len()), (80, 1, 0));
    let other = SHOP.replace("serviceAccountName: default", "serviceAccountName: other");
    let anew = difference(&[("a.yaml", SHOP)], &[("a.yaml", &other)]);
    assert_eq!(pods(&anew), [("shop/cart".to_owned(), What::Changed)]);
    let labelled = SHOP.replace("labels: {app: cart}", "labels: {app: cart, tier: x}");
    let same = difference(&[("a.yaml", SHOP)], &[("a.yaml", &labelled)]);
    assert_eq!(pods(&same), [], "a label makes nobody another");
}

#[test]
fn a_namespace_that_becomes_anothers_takes_its_pods_from_the_one_to_the_other() {
    let tenant = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: team}\nspec: {namespaces: [shop]}\n";
    let difference = difference(&[("a.yaml", SHOP)], &[("a.yaml", SHOP), ("t.yaml", tenant)]);
    let pods: Vec<_> =
        difference.workloads.iter().map(|change| (change.owner.to_string(), change.what)).collect();
    assert_eq!(pods, [("ns/shop".to_owned(), What::Removed), ("team".to_owned(), What::Added)]);
    assert_eq!(objects(&difference), ["Added Tenant team of team at line 1"]);
}

#[test]
fn a_default_for_all_is_told_to_every_tenant_that_it_is_for() {
    let default = "apiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: others}\n\
        spec: {globalDefault: true, budget: {connections: 7}}\n";
    let difference = difference(&[("a.yaml", SHOP)], &[("a.yaml", SHOP), ("t.yaml", default)]);
    let [terms] = &difference.terms[..] else { panic!("{:?}", difference.terms) };
    assert_eq!(terms.owner.to_string(), "ns/shop");
    assert_eq!(terms.fields.fields[0].field, "budget.connections");
}

#[test]
fn what_is_in_force_goes_through_bytes_and_judges_the_next_files_as_the_store_would() {
    let before = read(&[("a.yaml", SHOP)]);
    let bytes = postcard::to_stdvec(&before.basis).unwrap();
    let basis: Basis = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(basis, before.basis);
    // A broken edit keeps the last good version where there is one.
    let broken = SHOP.replace("weight: 90", "weight: ninety");
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(broken.as_str()))]);
    let mut resumed = Store::resume(Options::default(), Arc::clone(&before.mesh), basis);
    let after = resumed.apply(&files);
    let difference = between(state(&before), state(&after));
    assert_eq!(difference, Difference::default());
    assert!(after.findings.iter().any(|finding| finding.reason == crate::finding::Reason::KeptLastGood));
    let afresh = Store::new(Options::default()).apply(&files);
    assert!(afresh.mesh.routes.is_empty(), "a store that knows none has none to keep");
}

#[test]
fn an_object_in_force_says_where_it_is_written() {
    let outcome = read(&[("a.yaml", SHOP)]);
    let written = outcome.basis.written(&ObjectRef::new("Service", Some("shop"), "cart")).unwrap();
    assert_eq!((written.file.to_str(), written.at.line), (Some("a.yaml"), 11));
    assert_eq!(outcome.basis.written(&ObjectRef::new("Service", Some("shop"), "other")), None);
}
