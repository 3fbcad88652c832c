//! What nobody can read, or nobody can resolve, opens nothing: connections that the unbroken policy refuses stay refused,
//! by a daemon that starts with the broken files and by one that comes to see them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use config::{
    finding::{Reason as Found, Severity},
    model::Mesh,
    name::PodName,
    store::{FileText, Options, Outcome, Store},
};
use proptest::prelude::*;

use crate::{
    control::compile::compile,
    policy::{Denied, Inbound, decide_inbound},
};

/// Pod `cart` of namespace `shop` (labels `app: cart`, port `web`), pod `other` beside it, `ledger` in namespace `bank`.
fn pods() -> String {
    let pod = |namespace: &str, name: &str, address: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}, \
             annotations: {{canopy.mesh/netns: /run/netns/{name}}}}}\n\
             spec: {{containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}]}}]}}\nstatus: {{podIP: {address}}}\n---\n"
        )
    };
    pod("shop", "cart", "10.0.0.9") + &pod("shop", "other", "10.0.0.8") + &pod("bank", "ledger", "10.0.1.9")
}

type Files<'a> = [(&'a str, &'a [u8])];

fn given(files: &Files<'_>) -> BTreeMap<PathBuf, FileText> {
    let pods = pods();
    let all = files.iter().copied().chain([("pods.yaml", pods.as_bytes())]);
    all.map(|(path, bytes)| (PathBuf::from(path), FileText::from(bytes.to_vec()))).collect()
}

fn look(store: &mut Store, files: &Files<'_>) -> Outcome {
    store.apply(&given(files))
}

/// Decides about a plaintext connection from 10.0.0.1 to a pod, `NAMESPACE/NAME`.
fn decide(mesh: &Mesh, pod: &str) -> Result<(), Denied> {
    let (namespace, name) = pod.split_once('/').unwrap();
    let snapshot = &compile(mesh)[&mesh.membership[&namespace.try_into().unwrap()]];
    let pod = PodName::new(namespace.try_into().unwrap(), name.try_into().unwrap());
    let inbound = Inbound {
        identity: None,
        client: [10, 0, 0, 1].into(),
        destination: SocketAddr::from(([10, 0, 0, 9], 8080)),
    };
    decide_inbound(snapshot.policies.of(&pod).unwrap(), &inbound)
}

/// Which of the three pods let the connection in.
fn open(mesh: &Mesh) -> String {
    let all = ["shop/cart", "shop/other", "bank/ledger"];
    all.into_iter().filter(|pod| decide(mesh, pod).is_ok()).collect::<Vec<_>>().join(" ")
}

const HEAD: &str =
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n";

/// Policies that refuse the connection to `shop/cart`, each in its own way.
fn refusing() -> [String; 4] {
    let peers = HEAD.replace("AuthorizationPolicy", "PeerAuthentication");
    [
        format!(
            "{HEAD}spec:\n  selector: {{matchLabels: {{app: cart}}}}\n  rules:\n  - from: [{{source: {{namespaces: [web]}}}}]\n"
        ),
        format!(
            "{HEAD}spec:\n  action: DENY\n  rules: [{{from: [{{source: {{ipBlocks: [10.0.0.0/8]}}}}]}}]\n"
        ),
        format!("{peers}spec:\n  mtls: {{mode: STRICT}}\n"),
        format!("{peers}spec:\n  selector: {{matchLabels: {{app: cart}}}}\n  mtls: {{mode: STRICT}}\n"),
    ]
}

/// What becomes of a file by a slip or an accident.
fn breakages(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let with = |from: &str, to: &str| text.replacen(from, to, 1).into_bytes();
    let list = |items: String| format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    let item = format!("- {}\n", text.trim_end().replace('\n', "\n  "));
    let kind = text.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
    vec![
        ("broken as YAML", with("spec:", "spec: [")),
        ("a tab", with("spec:\n ", "spec:\n\t")),
        ("cut off within the spec", text.as_bytes()[..text.find("spec:").unwrap() + 9].to_vec()),
        ("in another encoding", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("another version", with("istio.io/v1", "istio.io/v2")),
        ("another group", with("security.istio.io", "istio.io")),
        ("a slip in the group", with("security", "securty")),
        ("no version", with("apiVersion: security.istio.io/v1\n", "")),
        ("a slip in the kind", with("kind: ", "kind: x")),
        ("no such kind", with(&format!("kind: {kind}"), "kind: Policy")),
        ("no kind", with(&format!("kind: {kind}\n"), "")),
        ("no name", with("name: p, ", "")),
        ("a slip in the key of the namespace", with("namespace:", "namespase:")),
        (
            "merged with what is above it",
            [b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n", text.as_bytes()].concat(),
        ),
        (
            "merged with what is below it",
            [text.as_bytes(), b"apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"].concat(),
        ),
        ("an item of a broken list", (list(item.clone()) + "- {\n").into_bytes()),
        (
            "an item of a list of no version",
            list(item.clone()).replacen("apiVersion: v1\n", "", 1).into_bytes(),
        ),
        (
            "an item of a list of another kind",
            list(item.clone()).replacen("kind: List", "kind: Lost", 1).into_bytes(),
        ),
        (
            "an item of a list in a list",
            list(format!("- {}\n", list(item.replace("p,", "P,")).trim_end().replace('\n', "\n  ")))
                .into_bytes(),
        ),
        (
            "an item of a typed list of another version",
            format!("apiVersion: security.istio.io/v9\nkind: {kind}List\nitems:\n{item}").into_bytes(),
        ),
        ("an unknown field", with("spec:\n", "spec:\n  speck: 1\n")),
    ]
}

#[test]
fn a_policy_that_breaks_before_it_was_in_force_refuses_what_it_would_refuse_unbroken() {
    for text in refusing() {
        let whole = look(&mut Store::new(Options::default()), &[("a.yaml", text.as_bytes())]);
        assert!(decide(&whole.mesh, "shop/cart").is_err(), "{text}");
        for (name, broken) in breakages(&text) {
            let files: &Files<'_> = &[("a.yaml", &broken)];
            let mut started = Store::new(Options::default());
            let started = look(&mut started, files);
            let shown = String::from_utf8_lossy(&broken);
            assert!(decide(&started.mesh, "shop/cart").is_err(), "{name}:\n{shown}\n{:#?}", started.findings);
            assert!(
                decide(&started.mesh, "bank/ledger").is_ok(),
                "{name} reaches into another namespace:\n{shown}"
            );
            let told = |reason| started.findings.iter().any(|finding| finding.reason == reason);
            assert!(told(Found::StoodIn), "{name}: {:#?}", started.findings);
            // One that runs and sees it anew ends in the same, and so it does after the file was gone for a while.
            let mut running = Store::new(Options::default());
            look(&mut running, &[]);
            let seen = look(&mut running, files);
            assert_eq!(open(&seen.mesh), open(&started.mesh), "{name}");
            look(&mut running, &[]);
            assert_eq!(open(&look(&mut running, files).mesh), open(&started.mesh), "{name}");
            // A last good version goes on as it was.
            let mut good = Store::new(Options::default());
            look(&mut good, &[("a.yaml", text.as_bytes())]);
            let kept = look(&mut good, files);
            assert_eq!(open(&kept.mesh), open(&whole.mesh), "{name}:\n{shown}\n{:#?}", kept.findings);
        }
    }
}

/// Every list of a rule, as `ABOVE [~] BELOW`.
const LISTS: [(&str, &str); 23] = [
    ("{from: [{source: {principals: ", "}}]}"),
    ("{from: [{source: {notPrincipals: ", "}}]}"),
    ("{from: [{source: {namespaces: ", "}}]}"),
    ("{from: [{source: {notNamespaces: ", "}}]}"),
    ("{from: [{source: {serviceAccounts: ", "}}]}"),
    ("{from: [{source: {notServiceAccounts: ", "}}]}"),
    ("{from: [{source: {ipBlocks: ", "}}]}"),
    ("{from: [{source: {notIpBlocks: ", "}}]}"),
    ("{from: [{source: {requestPrincipals: ", "}}]}"),
    ("{from: [{source: {notRequestPrincipals: ", "}}]}"),
    ("{from: [{source: {remoteIpBlocks: ", "}}]}"),
    ("{from: [{source: {notRemoteIpBlocks: ", "}}]}"),
    ("{to: [{operation: {ports: ", "}}]}"),
    ("{to: [{operation: {notPorts: ", "}}]}"),
    ("{to: [{operation: {hosts: ", "}}]}"),
    ("{to: [{operation: {notHosts: ", "}}]}"),
    ("{to: [{operation: {methods: ", "}}]}"),
    ("{to: [{operation: {paths: ", "}}]}"),
    ("{when: [{key: source.namespace, values: ", "}]}"),
    ("{when: [{key: source.ip, notValues: ", "}]}"),
    ("{from: ", "}"),
    ("{to: ", "}"),
    ("{when: ", "}"),
];

#[test]
fn nothing_as_an_item_of_any_list_of_a_rule_opens_nothing() {
    let rules = |inside: &str| LISTS.map(|(above, below)| format!("[{above}{inside}{below}]"));
    let all = rules("[~]").into_iter().chain(rules("[~, ~]")).chain(["[~]".to_owned()]);
    for rules in all {
        for action in ["ALLOW", "DENY"] {
            // Beside one that allows everybody, what a DENY loses would open.
            let allow = format!("{HEAD}spec: {{rules: [{{}}]}}\n").replace("name: p", "name: a");
            let beside = if action == "DENY" { format!("{allow}---\n") } else { String::new() };
            let text = format!("{beside}{HEAD}spec: {{action: {action}, rules: {rules}}}\n");
            let outcome = look(&mut Store::new(Options::default()), &[("a.yaml", text.as_bytes())]);
            assert!(decide(&outcome.mesh, "shop/cart").is_err(), "{text}\n{:#?}", outcome.findings);
            let is_rejected = outcome.findings.iter().any(|finding| finding.severity == Severity::Rejected);
            assert!(is_rejected, "{text}");
        }
    }
}

#[test]
fn of_two_policies_of_one_name_neither_is_taken_and_both_refuse() {
    let [allow, deny, strict, _] = refusing();
    let opening = format!("{HEAD}spec: {{rules: [{{}}]}}\n");
    let permissive = strict.replace("STRICT", "PERMISSIVE");
    for (refuses, opens) in [(&allow, &opening), (&deny, &opening), (&strict, &permissive)] {
        for pair in [[refuses, opens], [opens, refuses]] {
            let files: &Files<'_> = &[("a.yaml", pair[0].as_bytes()), ("b.yaml", pair[1].as_bytes())];
            let outcome = look(&mut Store::new(Options::default()), files);
            assert!(decide(&outcome.mesh, "shop/cart").is_err(), "{pair:?}: {:#?}", outcome.findings);
        }
    }
}

#[test]
fn strictness_that_cannot_be_read_is_softened_by_no_narrower_word() {
    let [.., strict, of_cart] = refusing();
    let softer = of_cart.replace("STRICT", "PERMISSIVE").replace("name: p", "name: a");
    let files = [strict.replace("mtls: {", "mtls: [{"), softer].join("---\n");
    let outcome = look(&mut Store::new(Options::default()), &[("a.yaml", files.as_bytes())]);
    assert!(decide(&outcome.mesh, "shop/cart").is_err(), "it may have been one for these pods, and older");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever is put in the place of a piece of a policy: what is not accepted whole still refuses.
    #[test]
    fn damage_to_a_policy_opens_nothing(
        which in 0_usize..4, from in 0_usize..300, length in 0_usize..14, put in "[ -~\n]{0,10}"
    ) {
        let text = &refusing()[which];
        let (from, to) = (from % text.len(), (from % text.len() + length).min(text.len()));
        let namespace = text.find(" namespace: shop}").map(|at| at..at + " namespace: shop}".len()).unwrap();
        // Another namespace's policy is another policy, broken or not.
        prop_assume!(to <= namespace.start || from >= namespace.end);
        let damaged = [&text[..from], &put, &text[to..]].concat();
        let outcome = look(&mut Store::new(Options::default()), &[("a.yaml", damaged.as_bytes())]);
        // What is commented out, or cut into documents, may be sound in one part and say nothing in the other.
        let is_whole = !["#", "---", "..."].iter().any(|cut| damaged.contains(cut));
        let says_it = ["security.istio.io/", "AuthorizationPolicy", "PeerAuthentication"].iter().any(|word| damaged.contains(word));
        if outcome.findings.iter().any(|finding| finding.severity == Severity::Rejected) && is_whole && says_it {
            prop_assert!(decide(&outcome.mesh, "shop/cart").is_err(), "{damaged}\n{:#?}", outcome.findings);
        }
    }
}
