//! Over time: what a broken edit keeps, what a change shares, who was first.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::document::Limits;
use crate::{
    model::{BackendTarget, InvalidBackend},
    name::PodName,
};

mod increments;
mod universe;

fn files<const N: usize>(texts: [(&str, &str); N]) -> BTreeMap<PathBuf, FileText> {
    texts.into_iter().map(|(path, text)| (PathBuf::from(path), FileText::from(text))).collect()
}

fn store() -> Store {
    Store::new(Options::default())
}

fn service(name: &str, vip: &str, port: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {vip}, ports: [{{port: {port}}}]}}\n"
    )
}

fn pod(namespace: &str, name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
         spec: {{containers: [{{name: c}}]}}\nstatus: {{podIP: {address}}}\n"
    )
}

fn reasons(outcome: &Outcome) -> Vec<(Severity, Reason)> {
    outcome.findings.iter().map(|finding| (finding.severity, finding.reason)).collect()
}

const REJECTED: Severity = Severity::Rejected;
const KEPT: (Severity, Reason) = (Severity::Warning, Reason::KeptLastGood);

#[test]
fn broken_edit_keeps_the_last_good_version_and_says_so_until_it_is_mended() {
    let mut store = store();
    let good = store.apply(&files([("a", &service("s", "10.0.0.1", "80"))]));
    assert_eq!((good.mesh.version, reasons(&good)), (1, vec![]));

    let broken = store.apply(&files([("a", &service("s", "10.0.0.1", "x"))]));
    assert_eq!(reasons(&broken), [KEPT, (REJECTED, Reason::WrongType)]);
    assert!(Arc::ptr_eq(&broken.mesh, &good.mesh) && broken.changes.is_empty());

    let mended = store.apply(&files([("a", &service("s", "10.0.0.1", "81"))]));
    assert_eq!((mended.mesh.version, reasons(&mended)), (2, vec![]));
}

#[test]
fn file_that_no_longer_parses_keeps_its_objects_and_one_that_is_gone_does_not() {
    let mut store = store();
    let both = service("s", "10.0.0.1", "80") + &service("t", "10.0.0.2", "80");
    store.apply(&files([("a", &both)]));
    let half = service("s", "10.0.0.1", "80") + "---\nkind: [\n";
    let broken = store.apply(&files([("a", &half)]));
    assert_eq!(broken.mesh.services.len(), 2);
    assert_eq!(reasons(&broken), [(REJECTED, Reason::Malformed), KEPT]);
    let unreadable =
        BTreeMap::from([(PathBuf::from("a"), FileText::Unreadable(Arc::from("permission denied")))]);
    assert_eq!(store.apply(&unreadable).mesh.services.len(), 2);
    assert_eq!(store.apply(&files([])).mesh.services.len(), 0);
}

#[test]
fn object_that_is_taken_out_of_its_file_goes() {
    let mut store = store();
    store.apply(&files([("a", &(service("s", "10.0.0.1", "80") + &service("t", "10.0.0.2", "80")))]));
    let outcome = store.apply(&files([("a", &service("s", "10.0.0.1", "80"))]));
    assert_eq!((outcome.mesh.services.len(), outcome.changes.services.len()), (1, 1));
}

#[test]
fn change_shares_what_did_not_change_and_counts_once() {
    let mut store = store();
    let first =
        store.apply(&files([("a", &service("s", "10.0.0.1", "80")), ("b", &service("t", "10.0.0.2", "80"))]));
    let second =
        store.apply(&files([("a", &service("s", "10.0.0.1", "81")), ("b", &service("t", "10.0.0.2", "80"))]));
    let of = |outcome: &Outcome, index| outcome.mesh.services.values().nth(index).cloned().unwrap();
    assert!(!Arc::ptr_eq(&of(&first, 0), &of(&second, 0)));
    assert!(Arc::ptr_eq(&of(&first, 1), &of(&second, 1)));
    assert_eq!((second.mesh.version, second.changes.services.len()), (2, 1));
    // A comment moves lines and means nothing.
    let moved = "# hello\n".to_owned() + &service("s", "10.0.0.1", "81");
    let third = store.apply(&files([("a", &moved), ("b", &service("t", "10.0.0.2", "80"))]));
    assert!(Arc::ptr_eq(&third.mesh, &second.mesh));
}

#[test]
fn second_object_of_a_name_is_refused_and_told_where_the_first_is() {
    let outcome = store()
        .apply(&files([("a", &service("s", "10.0.0.1", "80")), ("b", &service("s", "10.0.0.2", "80"))]));
    let [finding] = &outcome.findings[..] else { panic!("{:#?}", outcome.findings) };
    assert_eq!((finding.severity, finding.reason), (REJECTED, Reason::Duplicate));
    assert!(finding.file.ends_with("b") && finding.message.contains("on line 2 of a"), "{finding}");
}

#[test]
fn address_taken_twice_refuses_the_second_and_an_edit_that_takes_one_keeps_the_old() {
    let mut store = store();
    let pods = pod("default", "p", "10.1.0.1") + &pod("default", "q", "10.1.0.2");
    assert_eq!(reasons(&store.apply(&files([("a", &pods)]))), []);
    let clash = pod("default", "p", "10.1.0.1") + &pod("default", "q", "10.1.0.1");
    let outcome = store.apply(&files([("a", &clash)]));
    assert_eq!(reasons(&outcome), [KEPT, (REJECTED, Reason::Conflict)]);
    assert_eq!(outcome.mesh.workloads.len(), 2);
    let services =
        service("s", "10.0.0.1", "80") + &service("t", "10.0.0.1", "80") + &service("u", "10.1.0.1", "80");
    let outcome = store.apply(&files([("a", &pods), ("b", &services)]));
    assert_eq!(reasons(&outcome), [(REJECTED, Reason::Conflict); 2]);
}

#[test]
fn slice_may_not_name_another_namespace_s_pod() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: e, labels: {kubernetes.io/service-name: s}}\naddressType: IPv4\nports: [{port: 8080}]\n\
        endpoints: [{addresses: [10.1.0.1]}]\n";
    let with_pod_of = |namespace| {
        let text = service("s", "10.0.0.1", "80") + &pod(namespace, "p", "10.1.0.1") + slice;
        store().apply(&files([("a", &text)]))
    };
    let own = with_pod_of("default");
    let endpoint = &own.mesh.services.values().next().unwrap().ports[0].endpoints[0];
    assert_eq!(endpoint.address.to_string(), "10.1.0.1:8080");
    assert_eq!(endpoint.workload.as_ref().map(PodName::to_string).as_deref(), Some("default/p"));
    let foreign = with_pod_of("kube-system");
    assert_eq!(reasons(&foreign), [(REJECTED, Reason::NotPermitted)]);
}

#[test]
fn namespace_belongs_to_one_tenant_and_labels_grant_nothing() {
    let tenant = |name| {
        format!(
            "---\napiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {{namespaces: [default]}}\n"
        )
    };
    let outcome = store().apply(&files([("a", &(tenant("x") + &tenant("y")))]));
    assert_eq!(reasons(&outcome), [(REJECTED, Reason::Conflict)]);
    assert_eq!(outcome.mesh.membership.values().next().unwrap().as_str(), "x");
}

#[test]
fn missing_backend_is_accepted_as_invalid_and_heals_when_the_service_appears() {
    let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  \
        parentRefs: [{group: '', kind: Service, name: s}]\n  rules: [{backendRefs: [{name: t, port: 80}]}]\n";
    let mut store = store();
    let text = service("s", "10.0.0.1", "80") + route;
    let outcome = store.apply(&files([("a", &text)]));
    assert_eq!(reasons(&outcome), [(Severity::Warning, Reason::DanglingReference)]);
    assert_eq!(outcome.findings[0].field, "spec.rules[0].backendRefs[0].name");
    let target =
        |outcome: &Outcome| outcome.mesh.routes.values().next().unwrap().rules[0].backends[0].target.clone();
    assert_eq!(target(&outcome), BackendTarget::Invalid(InvalidBackend::BackendNotFound));
    let outcome = store.apply(&files([("a", &text), ("b", &service("t", "10.0.0.2", "80"))]));
    assert!(matches!(target(&outcome), BackendTarget::Service { port: 80, .. }));
    assert_eq!(outcome.changes.routes.len(), 1);
}

#[test]
fn route_without_its_parent_is_not_attached() {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  \
        parentRefs: [{group: '', kind: Service, name: nowhere}]\n";
    let outcome = store().apply(&files([("a", route)]));
    assert!(outcome.mesh.routes.is_empty());
    assert_eq!(reasons(&outcome), [(Severity::Warning, Reason::DanglingReference); 2]);
}

#[test]
fn objects_and_findings_are_bounded() {
    let limits = Limits { objects: 2, findings_per_file: 3, ..Limits::default() };
    let mut store = Store::new(Options { limits, ..Options::default() });
    let many: String =
        (1..9).map(|number| service(&format!("s{number}"), &format!("10.0.0.{number}"), "80")).collect();
    let outcome = store.apply(&files([("a", &many)]));
    assert_eq!((outcome.accepted, reasons(&outcome)), (2, vec![(REJECTED, Reason::TooLarge)]));
    let outcome = store.apply(&files([("b", &"---\n- no\n".repeat(9))]));
    assert_eq!(outcome.findings.len(), 4);
    assert!(outcome.findings[3].message.contains("6 more findings"), "{}", outcome.findings[3]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        store().apply(&BTreeMap::from([(PathBuf::from("a"), FileText::from(bytes))]));
    }

    #[test]
    fn damaged_examples_never_panic_and_lose_nothing(from in 0_usize..4000, length in 0_usize..60, put in "[ -~\n]{0,12}") {
        let text = include_str!("../../../examples/two-tenants/10-shop.yaml");
        let from = from.min(text.len());
        let to = (from + length).min(text.len());
        prop_assume!(text.is_char_boundary(from) && text.is_char_boundary(to));
        let damaged = [&text[..from], &put, &text[to..]].concat();
        let mut store = store();
        store.apply(&files([("a", text)]));
        let before: BTreeSet<_> = store.in_force().cloned().collect();
        let outcome = store.apply(&files([("a", &damaged)]));
        // What is found when all objects are seen together says nothing against the file.
        let is_broken = outcome.findings.iter().any(|finding| finding.severity == REJECTED
            && !matches!(finding.reason, Reason::Conflict | Reason::NotPermitted));
        let after: BTreeSet<_> = store.in_force().cloned().collect();
        prop_assert!(!is_broken || before.is_subset(&after), "lost: {:?}", before.difference(&after));
        let again = store.apply(&files([("a", &damaged)]));
        prop_assert!(again.changes.is_empty());
        let rejected = outcome.findings.iter().any(|finding| finding.severity == REJECTED);
        // What vanishes from a first reading without a rejection of its own is lost for good.
        let fresh = self::store().apply(&files([("a", &damaged)]));
        let refused: BTreeSet<_> = fresh.findings.iter()
            .filter(|finding| finding.severity == REJECTED).filter_map(|finding| finding.object.as_ref()).collect();
        prop_assert!(fresh.accepted + refused.len() >= fresh.objects);
        prop_assert!(rejected || outcome.findings.iter().all(|finding| finding.reason != Reason::KeptLastGood));
    }
}

#[test]
fn a_broken_policy_keeps_its_last_good_version_and_never_its_stand_in() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let actions = |outcome: &Outcome| {
        outcome.mesh.authorization.values().map(|policy| policy.action).collect::<Vec<_>>()
    };
    use crate::model::Action;
    let mut store = store();
    let broken = store.apply(&files([("a.yaml", &policy("{action: X}"))]));
    assert_eq!(actions(&broken), [Action::Unreadable]);
    // A stand-in is no version to fall back on: what is mended counts, and is kept when it breaks.
    let good = store.apply(&files([("a.yaml", &policy("{action: DENY, rules: [{}]}"))]));
    assert_eq!(actions(&good), [Action::Deny]);
    let kept = store.apply(&files([("a.yaml", &policy("{action: Y}"))]));
    assert_eq!(actions(&kept), [Action::Deny]);
    assert!(kept.findings.iter().any(|finding| finding.reason == Reason::KeptLastGood));
    // A file that cannot be read at all loses nothing either.
    let garbled = store.apply(&files([("a.yaml", "kind: [")]));
    assert_eq!(actions(&garbled), [Action::Deny]);
    assert_eq!(actions(&store.apply(&files([("a.yaml", "")]))), []);
}

#[test]
fn what_stands_in_for_a_policy_stays_when_its_file_breaks_further_until_somebody_mends_or_removes_it() {
    let object = |api: &str, kind: &str, spec: &str| {
        format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n---\n"
        )
    };
    let broken = object("security.istio.io/v1", "AuthorizationPolicy", "{action: X}")
        + &object("security.istio.io/v1", "PeerAuthentication", "{mtls: {mode: X}}")
        + &object("networking.k8s.io/v1", "NetworkPolicy", "{podSelector: 7}");
    let mut store = store();
    let first = store.apply(&files([("a.yaml", &broken)]));
    let count = |outcome: &Outcome| {
        let mesh = &outcome.mesh;
        [mesh.authorization.len(), mesh.peer_authentication.len(), mesh.network_policies.len()]
    };
    assert_eq!(count(&first), [1, 1, 1]);
    for text in ["kind: [", "{", &broken, "}"] {
        let again = store.apply(&files([("a.yaml", text)]));
        assert_eq!(*again.mesh, *first.mesh, "{text}");
        let told = again.findings.iter().filter(|finding| finding.reason == Reason::StoodIn).count();
        assert_eq!(told, 3, "{text}");
    }
    // It goes with its file, and makes way for whoever has the name.
    let allow = object("security.istio.io/v1", "AuthorizationPolicy", "{rules: [{}]}");
    let mended = store.apply(&files([("a.yaml", "{"), ("b.yaml", &allow)]));
    assert_eq!(count(&mended), [1, 1, 1]);
    let action = mended.mesh.authorization.values().next().map(|policy| policy.action);
    assert_eq!(action, Some(crate::model::Action::Allow));
    assert_eq!(count(&store.apply(&files([("b.yaml", &allow)]))), [1, 0, 0]);
}
