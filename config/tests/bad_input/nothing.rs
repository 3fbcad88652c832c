//! Nothing (`~`) where an item of a list or a value of a mapping belongs: never a reason to take a policy for a wider one.

use std::collections::BTreeMap;

use config::{
    finding::{Reason, Severity},
    model::Action,
};

use super::apply;

const AUTHORIZATION: &str = "security.istio.io/v1 AuthorizationPolicy";
const PEERS: &str = "security.istio.io/v1 PeerAuthentication";
const NETWORK: &str = "networking.k8s.io/v1 NetworkPolicy";

fn manifest(kind: &str, spec: &str) -> String {
    let Some((version, kind)) = kind.split_once(' ') else { panic!("{kind}: not a version and a kind") };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n")
}

#[test]
fn a_policy_with_nothing_for_an_item_is_rejected_there_and_stood_in_for() {
    for (kind, spec, field) in [
        (AUTHORIZATION, "{rules: [~]}", "spec.rules[0]"),
        (AUTHORIZATION, "{rules: [{}, ~]}", "spec.rules[1]"),
        (AUTHORIZATION, "{rules: [{from: [~]}]}", "spec.rules[0].from[0]"),
        (AUTHORIZATION, "{rules: [{to: [~]}]}", "spec.rules[0].to[0]"),
        (AUTHORIZATION, "{rules: [{when: [~]}]}", "spec.rules[0].when[0]"),
        (
            AUTHORIZATION,
            "{rules: [{when: [{key: source.principal, values: [~]}]}]}",
            "spec.rules[0].when[0].values[0]",
        ),
        (
            AUTHORIZATION,
            "{rules: [{when: [{key: 'request.headers[a]', notValues: [~]}]}]}",
            "spec.rules[0].when[0].notValues[0]",
        ),
        (
            AUTHORIZATION,
            "{rules: [{from: [{source: {principals: [~]}}]}]}",
            "spec.rules[0].from[0].source.principals[0]",
        ),
        (
            AUTHORIZATION,
            "{rules: [{from: [{source: {namespaces: [web, ~]}}]}]}",
            "spec.rules[0].from[0].source.namespaces[1]",
        ),
        (
            AUTHORIZATION,
            "{rules: [{from: [{source: {notNamespaces: [~]}}]}]}",
            "spec.rules[0].from[0].source.notNamespaces[0]",
        ),
        (
            AUTHORIZATION,
            "{rules: [{to: [{operation: {ports: [~]}}]}]}",
            "spec.rules[0].to[0].operation.ports[0]",
        ),
        (AUTHORIZATION, "{targetRefs: [~], rules: [{}]}", "spec.targetRefs[0]"),
        (AUTHORIZATION, "{selector: {matchLabels: {app: ~}}, rules: [{}]}", "spec.selector.matchLabels[app]"),
        (
            PEERS,
            "{selector: {matchLabels: {app: ~}}, mtls: {mode: PERMISSIVE}}",
            "spec.selector.matchLabels[app]",
        ),
        (PEERS, "{selector: {matchLabels: {app: a}}, portLevelMtls: {'80': ~}}", "spec.portLevelMtls[80]"),
        (NETWORK, "{ingress: [~]}", "spec.ingress[0]"),
        (NETWORK, "{ingress: [{from: [~]}]}", "spec.ingress[0].from[0]"),
        (NETWORK, "{ingress: [{ports: [~]}]}", "spec.ingress[0].ports[0]"),
        (NETWORK, "{policyTypes: [~]}", "spec.policyTypes[0]"),
    ] {
        let outcome = apply(&manifest(kind, spec));
        let rejected = outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
        let told: Vec<_> = rejected.map(|finding| (&*finding.field, finding.reason)).collect();
        assert_eq!(told, [(field, Reason::WrongType)], "{kind} {spec}");
        let mesh = &outcome.mesh;
        let denying = mesh.authorization.values().filter(|policy| policy.action == Action::Unreadable);
        let strict = mesh.peer_authentication.values().filter(|peers| peers.unreadable);
        let narrow = mesh.network_policies.values().filter(|policy| policy.unreadable);
        assert_eq!((outcome.accepted, denying.count() + strict.count() + narrow.count()), (0, 1), "{spec}");
    }
}

#[test]
fn nothing_for_a_field_is_as_if_it_were_not_there() {
    for (kind, spec, without) in [
        (AUTHORIZATION, "~", "{}"),
        (AUTHORIZATION, "{rules: ~, selector: ~}", "{}"),
        (
            AUTHORIZATION,
            "{rules: [{to: ~, from: [{source: {namespaces: [a], principals: ~}}]}]}",
            "{rules: [{from: [{source: {namespaces: [a]}}]}]}",
        ),
        (PEERS, "{mtls: {mode: STRICT}, portLevelMtls: ~}", "{mtls: {mode: STRICT}}"),
        (NETWORK, "{ingress: ~}", "{}"),
    ] {
        let (outcome, expected) = (apply(&manifest(kind, spec)), apply(&manifest(kind, without)));
        assert_eq!((outcome.accepted, &outcome.mesh), (1, &expected.mesh), "{spec}: {:#?}", outcome.findings);
    }
}

#[test]
fn nothing_for_a_label_is_an_empty_label_as_it_is_for_the_api_server() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: ~, tier: web}, annotations: {note: ~}}\n\
               spec: {imagePullSecrets: [~], containers: [{name: c, args: [~]}]}\nstatus: {podIP: 10.1.0.1}\n";
    let outcome = apply(pod);
    assert_eq!(outcome.accepted, 1, "{:#?}", outcome.findings);
    let labels = &outcome.mesh.workloads.values().next().unwrap().labels;
    let expected = [("app", ""), ("tier", "web")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(*labels, BTreeMap::from(expected));
    let policy = apply(&manifest(NETWORK, "{podSelector: {matchLabels: {app: ~}}}"));
    let selected = &policy.mesh.network_policies.values().next().unwrap().pods.labels;
    assert_eq!(selected.get("app").map(String::as_str), Some(""), "{:#?}", policy.findings);
}
