//! Policies about Services: who is behind one decides, whatever its ports and slices are; and where nobody can tell, nothing opens.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use config::{
    finding::Reason as Found,
    identity::Identity,
    name::PodName,
    store::{FileText, Options, Outcome, Store},
};

use crate::{
    control::compile::compile,
    policy::{Inbound, decide_inbound},
};

fn pod(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}, \
         annotations: {{canopy.mesh/netns: /run/netns/{name}}}}}\n\
         spec: {{containers: [{{name: c}}]}}\nstatus: {{podIP: {address}}}\n---\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n")
}

fn slice(addresses: &str, ports: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: e, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}\n\
         addressType: IPv4\nports: {ports}\nendpoints: {addresses}\n---\n"
    )
}

/// A policy of namespace shop about these Services.
fn policy(name: &str, services: &[&str], rest: &str) -> String {
    let targets: Vec<String> =
        services.iter().map(|service| format!("{{group: '', kind: Service, name: {service}}}")).collect();
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{}], {rest}}}\n---\n",
        targets.join(", ")
    )
}

/// Two pods, `cart` (10.0.0.9) and `web` (10.0.0.8), and these manifests.
fn look(manifests: &str) -> Outcome {
    let text = pod("cart", "10.0.0.9") + &pod("web", "10.0.0.8") + manifests;
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
    Store::new(Options::default()).apply(&files)
}

/// Whether a pod lets in who is proven to be of a namespace.
fn lets_in(outcome: &Outcome, pod: &str, caller: &str) -> bool {
    let mesh = &outcome.mesh;
    let snapshot = &compile(mesh)[&mesh.membership[&"shop".try_into().unwrap()]];
    let identity = Identity {
        trust_domain: "cluster.local".try_into().unwrap(),
        namespace: caller.try_into().unwrap(),
        service_account: "default".try_into().unwrap(),
    };
    let pod = PodName::new("shop".try_into().unwrap(), pod.try_into().unwrap());
    let inbound = Inbound {
        identity: Some(&identity),
        client: [10, 0, 0, 1].into(),
        destination: SocketAddr::from(([10, 0, 0, 9], 8080)),
    };
    decide_inbound(snapshot.policies.of(&pod).unwrap(), &inbound).is_ok()
}

const SELECTS: &str = "selector: {app: cart}";
const ALLOW_BANK: &str = "rules: [{from: [{source: {namespaces: [bank]}}]}]";
const DENY_BANK: &str = "action: DENY, rules: [{from: [{source: {namespaces: [bank]}}]}]";

/// How it is told who is behind the Service, and whether the policy is about pod `cart` and about pod `web`.
fn cases() -> Vec<(&'static str, String, bool, bool)> {
    let headless = |rest: &str| service("cart", &format!("{{clusterIP: None{rest}}}"));
    let of_cart = "[{addresses: [10.0.0.9]}]";
    let of_web = "[{addresses: [10.0.0.8]}]";
    let bad_slice = slice("[{addresses: [127.0.0.1]}]", "[]").replace("name: e", "name: f");
    vec![
        ("plain", service("cart", &format!("{{{SELECTS}, ports: [{{port: 80}}]}}")), true, false),
        ("headless without ports", headless(&format!(", {SELECTS}")), true, false),
        (
            "headless with UDP alone",
            headless(&format!(", {SELECTS}, ports: [{{port: 53, protocol: UDP}}]")),
            true,
            false,
        ),
        (
            "a named port that no pod has",
            service("cart", &format!("{{{SELECTS}, ports: [{{port: 80, targetPort: http}}]}}")),
            true,
            false,
        ),
        (
            "a slice without addresses",
            headless(&format!(", {SELECTS}")) + &slice("[]", "[{port: 80}]"),
            true,
            false,
        ),
        (
            "a slice that names another pod as well",
            headless(&format!(", {SELECTS}, ports: [{{port: 80}}]")) + &slice(of_web, "[{port: 80}]"),
            true,
            true,
        ),
        ("a slice alone, without ports", headless("") + &slice(of_cart, "[]"), true, false),
        (
            "a slice alone, of another port's name",
            headless(", ports: [{port: 80}]") + &slice(of_cart, "[{name: x, port: 80}]"),
            true,
            false,
        ),
        ("nobody selected", service("cart", "{selector: {app: nobody}, ports: [{port: 80}]}"), false, false),
        // From here on nobody can tell, so it may be about any of them.
        ("no slice, no selector", headless(""), true, true),
        ("a slice, and one that is rejected", headless("") + &slice(of_cart, "[]") + &bad_slice, true, true),
        ("no Service", String::new(), true, true),
        ("a Service that is rejected", service("cart", "{selector: {app: cart}, ports: 80}"), true, true),
        ("an alias", service("cart", "{type: ExternalName, externalName: example.com}"), true, true),
    ]
}

#[test]
fn a_policy_about_a_service_is_about_whoever_is_behind_it_and_about_all_where_nobody_can_tell() {
    for (name, manifests, cart, web) in cases() {
        let denying = look(&(manifests.clone() + &policy("p", &["cart"], DENY_BANK)));
        let allowing = look(&(manifests.clone() + &policy("p", &["cart"], ALLOW_BANK)));
        for (pod, is_about) in [("cart", cart), ("web", web)] {
            assert_eq!(
                !lets_in(&denying, pod, "bank"),
                is_about,
                "{name}: {pod}, denial: {:#?}",
                denying.findings
            );
            assert!(lets_in(&denying, pod, "ops"), "{name}: {pod}, denial of others");
            assert_eq!(!lets_in(&allowing, pod, "ops"), is_about, "{name}: {pod}, permission");
            assert!(lets_in(&allowing, pod, "bank"), "{name}: {pod}, permission to its caller");
        }
        let told = |outcome: &Outcome| {
            let about = |finding: &&config::finding::Finding| finding.reason == Found::DanglingReference;
            let all = outcome.findings.iter().filter(about).map(ToString::to_string);
            all.filter(|text| text.contains("AuthorizationPolicy shop/p")).collect::<Vec<_>>()
        };
        let is_doubtful = cart && web && !name.contains("another pod");
        assert_eq!(told(&denying).len(), usize::from(is_doubtful), "{name}: {:#?}", denying.findings);
        let says = "every pod of namespace shop";
        assert!(told(&allowing).iter().all(|text| text.contains(says)), "{name}: {:#?}", told(&allowing));
    }
}

#[test]
fn a_policy_whose_service_is_gone_adds_nothing_to_what_others_allow() {
    let own = policy("own", &["web"], "rules: [{from: [{source: {namespaces: [ops]}}]}]");
    let web = service("web", "{selector: {app: web}, ports: [{port: 80}]}");
    let outcome = look(&(web + &own + &policy("p", &["cart"], ALLOW_BANK)));
    assert!(lets_in(&outcome, "web", "ops"));
    assert!(!lets_in(&outcome, "web", "bank"), "it may be about cart alone");
    assert!(lets_in(&outcome, "cart", "bank") && !lets_in(&outcome, "cart", "ops"));
    // Of two, either may be the only one about a pod.
    let two = policy("p", &["cart"], ALLOW_BANK)
        + &policy("q", &["gone"], "rules: [{from: [{source: {namespaces: [ops]}}]}]");
    let outcome = look(&two);
    assert!(!lets_in(&outcome, "cart", "bank") && !lets_in(&outcome, "cart", "ops"));
}

#[test]
fn of_several_services_the_missing_one_leaves_the_others_as_they_are() {
    let cart = service("cart", "{selector: {app: cart}, ports: [{port: 80}]}");
    let outcome = look(&(cart + &policy("p", &["cart", "gone"], ALLOW_BANK)));
    for pod in ["cart", "web"] {
        assert!(lets_in(&outcome, pod, "bank") && !lets_in(&outcome, pod, "ops"), "{pod}");
    }
}

#[test]
fn a_policy_about_a_service_that_cannot_be_read_denies_whom_it_may_be_about() {
    let cart = service("cart", "{selector: {app: cart}, ports: [{port: 80}]}");
    let outcome = look(&(cart + &policy("p", &["cart"], "rules: [{form: []}]")));
    assert!(!lets_in(&outcome, "cart", "bank") && !lets_in(&outcome, "web", "bank"));
}
