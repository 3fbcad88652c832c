//! Every reason for which a configuration can refuse a request: by which object, and what would have to be changed by whom.

use super::*;

const DENY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: bank}\n\
    spec: {action: DENY, rules: [{from: [{source: {namespaces: [nobody]}}]}, {from: [{source: {namespaces: [shop]}}]}]}\n";
const ALLOW: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: allow, namespace: bank}\n\
    spec: {action: ALLOW, rules: [{from: [{source: {namespaces: [bank]}}]}]}\n";
const BROKEN: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: broken, namespace: bank}\n\
    spec: {action: ALLOW, rules: [{form: []}]}\n";
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: bank}\n\
    spec: {mtls: {mode: STRICT}}\n";
const LED_OUT: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: out, namespace: bank}\n\
    spec: {clusterIP: 10.96.9.9, ports: [{name: redis, port: 80, targetPort: 443}]}\n---\n\
    apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: out, namespace: bank, labels: {kubernetes.io/service-name: out}}\n\
    addressType: IPv4\nports: [{name: redis, port: 443}]\nendpoints: [{addresses: [203.0.113.9]}]\n";
const LOCAL: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: near, namespace: shop}\n\
    spec: {clusterIP: 10.96.9.8, internalTrafficPolicy: Local, ports: [{name: http, port: 80}]}\n---\n\
    apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: near, namespace: shop, labels: {kubernetes.io/service-name: near}}\n\
    addressType: IPv4\nports: [{name: http, port: 443}]\nendpoints: [{addresses: [203.0.113.9], nodeName: another}]\n";
const NO_RULE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: cart, namespace: shop}\n\
    spec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{matches: [{method: PUT}], backendRefs: [{name: cart, port: 80}]}]}\n";
const NO_BACKEND: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: cart, namespace: shop}\n\
    spec: {parentRefs: [{group: '', kind: Service, name: cart}], rules: [{backendRefs: [{name: nowhere, port: 80}]}]}\n";

/// More manifests, who calls whom; the reason, the object that refuses, and words of what would have to be changed.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const TABLE: [Row; 12] = [
    (
        "",
        "kept/app",
        "203.0.113.9:443",
        "egress_forbidden",
        "Tenant kept of the cluster's administrators in mesh.yaml:7",
        "kept (or who writes the root namespace) would have to name 203.0.113.9 at port 443 in a ServiceEntry",
    ),
    (
        LED_OUT,
        "kept/app",
        "out.bank:80",
        "egress_forbidden",
        "Tenant kept of the cluster's administrators in mesh.yaml:7",
        "kept would have to name 203.0.113.9 at port 443 in a ServiceEntry",
    ),
    (
        DENY,
        "shop/web",
        "ledger.bank:80",
        "policy_denied",
        "AuthorizationPolicy bank/deny of ns/bank in more.yaml:1",
        "ns/bank would have to take spiffe://cluster.local/ns/shop/sa/web out of rules[1] of AuthorizationPolicy bank/deny",
    ),
    (
        ALLOW,
        "shop/web",
        "ledger.bank:80",
        "no_policy_allows",
        "AuthorizationPolicy bank/allow of ns/bank in more.yaml:1",
        "ns/bank would have to add a rule that allows spiffe://cluster.local/ns/shop/sa/web at port 8080",
    ),
    (
        ALLOW,
        "shop/web",
        "10.0.1.1:8080",
        "no_policy_allows",
        "AuthorizationPolicy bank/allow of ns/bank in more.yaml:1",
        "add a rule",
    ),
    (
        BROKEN,
        "shop/web",
        "ledger.bank:80",
        "policy_unreadable",
        "AuthorizationPolicy bank/broken of ns/bank in more.yaml:1",
        "ns/bank would have to mend AuthorizationPolicy bank/broken",
    ),
    // Its connections to this port go past its own proxy.
    (
        STRICT,
        "shop/web",
        "10.0.1.1:7000",
        "plaintext_refused",
        "PeerAuthentication bank/strict of ns/bank in more.yaml:1",
        "the caller would have to come by its own proxy, which proves who it is, or ns/bank have PeerAuthentication bank/strict say PERMISSIVE",
    ),
    (
        NO_RULE,
        "shop/web",
        "cart:80",
        "no_route",
        "HTTPRoute shop/cart of shop in more.yaml:1",
        "shop would have to have a rule that matches in HTTPRoute shop/cart",
    ),
    (
        NO_BACKEND,
        "shop/web",
        "cart:80",
        "invalid_backend",
        "HTTPRoute shop/cart of shop in more.yaml:1",
        "shop would have to name a port of a Service that is there in backendRefs of HTTPRoute shop/cart",
    ),
    (
        "",
        "shop/web",
        "empty:80",
        "no_endpoint",
        "Service shop/empty of shop in mesh.yaml:101",
        "shop would have to have a pod ready behind Service shop/empty",
    ),
    (
        LOCAL,
        "shop/web",
        "near:80",
        "no_local_endpoint",
        "Service shop/near of shop in more.yaml:1",
        "shop would have to have a pod of Service shop/near ready on this node, as a DaemonSet has",
    ),
    (
        "",
        "shop/web",
        "10.0.3.1:15008",
        "reserved_port",
        "Pod far/remote of ns/far in mesh.yaml:44",
        "listen on another port",
    ),
];

#[test]
fn every_refusal_names_its_reason_its_object_and_what_would_have_to_be_changed_by_whom() {
    for (more, from, to, reason, by, remedy) in TABLE {
        let told = Mesh::with(more).tell(from, to);
        assert_eq!(fate(&told), (Outcome::Refused, Some(reason)), "{from} {to}: {told:#?}");
        assert_eq!(told.verdict.by.as_ref().map(place).as_deref(), Some(by), "{from} {to}");
        let says = told.verdict.remedy.unwrap_or_default();
        assert!(says.contains(remedy), "{from} {to}: {says}");
    }
}

#[test]
fn a_pod_whose_policies_are_not_known_lets_nobody_in() {
    let mut mesh = Mesh::with("");
    let bank = mesh.configured.mesh.membership[&"bank".try_into().unwrap()].clone();
    mesh.snapshots.insert(bank.clone(), Arc::new(Snapshot::empty(bank)));
    // The network's policies of that end are not known either: it goes across, to whoever ends the tunnel.
    let told = mesh.tell("shop/web", "ledger.bank:80");
    assert_eq!(fate(&told), (Outcome::Refused, Some("policy_unknown")));
    assert!(said(&told, Name::Receiver).contains("no policies are known of the pod yet"));
}

#[test]
fn an_endpoint_that_is_another_pods_by_now_is_gone() {
    let mesh = Mesh::with("").edited(|mesh| {
        service(mesh, "cart").ports[0].endpoints.iter_mut().for_each(|endpoint| {
            endpoint.address.set_ip("10.0.7.7".parse().unwrap());
        });
    });
    let told = mesh.tell("shop/web", "cart:80");
    assert_eq!(fate(&told), (Outcome::Refused, Some("endpoint_gone")));
    assert!(
        told.verdict.says.contains("the endpoint 10.0.7.7:8080 was pod shop/cart"),
        "{}",
        told.verdict.says
    );
}

#[test]
fn endpoints_of_which_one_refuses_and_one_does_not_are_told_apart() {
    let deny = "apiVersion: v1\nkind: Pod\nmetadata: {name: other, namespace: shop, labels: {app: cart, tier: x}, annotations: {canopy.mesh/netns: /run/netns/other}}\n\
        spec: {serviceAccountName: cart, containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.0.0.3}]}\n---\n\
        apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: shop}\n\
        spec: {selector: {matchLabels: {tier: x}}, action: DENY, rules: [{}]}\n";
    let told = Mesh::with(deny).tell("shop/web", "cart:80");
    assert_eq!(fate(&told), (Outcome::Partly, Some("policy_denied")));
    let says = &told.verdict.says;
    assert!(says.contains("refused is at 1 of 2 endpoints: shop/other does not let it in"), "{says}");
    assert!(
        says.contains("the rest goes on: at 1 of 2 endpoints: 10.0.0.2:8080 (shop/cart), direct"),
        "{says}"
    );
}

#[test]
fn those_that_allow_are_told_with_the_rule_that_does_and_all_that_are_asked_in_their_order() {
    let told = Mesh::with(&[DENY, ALLOW, STRICT].join("---\n")).tell("bank/ledger", "ledger:80");
    let says = said(&told, Name::Receiver);
    assert!(says.starts_with("lets in spiffe://cluster.local/ns/bank/sa/ledger: rules[0] of AuthorizationPolicy bank/allow allows it"), "{says}");
    assert!(
        says.contains("asked first: PeerAuthentication bank/strict, by which port 8080 takes no plaintext"),
        "{says}"
    );
    let (deny, allow) =
        (says.find("then those that deny: bank/deny"), says.find("then those that allow: bank/allow"));
    assert!(deny.is_some() && deny < allow, "{says}");
    assert_eq!(
        objects(&told, Name::Receiver),
        [
            "AuthorizationPolicy bank/allow of ns/bank in more.yaml:6",
            "PeerAuthentication bank/strict of ns/bank in more.yaml:11"
        ]
    );
}
