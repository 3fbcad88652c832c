//! A slip of an editor loses nothing: objects that vanish from a file in which something is wrong stay as they were.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Finding, Reason, Severity},
    model::Action,
    store::{FileText, Options, Outcome, Store},
};

fn files(texts: &[(&str, &str)]) -> BTreeMap<PathBuf, FileText> {
    texts.iter().map(|(path, text)| (PathBuf::from(path), FileText::from(*text))).collect()
}

fn edit(before: &str, after: &str) -> (Outcome, Outcome) {
    let mut store = Store::new(Options::default());
    (store.apply(&files(&[("a.yaml", before)])), store.apply(&files(&[("a.yaml", after)])))
}

fn has(outcome: &Outcome, severity: Severity, text: &str) -> bool {
    outcome.findings.iter().any(|finding| finding.severity == severity && finding.to_string().contains(text))
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  clusterIP: 10.96.0.1\n  ports: [{port: 80}]\n";
const SLICE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: e\n  labels: {kubernetes.io/service-name: s}\n\
    addressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.1.0.1]}]\n";
const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";

#[test]
fn two_documents_that_become_one_lose_neither() {
    let (before, after) = edit(&format!("{SERVICE}---\n{SLICE}"), &format!("{SERVICE}{SLICE}"));
    assert_eq!(before.mesh.services.values().next().unwrap().ports[0].endpoints.len(), 1);
    assert_eq!(*after.mesh, *before.mesh);
    assert!(
        has(&after, Severity::Warning, "EndpointSlice default/e: kept last good version"),
        "{:#?}",
        after.findings
    );
    assert!(
        has(&after, Severity::Warning, "Service default/s: kept last good version"),
        "{:#?}",
        after.findings
    );
    assert!(has(&after, Severity::Rejected, "is a line --- missing before it?"), "{:#?}", after.findings);
}

#[test]
fn object_that_is_merged_into_a_foreign_one_is_not_lost() {
    for foreign in [CONFIG_MAP, "apiVersion: v1\nkind: List\nitems: []\n"] {
        let (before, after) = edit(&format!("{foreign}---\n{SERVICE}"), &format!("{foreign}{SERVICE}"));
        assert_eq!(before.mesh.services.len(), 1);
        assert_eq!(*after.mesh, *before.mesh, "{foreign}");
        assert!(has(&after, Severity::Rejected, "is a line --- missing before it?"), "{:#?}", after.findings);
    }
}

#[test]
fn object_that_vanishes_beside_a_rejected_one_stays_and_goes_when_that_is_mended() {
    let other = SERVICE.replace("name: s", "name: t").replace("0.1", "0.2");
    let wrong = other.replace("80", "x");
    let mut store = Store::new(Options::default());
    let before = store.apply(&files(&[("a.yaml", &format!("{SERVICE}---\n{other}"))]));
    let kept = store.apply(&files(&[("a.yaml", &wrong)]));
    assert_eq!(*kept.mesh, *before.mesh);
    // Nobody takes its name meanwhile.
    let claimed = store.apply(&files(&[("0.yaml", &SERVICE.replace("0.1", "0.7")), ("a.yaml", &wrong)]));
    assert_eq!(*claimed.mesh, *before.mesh);
    assert!(
        has(&claimed, Severity::Rejected, "is there already, on line 1 of a.yaml"),
        "{:#?}",
        claimed.findings
    );
    let mended = store.apply(&files(&[("a.yaml", &other)]));
    assert_eq!(mended.mesh.services.len(), 1);
}

fn rejection(outcome: &Outcome) -> &Finding {
    let mut rejected = outcome.findings.iter().filter(|finding| finding.severity == Severity::Rejected);
    let (Some(finding), None) = (rejected.next(), rejected.next()) else { panic!("{:#?}", outcome.findings) };
    finding
}

#[test]
fn kind_that_is_no_kind_of_a_group_that_is_read_is_rejected_and_its_object_stays() {
    for (slip, says) in [
        ("kind: Servce", "did you mean Service?"),
        ("kind: service", "did you mean Service?"),
        ("kind: Zebra", "v1 has no kind Zebra"),
    ] {
        let (before, after) = edit(SERVICE, &SERVICE.replace("kind: Service", slip));
        let finding = rejection(&after);
        assert_eq!((finding.reason, &*finding.field), (Reason::UnknownKind, "kind"), "{slip}");
        assert!(finding.message.contains(says), "{slip}: {finding}");
        assert_eq!(*after.mesh, *before.mesh, "{slip}");
    }
    for (slip, says) in [
        ("apiVersion: v2", "write v1"),
        ("apiVersion: discovery.k8s.io/v2", "write discovery.k8s.io/v1"),
        ("apiVersion: discovry.k8s.io/v1", "did you mean discovery.k8s.io/v1?"),
    ] {
        let from = if slip.contains('/') { SLICE } else { SERVICE };
        let line = from.lines().next().unwrap();
        let finding = edit(from, &from.replace(line, slip)).1;
        let finding = rejection(&finding);
        assert_eq!((finding.reason, &*finding.field), (Reason::UnknownKind, "apiVersion"), "{slip}");
        assert!(finding.message.contains(says), "{slip}: {finding}");
    }
}

#[test]
fn objects_for_others_are_still_ignored() {
    for (version, kind) in [
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("v1", "Node"),
        ("v1", "SecretList"),
        ("apps/v1", "Deployment"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1alpha2", "TCPRoute"),
        ("networking.k8s.io/v1", "Ingress"),
        ("networking.istio.io/v1", "Gateway"),
        ("networking.istio.io/v1", "VirtualService"),
        ("security.istio.io/v1", "RequestAuthentication"),
        ("serving.knative.dev/v1", "Service"),
    ] {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n");
        let outcome = Store::new(Options::default()).apply(&files(&[("a.yaml", &text)]));
        let [finding] = &outcome.findings[..] else { panic!("{kind}: {:#?}", outcome.findings) };
        assert_eq!(finding.severity, Severity::Ignored, "{kind}: {finding}");
    }
}

#[test]
fn what_is_said_of_a_port_that_is_not_tcp_and_of_a_dns_alias_is_true_and_said_once() {
    let said = |text: &str| {
        let outcome = Store::new(Options::default()).apply(&files(&[("a.yaml", text)]));
        outcome.findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let udp = said(&SERVICE.replace("port: 80", "port: 53, protocol: UDP"));
    assert_eq!(udp.len(), 1, "{udp:#?}");
    assert!(
        udp[0].contains("UDP passes by Canopy: this port is left out") && !udp[0].contains("treated"),
        "{udp:#?}"
    );
    let slice = said(&SLICE.replace("port: 8080", "port: 53, protocol: SCTP"));
    assert!(slice.iter().any(|line| line.contains("SCTP passes by Canopy")), "{slice:#?}");
    assert!(!slice.iter().any(|line| line.contains("treated")), "{slice:#?}");
    let alias = said(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: ExternalName, externalName: example.com}\n",
    );
    assert_eq!(alias.len(), 1, "{alias:#?}");
    assert!(alias[0].contains("DNS alias"), "{alias:#?}");
}

#[test]
fn file_over_the_limit_is_not_said_to_have_just_what_was_read_of_it() {
    let limits = config::Limits { file_bytes: 10, ..config::Limits::default() };
    let outcome = Store::new(Options { limits, ..Options::default() }).apply(&files(&[("a.yaml", SERVICE)]));
    assert!(outcome.findings[0].message.contains("more than 10 bytes"), "{}", outcome.findings[0]);
}

const DENY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n\
    spec: {action: DENY, rules: [{}]}\n";
const ALLOW: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n\
    spec: {rules: [{from: [{source: {namespaces: [any]}}]}]}\n";

#[test]
fn a_file_that_comes_to_contradict_itself_leaves_a_security_object_as_it_was() {
    for both in [format!("{ALLOW}---\n{ALLOW}").replacen("any", "a", 1), format!("{ALLOW}---\n{DENY}")] {
        let (before, after) = edit(DENY, &both);
        assert_eq!(*after.mesh, *before.mesh, "{both}");
        assert!(has(&after, Severity::Warning, "kept last good version"), "{:#?}", after.findings);
    }
    let (before, after) = edit(DENY, &format!("{ALLOW}---\n{ALLOW}"));
    assert_ne!(*after.mesh, *before.mesh, "two that mean the same are one");
    let (before, after) = edit(DENY, &format!("{DENY}---\n{ALLOW}"));
    assert_eq!(*after.mesh, *before.mesh, "what is in force is still there");
}

#[test]
fn another_file_s_object_of_its_name_has_no_say_in_an_edit() {
    let mut store = Store::new(Options::default());
    let mut files = BTreeMap::from([("a.yaml".into(), FileText::from(DENY))]);
    store.apply(&files);
    files.insert("b.yaml".into(), FileText::from(&*ALLOW.replace("any", "other")));
    files.insert("a.yaml".into(), FileText::from(ALLOW));
    let after = store.apply(&files);
    let policy = after.mesh.authorization.values().next().unwrap();
    assert!(format!("{policy:?}").contains("any"), "{policy:?}");
}

#[test]
fn a_line_of_hyphens_within_braces_leaves_nothing_wider_in_force_than_its_author_wrote() {
    let cut = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n  rules:\n  \
        - from: [{source: {namespaces: [any]}}]\n---\n{to: [{operation: {ports: [\"8080\"]}}]}]\n";
    let (before, after) = edit(DENY, cut);
    assert_eq!(*after.mesh, *before.mesh, "{:#?}", after.findings);
    let alone =
        Store::new(Options::default()).apply(&BTreeMap::from([("a.yaml".into(), FileText::from(cut))]));
    let policies: Vec<_> = alone.mesh.authorization.values().collect();
    assert!(
        policies.iter().all(|policy| policy.action == Action::Unreadable) && !policies.is_empty(),
        "{policies:?}"
    );
}
