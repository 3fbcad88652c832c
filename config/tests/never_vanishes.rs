//! What may have been a security object and cannot be read stands in for it, from the first look at a directory on:
//! what is denied, how it is told, and that a daemon that runs and one that starts agree.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Reason, Severity},
    model::{Action, Mesh, Scope},
    store::{FileText, Options, Outcome, Store},
};

fn files(texts: &[(&str, &str)]) -> BTreeMap<PathBuf, FileText> {
    texts.iter().map(|(path, text)| (PathBuf::from(path), FileText::from(*text))).collect()
}

fn apply(texts: &[(&str, &str)]) -> Outcome {
    Store::new(Options::default()).apply(&files(texts))
}

/// Whose connections are all refused, as the findings name it: `shop`, `shop app=cart`, `*` for the mesh.
fn denied(mesh: &Mesh) -> Vec<String> {
    let unreadable = mesh.authorization.values().filter(|policy| policy.action == Action::Unreadable);
    let mut found: Vec<String> = unreadable.map(|policy| show(&policy.scope)).collect();
    let strict = mesh.peer_authentication.values().filter(|peers| peers.unreadable);
    found.extend(strict.map(|peers| format!("plaintext {}", show(&peers.scope))));
    let narrow = mesh.network_policies.values().filter(|policy| policy.unreadable);
    found.extend(narrow.map(|policy| format!("short cuts {}", policy.name.namespace)));
    found.sort();
    found.dedup();
    found
}

fn show(scope: &Scope) -> String {
    match scope {
        Scope::Mesh => "*".to_owned(),
        Scope::Namespace(namespace) => namespace.to_string(),
        Scope::Selected { namespace, labels } => {
            let of = namespace.as_ref().map_or("*", |namespace| namespace.as_str());
            let labels = labels.iter().map(|(key, value)| format!(" {key}={value}"));
            format!("{of}{}", labels.collect::<String>())
        }
        Scope::Services(services) => services.iter().map(ToString::to_string).collect(),
        Scope::Pods(pods) => pods.iter().map(ToString::to_string).collect(),
    }
}

const POLICY: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {selector: {matchLabels: {app: cart}}, action: DENY, rules: [{}]}
";
const PEERS: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: q, namespace: shop}
spec: {mtls: {mode: STRICT}}
";
const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: s, namespace: bank}
spec: {ports: [{port: 80}]}
";

/// `POLICY` with one thing otherwise.
fn with(from: &str, to: &str) -> String {
    assert!(POLICY.contains(from), "{from}");
    POLICY.replace(from, to)
}

#[test]
fn what_is_left_of_a_policy_denies_its_target_or_all_namespaces_that_it_may_be_of() {
    for (name, text, expected) in [
        ("broken rule", with("rules: [{}]", "rules: [{"), "shop"),
        ("broken label", with("app: cart", "app: [cart"), "shop"),
        ("tab", with("spec: {", "spec:\n\t{"), "shop"),
        ("no namespace left", with("namespace: shop}", "namesp"), "default"),
        (
            "another document of the file names one",
            format!("{SERVICE}---\n{}", with(", namespace: shop}", "")),
            "bank, default",
        ),
        ("another version", with("istio.io/v1", "istio.io/v2"), "shop app=cart"),
        ("another group", with("security.istio.io", "rbac.istio.io"), "shop app=cart"),
        (
            "a kind that became a key",
            with("kind: AuthorizationPolicy", "? AuthorizationPolicy").replace("istio.io/v1", "istio"),
            "shop app=cart",
        ),
        ("a kind that ran into the version", with("\nkind: A", "/"), "shop"),
        ("half of the group", with("security.istio.io", "stio.io"), "shop app=cart"),
        ("broken, with half of the group", POLICY.replace(": security.istio", ":stio"), "shop"),
        ("a slip in the group", with("security.istio.io", "securty.istio.io"), "shop app=cart"),
        ("no group", with("security.istio.io/", ""), "shop app=cart"),
        ("no version", with("apiVersion: security.istio.io/v1\n", ""), "shop app=cart"),
        (
            "a slip in the kind",
            with("kind: AuthorizationPolicy", "kind: AuthorisationPolicy"),
            "shop app=cart",
        ),
        ("no such kind", with("kind: AuthorizationPolicy", "kind: Policy"), "shop"),
        ("no kind", with("kind: AuthorizationPolicy\n", ""), "shop"),
        ("no name", with("name: p, ", ""), "shop"),
        ("a number for a name", with("name: p", "name: 7"), "shop"),
        ("no such name", with("name: p", "name: P_P"), "shop"),
        ("a slip in the key of the namespace", with("namespace", "namespce"), "shop"),
        ("no such namespace", with("namespace: shop", "namespace: Shop_1"), "default"),
        ("a number for a namespace", with("namespace: shop", "namespace: 5"), "5, default"),
        ("a namespace too much", with("metadata:", "namespace: bank\nmetadata:"), "bank, shop"),
        ("metadata twice", format!("{POLICY}metadata: {{name: x, namespace: bank}}\n"), "bank, shop"),
        ("two documents in one", format!("{SERVICE}{POLICY}"), "bank, shop"),
        ("a list below it", format!("{POLICY}items: []\nkind: List\n"), "shop"),
        (
            "below metadata",
            format!("metadata:\n  {}", POLICY.replace('\n', "\n  ").trim_end()),
            "shop app=cart",
        ),
        ("two in one, the other way", format!("{POLICY}{SERVICE}"), "bank, shop"),
        ("colons without spaces", POLICY.replace(": ", ":"), "shop"),
        ("a list of YAML", format!("- {}", POLICY.replace('\n', "\n  ").trim_end()), "shop app=cart"),
        ("below a key", format!("policy:\n  {}", POLICY.replace('\n', "\n  ").trim_end()), "shop app=cart"),
        (
            "a target that nobody knows",
            with("selector: {matchLabels: {app: cart}}", "targetRefs: [{kind: Servce, name: s}]"),
            "shop",
        ),
        (
            "of the root namespace",
            with("namespace: shop", "namespace: istio-system").replace("rules: [{}]", "rules: {"),
            "*",
        ),
        ("strictness", PEERS.replace("mode: STRICT", "mode: ["), "plaintext shop"),
        ("strictness of another version", PEERS.replace("/v1", "/v3"), "plaintext shop"),
        (
            "a network policy",
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: shop, [\n"
                .to_owned(),
            "short cuts shop",
        ),
        (
            "a network policy of old",
            "apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: shop}\n"
                .to_owned(),
            "short cuts shop",
        ),
    ] {
        assert_denies(name, &text, expected);
    }
}

#[test]
fn words_in_lists_and_mappings_parts_cut_off_and_rules_that_are_gone_deny_as_if_they_were_there() {
    for (name, text, expected) in [
        ("a kind in a list", with("kind: A", "kind:\n- A"), "shop app=cart"),
        (
            "a kind in a mapping",
            with("kind: AuthorizationPolicy", "kind: {AuthorizationPolicy: }"),
            "shop app=cart",
        ),
        (
            "a kind of a list in a list",
            with("kind: AuthorizationPolicy", "kind: [AuthorizationPolicyList]"),
            "shop app=cart",
        ),
        ("a namespace in a list", with("namespace: shop", "namespace: [shop]"), "default, shop"),
        ("a namespace under another key", with("namespace:", "foo:"), "default, shop"),
        ("two words for a namespace", with("namespace: shop", "namespace: shop bank"), "bank, default, shop"),
        (
            "of no namespace, beside what is of one",
            format!("{SERVICE}---\n{}", with(", namespace: shop", "").replace("istio.io/v1", "istio.io/v2")),
            "default app=cart",
        ),
        ("a rule less than one", with("rules: [{}]", "rules: []"), "shop app=cart"),
        ("a line too much", with("spec: {", "---\nspec: {"), "shop"),
        (
            "a line too much in its metadata",
            POLICY.replace("{name: p, ", "\n  name: p\n---\n  ").replace("shop}", "shop"),
            "default, shop",
        ),
    ] {
        assert_denies(name, &text, expected);
    }
}

/// What is denied, each told once, with a word of what is wrong.
fn assert_denies(name: &str, text: &str, expected: &str) {
    let outcome = apply(&[("a.yaml", text)]);
    assert_eq!(denied(&outcome.mesh).join(", "), expected, "{name}: {:#?}", outcome.findings);
    let told = outcome.findings.iter().filter(|finding| finding.reason == Reason::StoodIn).count();
    assert_eq!(told, expected.split(", ").count(), "{name}: {:#?}", outcome.findings);
    assert!(outcome.findings.iter().any(|finding| finding.severity == Severity::Rejected), "{name}");
}

#[test]
fn a_policy_in_another_encoding_or_in_a_file_that_is_too_large_still_denies() {
    let utf16 = |unit: u16| unit.to_le_bytes();
    let encoded: Vec<u8> = POLICY.encode_utf16().flat_map(utf16).collect();
    let latin: Vec<u8> = [b"# caf\xe9\n", POLICY.as_bytes()].concat();
    for bytes in [encoded, latin] {
        let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(bytes))]);
        assert_eq!(denied(&Store::new(Options::default()).apply(&files).mesh), ["shop"]);
    }
    let default = config::Limits::default;
    for limits in [
        config::Limits { file_bytes: 10, ..default() },
        config::Limits { documents_per_file: 0, ..default() },
        config::Limits { nodes_per_document: 3, ..default() },
        config::Limits { objects: 0, ..default() },
    ] {
        let mut store = Store::new(Options { limits: limits.clone(), ..Options::default() });
        let outcome = store.apply(&files(&[("a.yaml", POLICY)]));
        let expected = if limits.objects == 0 { "shop app=cart" } else { "shop" };
        assert_eq!(denied(&outcome.mesh), [expected], "{limits:?}: {:#?}", outcome.findings);
    }
}

#[test]
fn what_is_somebody_elses_or_says_that_it_is_something_else_denies_nothing() {
    for text in [
        "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: [\n",
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: p, namespace: shop}\n",
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentcation\nmetadata: {name: p, namespace: shop}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  p.yaml: |\n    kind: AuthorizationPolicy\n",
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop}\nspec: [\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {labels: {kind: AuthorizationPolicy}}\nspec: {env: [{name: a, value: b}, {x: {value: AuthorizationPolicy}}]}\n",
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nrules: [{apiGroups: [security.istio.io], resources: [authorizationpolicies}]\n",
        "{",
        "apiVersion: v1\nkind: [ConfigMap]\nmetadata: {name: c, annotations: {kind: AuthorizationPolicy}}\ndata: {x: {kind: [AuthorizationPolicy], apiVersion: [security.istio.io/v1]}}\n",
        "apiVersion: kyverno.io/v1\nkind: [ClusterPolicy]\nspec: {rules: [{match: {kinds: [AuthorizationPolicy]}, kinds: [NetworkPolicy]}]}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\n---\nspec: {ports: [{port: 80}]}\n",
    ] {
        let outcome = apply(&[("a.yaml", text)]);
        assert!(denied(&outcome.mesh).is_empty(), "{text}: {:#?}", outcome.findings);
    }
}

/// `text` as an item of a list of YAML.
fn item(text: &str) -> String {
    format!("- {}\n", text.trim_end().replace('\n', "\n  "))
}

fn list(api: &str, kind: &str, items: &str) -> String {
    format!("apiVersion: {api}\nkind: {kind}\nitems:\n{items}")
}

#[test]
fn lists_are_read_item_by_item_however_they_are_nested_and_of_whichever_kind_they_are() {
    let list =
        |api: &str, kind: &str, items: &str| format!("apiVersion: {api}\nkind: {kind}\nitems:\n{items}");
    let plain = list("v1", "List", &(item(SERVICE) + &item(POLICY)));
    let outcome = apply(&[("a.yaml", &plain)]);
    assert_eq!(
        (outcome.accepted, outcome.findings.iter().filter(|f| f.severity == Severity::Rejected).count()),
        (2, 0)
    );
    let nested = list("v1", "List", &item(&plain));
    assert_eq!(apply(&[("a.yaml", &nested)]).mesh.authorization.len(), 1);
    // As the API server sends them: the list says for all of its items what they are.
    let bare = POLICY.lines().skip(2).collect::<Vec<_>>().join("\n");
    let typed = list("security.istio.io/v1", "AuthorizationPolicyList", &item(&bare));
    let outcome = apply(&[("a.yaml", &typed)]);
    assert_eq!((outcome.accepted, denied(&outcome.mesh).len()), (1, 0), "{:#?}", outcome.findings);
    // Items that are wrong are told where they are, and stand in for themselves alone.
    let wrong = nested.replace("rules: [{}]", "rules: [{form: []}]");
    let outcome = apply(&[("a.yaml", &wrong)]);
    assert_eq!((outcome.accepted, denied(&outcome.mesh)), (1, vec!["shop app=cart".to_owned()]));
    let rejected = outcome.findings.iter().find(|finding| finding.severity == Severity::Rejected).unwrap();
    assert_eq!((rejected.position.line, rejected.field.as_str()), (14, "spec.rules[0].form"), "{rejected}");
}

#[test]
fn a_list_that_is_none_denies_what_its_items_may_be() {
    let two = item(POLICY) + &item(PEERS);
    for (name, text) in [
        ("another version", list("v2", "List", &two)),
        ("another group", list("apps/v1", "List", &two)),
        ("a slip", list("v1", "Lst", &two)),
        ("no version", list("v1", "List", &two).replace("apiVersion: v1\nkind: List", "kind: List")),
        ("a kind of somebody's", list("example.org/v1", "Bundle", &two)),
        ("a list of a version that is not", list("security.istio.io/v7", "AuthorizationPolicyList", &two)),
        (
            "items below a key",
            list("v1", "List", "  all:\n")
                + &two.lines().map(|line| format!("  {line}\n")).collect::<String>(),
        ),
    ] {
        let outcome = apply(&[("a.yaml", &text)]);
        assert_eq!(
            denied(&outcome.mesh),
            ["plaintext shop", "shop app=cart"],
            "{name}: {:#?}",
            outcome.findings
        );
    }
    let outcome = apply(&[("a.yaml", &(list("v1", "List", &two) + "  [\n"))]);
    assert_eq!(denied(&outcome.mesh), ["plaintext shop", "shop"], "{:#?}", outcome.findings);
}

#[test]
fn of_two_policies_of_one_name_that_differ_none_is_in_force_and_both_deny() {
    let other = with("app: cart", "app: web");
    let allow = with("action: DENY", "action: ALLOW");
    for (second, expected) in [
        (other.as_str(), "shop"),
        (&allow, "shop app=cart"),
        (&with("rules: [{}]", "rules: [{form: []}]"), "shop app=cart"),
        (&with("action: DENY", "action: AUDIT"), "shop app=cart"),
        (&with("istio.io/v1", "istio.io/v2"), "shop app=cart"),
    ] {
        for pair in [[("a.yaml", POLICY), ("b.yaml", second)], [("a.yaml", second), ("b.yaml", POLICY)]] {
            let outcome = apply(&pair);
            assert_eq!(denied(&outcome.mesh), [expected], "{pair:?}: {:#?}", outcome.findings);
            assert_eq!(outcome.mesh.authorization.len(), 1);
            let said = |reason| outcome.findings.iter().filter(|finding| finding.reason == reason).count();
            assert_eq!((said(Reason::StoodIn), said(Reason::Duplicate)), (1, 1), "{:#?}", outcome.findings);
        }
        // Whichever is in force stays so, whatever its file is called.
        let mut store = Store::new(Options::default());
        let first = store.apply(&files(&[("b.yaml", POLICY)]));
        let both = store.apply(&files(&[("a.yaml", second), ("b.yaml", POLICY)]));
        assert_eq!(*both.mesh, *first.mesh, "{:#?}", both.findings);
    }
    // Twice the same is no contradiction, wherever it is written.
    let outcome = apply(&[("a.yaml", POLICY), ("b.yaml", &format!("# again\n{POLICY}"))]);
    assert_eq!((denied(&outcome.mesh).len(), outcome.accepted), (0, 1));
}

#[test]
fn what_stands_in_never_takes_the_place_of_a_policy_that_is_in_force() {
    let named = with("name: p,", "name: unreadable-in-a.yaml,");
    let outcome = apply(&[("a.yaml", &format!("{}---\n{named}", with("spec: {", "spec: [")))]);
    let names: Vec<String> = outcome.mesh.authorization.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop/unreadable-in-a.yaml", "shop/unreadable-in-a.yaml-2"]);
    assert_eq!((outcome.accepted, denied(&outcome.mesh)), (1, vec!["shop".to_owned()]));
}

#[test]
fn a_last_good_version_answers_for_what_its_file_became_and_for_no_more() {
    let broken = with("rules: [{}]", "rules: [{");
    let two = format!("{POLICY}---\n{PEERS}");
    for (before, after, expected) in [
        (POLICY, broken.clone(), ""),
        (POLICY, with("name: p, ", ""), ""),
        (POLICY, with("namespace", "namespce"), ""),
        (POLICY, with("namespace: shop", "namespace: Shop_1"), ""),
        (POLICY, with("kind: AuthorizationPolicy", "kind: Policy"), ""),
        (POLICY, format!("{SERVICE}{POLICY}"), ""),
        (PEERS, PEERS.replace("kind: PeerAuthentication", "kind: Peers"), ""),
        (&two, two.replace("---\n", "").replace("spec: {mtls", "spec: {{"), ""),
        (&two, format!("{POLICY}{PEERS}"), ""),
        // What was never in force is another matter, also beside what was.
        (POLICY, format!("{broken}---\n{}", PEERS.replace("mode: STRICT", "[")), "plaintext shop"),
        (POLICY, format!("{broken}---\n{}", broken.replace("name: p", "name: r")), "shop"),
        (POLICY, format!("{POLICY}---\n{}", broken.replace("name: p", "name: r")), "shop"),
        (POLICY, broken.replace("namespace: shop", "namespace: bank"), "bank"),
        (SERVICE, format!("{SERVICE}---\n{broken}"), "shop"),
    ] {
        let mut store = Store::new(Options::default());
        let good = store.apply(&files(&[("a.yaml", before)]));
        let outcome = store.apply(&files(&[("a.yaml", &after)]));
        assert_eq!(
            denied(&outcome.mesh).join(", "),
            expected,
            "{before}\n→\n{after}\n{:#?}",
            outcome.findings
        );
        assert!(outcome.mesh.authorization.len() >= good.mesh.authorization.len(), "{after}");
        assert!(outcome.mesh.peer_authentication.len() >= good.mesh.peer_authentication.len(), "{after}");
        // Mended, nothing of it is left.
        let mended = store.apply(&files(&[("a.yaml", before)])).mesh;
        assert_eq!(mended.authorization, good.mesh.authorization);
        assert_eq!(mended.peer_authentication, good.mesh.peer_authentication);
    }
}

#[test]
fn signs_that_are_gone_are_remembered_only_while_the_file_does_not_say_what_it_is() {
    let broken = with("rules: [{}]", "rules: [{");
    let mut store = Store::new(Options::default());
    let mut after = |text: &str| denied(&store.apply(&files(&[("a.yaml", text)])).mesh).join(", ");
    assert_eq!(after(&broken), "shop");
    assert_eq!(after("{"), "shop", "as a file is while it is written");
    assert_eq!(after(&format!("# moved\n{broken}")), "shop");
    assert_eq!(after(&format!("{SERVICE}spec: {{}}\n")), "", "it says what is wrong in it: something else");
    assert_eq!(after(&broken), "shop");
    assert_eq!(after(POLICY), "");
}
