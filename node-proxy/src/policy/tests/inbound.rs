//! The decision table of inbound connections, from manifests to decisions.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use config::{
    identity::Identity,
    store::{FileText, Options, Store},
};

use crate::{
    control::compile::compile,
    policy::{Denied, Inbound, decide_inbound},
    telemetry::Reason,
};

/// The workload that is called: pod `cart` of namespace `shop`, 10.0.0.9, labels `app: cart`.
const CART: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: cart
  namespace: shop
  labels: {app: cart}
  annotations: {canopy.mesh/netns: /run/netns/cart}
spec: {containers: [{name: c}]}
status: {podIP: 10.0.0.9}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {selector: {app: other}, ports: [{port: 80, targetPort: 8080}]}
";

/// A caller.
#[derive(Debug, Clone, Copy)]
enum By {
    /// With a proven identity, `NAMESPACE/ACCOUNT`.
    Proven(&'static str),
    Plaintext,
}
use By::{Plaintext, Proven};

/// Decides about a connection from 10.0.0.1 to the workload, by these manifests.
fn decide(manifests: &str, by: By, port: u16) -> Result<(), Denied> {
    decide_from(manifests, by, "10.0.0.1:1", port)
}

fn decide_from(manifests: &str, by: By, client: &str, port: u16) -> Result<(), Denied> {
    let text = format!("{CART}---\n{manifests}");
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
    let mesh = Store::new(Options::default()).apply(&files).mesh;
    let snapshot = &compile(&mesh)[&mesh.membership[&"shop".try_into().unwrap()]];
    let identity = match by {
        Proven(name) => {
            let (namespace, account) = name.split_once('/').unwrap();
            Some(Identity {
                trust_domain: "cluster.local".try_into().unwrap(),
                namespace: namespace.try_into().unwrap(),
                service_account: account.try_into().unwrap(),
            })
        }
        Plaintext => None,
    };
    let pod = config::name::PodName::new("shop".try_into().unwrap(), "cart".try_into().unwrap());
    let inbound = Inbound {
        identity: identity.as_ref(),
        client: client.parse::<SocketAddr>().unwrap().ip(),
        destination: SocketAddr::from(([10, 0, 0, 9], port)),
    };
    decide_inbound(snapshot.policies.of(&pod).unwrap(), &inbound)
}

fn reason(decision: &Result<(), Denied>) -> Option<Reason> {
    decision.as_ref().err().map(Denied::reason)
}

fn authorization(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

fn peers(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

const WEB: By = Proven("web/front");

#[test]
fn without_any_policy_everybody_is_let_in() {
    assert_eq!(decide("", WEB, 80), Ok(()));
    assert_eq!(decide("", Plaintext, 80), Ok(()));
}

/// One policy of namespace shop, and whether it lets `web/front` in on port 8080.
#[test]
fn what_one_policy_says_of_a_proven_caller() {
    let denied = Some(Reason::PolicyDenied);
    let unmatched = Some(Reason::NoPolicyAllows);
    for (spec, expected) in [
        // No rule never matches, an empty rule always does.
        ("{}", unmatched),
        ("{rules: [{}]}", None),
        // Rejected, as Istio does.
        ("{action: DENY}", Some(Reason::PolicyUnreadable)),
        ("{action: DENY, rules: [{}]}", denied),
        // Principals: exact, by start, by end, at all.
        ("{rules: [{from: [{source: {principals: [cluster.local/ns/web/sa/front]}}]}]}", None),
        ("{rules: [{from: [{source: {principals: [cluster.local/ns/web/sa/fron]}}]}]}", unmatched),
        ("{rules: [{from: [{source: {principals: ['cluster.local/ns/web/*']}}]}]}", None),
        ("{rules: [{from: [{source: {principals: ['cluster.local/ns/shop/*']}}]}]}", unmatched),
        ("{rules: [{from: [{source: {principals: ['*/sa/front']}}]}]}", None),
        ("{rules: [{from: [{source: {principals: ['*/sa/back']}}]}]}", unmatched),
        ("{rules: [{from: [{source: {principals: ['*']}}]}]}", None),
        ("{rules: [{from: [{source: {notPrincipals: [cluster.local/ns/web/sa/front]}}]}]}", unmatched),
        ("{rules: [{from: [{source: {notPrincipals: [cluster.local/ns/web/sa/other]}}]}]}", None),
        // Namespaces and accounts.
        ("{rules: [{from: [{source: {namespaces: [shop, web]}}]}]}", None),
        ("{rules: [{from: [{source: {namespaces: [shop]}}]}]}", unmatched),
        ("{rules: [{from: [{source: {namespaces: ['we*']}}]}]}", None),
        ("{rules: [{from: [{source: {notNamespaces: [web]}}]}]}", unmatched),
        ("{rules: [{from: [{source: {serviceAccounts: [web/front]}}]}]}", None),
        ("{rules: [{from: [{source: {serviceAccounts: [front]}}]}]}", unmatched),
        ("{rules: [{from: [{source: {notServiceAccounts: [web/front]}}]}]}", unmatched),
        // Fields of a source add up, sources are alternatives.
        ("{rules: [{from: [{source: {namespaces: [web], ipBlocks: [10.1.0.0/16]}}]}]}", unmatched),
        ("{rules: [{from: [{source: {namespaces: [bank]}}, {source: {namespaces: [web]}}]}]}", None),
        // Addresses.
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}", None),
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.1]}}]}]}", None),
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.2]}}]}]}", unmatched),
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.0.0.1]}}]}]}", unmatched),
        // The app's own port.
        ("{rules: [{to: [{operation: {ports: ['8080']}}]}]}", None),
        ("{rules: [{to: [{operation: {ports: ['80', '15008']}}]}]}", unmatched),
        ("{rules: [{to: [{operation: {notPorts: ['8080']}}]}]}", unmatched),
        // From, to and when add up, rules are alternatives.
        ("{rules: [{from: [{source: {namespaces: [web]}}], to: [{operation: {ports: ['80']}}]}]}", unmatched),
        ("{rules: [{from: [{source: {namespaces: [web]}}]}, {to: [{operation: {ports: ['80']}}]}]}", None),
        (
            "{rules: [{when: [{key: source.namespace, values: [web]}, {key: destination.port, values: ['8080']}]}]}",
            None,
        ),
        (
            "{rules: [{when: [{key: source.namespace, values: [web]}, {key: destination.port, values: ['80']}]}]}",
            unmatched,
        ),
        ("{rules: [{when: [{key: source.principal, notValues: ['*']}]}]}", unmatched),
        ("{rules: [{when: [{key: source.ip, values: [10.0.0.0/8], notValues: [10.0.0.1]}]}]}", unmatched),
        ("{rules: [{when: [{key: destination.ip, values: [10.0.0.9]}]}]}", None),
        ("{action: DENY, rules: [{from: [{source: {namespaces: [web]}}]}]}", denied),
        ("{action: DENY, rules: [{from: [{source: {namespaces: [bank]}}]}]}", None),
        // What connections do not show opens nothing, and closes what is left of the rule.
        ("{rules: [{to: [{operation: {paths: [/a]}}]}]}", unmatched),
        ("{rules: [{to: [{operation: {ports: ['8080'], methods: [GET]}}]}]}", unmatched),
        ("{rules: [{to: [{operation: {notPaths: [/a]}}]}]}", unmatched),
        ("{rules: [{to: [{operation: {paths: [/a]}}, {operation: {ports: ['8080']}}]}]}", None),
        ("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}", unmatched),
        ("{rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]}", unmatched),
        ("{rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]}", unmatched),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}", denied),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/a], ports: ['8080']}}]}]}", denied),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/a], ports: ['80']}}]}]}", None),
        ("{action: DENY, rules: [{from: [{source: {namespaces: [bank], requestPrincipals: ['*']}}]}]}", None),
        ("{action: DENY, rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]}", denied),
        // Nobody can be asked, so nobody agrees; an audit decides nothing.
        ("{action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {paths: [/a]}}]}]}", denied),
        ("{action: AUDIT, rules: [{}]}", None),
        // Whom it is about.
        ("{selector: {matchLabels: {app: cart}}}", unmatched),
        ("{selector: {matchLabels: {app: other}}}", None),
        ("{targetRefs: [{group: '', kind: Service, name: cart}]}", unmatched),
        ("{targetRefs: [{group: '', kind: Service, name: other}]}", None),
        ("{targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: cart}}", None),
        // What cannot be read denies its target, and its namespace where the target cannot be read.
        ("{rules: [{form: []}]}", Some(Reason::PolicyUnreadable)),
        ("{rules: [{from: [{source: {ipBlocks: [x]}}]}]}", Some(Reason::PolicyUnreadable)),
        ("{action: PERMIT, rules: [{}]}", Some(Reason::PolicyUnreadable)),
        ("{selector: {matchLabels: {app: other}}, rules: [{form: []}]}", None),
        ("{selector: {matchLabels: {app: cart}}, rules: [{form: []}]}", Some(Reason::PolicyUnreadable)),
        ("{selecter: {matchLabels: {app: other}}}", Some(Reason::PolicyUnreadable)),
        ("{selector: {matchLabels: {app: 7}}}", Some(Reason::PolicyUnreadable)),
        ("{selector: {matchLabel: {app: other}}}", Some(Reason::PolicyUnreadable)),
    ] {
        let decision = decide(&authorization("p", "shop", spec), WEB, 8080);
        assert_eq!(reason(&decision), expected, "{spec}: {decision:?}");
    }
}

/// What would deny nobody, since nobody is called so, denies everybody until it is mended.
#[test]
fn a_policy_of_whom_nobody_can_be_is_one_that_cannot_be_read() {
    for spec in [
        "{rules: [{from: [{source: {principals: [spiffe://cluster.local/ns/web/sa/front]}}]}]}",
        "{rules: [{from: [{source: {principals: [cluster.local/ns/web/sa/front/longer]}}]}]}",
        "{action: DENY, rules: [{from: [{source: {principals: [spiffe://cluster.local/ns/web/sa/x]}}]}]}",
        "{action: DENY, rules: [{from: [{source: {principals: [ns/web/sa/x]}}]}]}",
        "{action: DENY, rules: [{from: [{source: {namespaces: ['']}}]}]}",
        "{action: DENY, rules: [{when: [{key: source.principal, values: ['']}]}]}",
    ] {
        let decision = decide(&authorization("p", "shop", spec), WEB, 8080);
        assert_eq!(reason(&decision), Some(Reason::PolicyUnreadable), "{spec}: {decision:?}");
    }
}

#[test]
fn who_proves_nothing_has_no_namespace_and_no_principal() {
    for (spec, expected) in [
        ("{rules: [{from: [{source: {namespaces: ['*']}}]}]}", false),
        ("{rules: [{from: [{source: {principals: ['*']}}]}]}", false),
        ("{rules: [{from: [{source: {serviceAccounts: [web/front]}}]}]}", false),
        ("{rules: [{from: [{source: {notPrincipals: [cluster.local/ns/web/sa/front]}}]}]}", true),
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}", true),
        ("{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}", false),
        ("{action: DENY, rules: [{from: [{source: {notNamespaces: [web]}}]}]}", false),
    ] {
        let decision = decide(&authorization("p", "shop", spec), Plaintext, 8080);
        assert_eq!(decision.is_ok(), expected, "{spec}: {decision:?}");
    }
}

#[test]
fn denial_comes_before_permission_and_one_permission_is_enough() {
    let allow = authorization("allow", "shop", "{rules: [{from: [{source: {namespaces: [web]}}]}]}");
    let allow_bank =
        authorization("allow-bank", "shop", "{rules: [{from: [{source: {namespaces: [bank]}}]}]}");
    let deny =
        authorization("deny", "shop", "{action: DENY, rules: [{to: [{operation: {ports: ['9090']}}]}]}");
    let all = allow.clone() + &allow_bank + &deny;
    assert_eq!(reason(&decide(&all, WEB, 8080)), None);
    assert_eq!(reason(&decide(&all, Proven("bank/teller"), 8080)), None);
    assert_eq!(reason(&decide(&all, Proven("shop/cart"), 8080)), Some(Reason::NoPolicyAllows));
    let decision = decide(&all, WEB, 9090);
    assert_eq!(reason(&decision), Some(Reason::PolicyDenied));
    assert_eq!(decision.unwrap_err().policy().unwrap().to_string(), "shop/deny");
}

#[test]
fn policies_of_the_root_namespace_are_for_all_and_those_of_other_namespaces_for_none_but_their_own() {
    let nothing = "{}";
    assert!(decide(&authorization("p", "istio-system", nothing), WEB, 80).is_err());
    assert!(decide(&authorization("p", "bank", nothing), WEB, 80).is_ok());
    let cart = "{selector: {matchLabels: {app: cart}}}";
    assert!(decide(&authorization("p", "istio-system", cart), WEB, 80).is_err());
    assert!(decide(&authorization("p", "bank", cart), WEB, 80).is_ok());
    let other = "{selector: {matchLabels: {app: other}}}";
    assert!(decide(&authorization("p", "istio-system", other), WEB, 80).is_ok());
}

#[test]
fn a_dry_run_decides_nothing() {
    let policy = authorization("p", "shop", "{}")
        .replace("namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: 'true'}}");
    assert_eq!(decide(&policy, WEB, 80), Ok(()));
}

/// PeerAuthentications, and whether plaintext to port 8080, and to port 9090, is taken.
#[test]
fn plaintext_is_refused_where_the_narrowest_word_is_strict() {
    let strict = "{mtls: {mode: STRICT}}";
    let permissive = "{mtls: {mode: PERMISSIVE}}";
    let of_cart = |rest: &str| format!("{{selector: {{matchLabels: {{app: cart}}}}, {rest}}}");
    let mesh = |spec: &str| peers("mesh", "istio-system", spec);
    let own = |spec: &str| peers("own", "shop", spec);
    let pod = |rest: &str| peers("pod", "shop", &of_cart(rest));
    for (manifests, on_8080, on_9090) in [
        (String::new(), true, true),
        (mesh(strict), false, false),
        (own(strict), false, false),
        (peers("p", "bank", strict), true, true),
        (mesh(strict) + &own(permissive), true, true),
        (mesh(permissive) + &own(strict), false, false),
        (mesh(strict) + &own("{mtls: {mode: UNSET}}"), false, false),
        (mesh(strict) + &own("{}"), false, false),
        (own(strict) + &pod("mtls: {mode: PERMISSIVE}"), true, true),
        (own(strict) + &pod("mtls: {mode: DISABLE}"), true, true),
        (own(permissive) + &pod("mtls: {mode: STRICT}"), false, false),
        (own(strict) + &pod("portLevelMtls: {'8080': {mode: PERMISSIVE}}"), true, false),
        (own(permissive) + &pod("portLevelMtls: {'8080': {mode: STRICT}}"), false, true),
        (pod("mtls: {mode: STRICT}, portLevelMtls: {'8080': {mode: DISABLE}}"), true, false),
        (pod("mtls: {mode: STRICT}, portLevelMtls: {'8080': {mode: UNSET}}"), false, false),
        (peers("p", "shop", "{selector: {matchLabels: {app: other}}, mtls: {mode: STRICT}}"), true, true),
        // A selector in the root namespace is about that namespace's own workloads.
        (peers("p", "istio-system", &of_cart("mtls: {mode: STRICT}")), true, true),
        // What cannot be read is taken for the strictest it could be.
        (own("{mtls: {mode: STRIKT}}"), false, false),
        (own(permissive) + &peers("z", "shop", "{mtls: {mod: PERMISSIVE}}"), false, false),
        (peers("z", "shop", "{selector: {matchLabels: {app: other}}, mtls: {mod: STRICT}}"), true, true),
    ] {
        for (port, taken) in [(8080, on_8080), (9090, on_9090)] {
            let decision = decide(&manifests, Plaintext, port);
            let expected = (!taken).then_some(Reason::PlaintextRefused);
            assert_eq!(reason(&decision), expected, "port {port}: {decision:?}\n{manifests}");
            assert_eq!(decide(&manifests, WEB, port), Ok(()), "who proves itself is let in\n{manifests}");
        }
    }
}

#[test]
fn of_two_peer_authentications_for_the_same_the_older_counts() {
    let at = |name: &str, mode: &str, year: u16| {
        peers(name, "shop", &format!("{{mtls: {{mode: {mode}}}}}")).replace(
            "namespace: shop}",
            &format!("namespace: shop, creationTimestamp: '{year}-01-01T00:00:00Z'}}"),
        )
    };
    let older_strict = at("b", "STRICT", 2024) + &at("a", "PERMISSIVE", 2025);
    assert_eq!(reason(&decide(&older_strict, Plaintext, 80)), Some(Reason::PlaintextRefused));
    let older_permissive = at("b", "PERMISSIVE", 2024) + &at("a", "STRICT", 2025);
    assert_eq!(decide(&older_permissive, Plaintext, 80), Ok(()));
}

#[test]
fn an_ipv6_caller_is_in_ipv6_blocks_alone() {
    let policy =
        authorization("p", "shop", "{rules: [{from: [{source: {ipBlocks: ['fd00::/8', 10.0.0.0/8]}}]}]}");
    assert!(decide_from(&policy, Plaintext, "[fd00::1]:1", 80).is_ok());
    assert!(decide_from(&policy, Plaintext, "[2001:db8::1]:1", 80).is_err());
}
