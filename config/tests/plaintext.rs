//! Ports that a pod leaves alone, beside PeerAuthentication: which of them still take what comes in the clear, and what is said of the others.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Reason, Severity},
    store::{FileText, Options, Outcome, Store},
};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {app: web}, \
     annotations: {canopy.mesh/netns: /run/netns/x, canopy.mesh/exclude-inbound-ports: \"9090, 9100\"}}\n\
     spec: {containers: [{name: c}]}\nstatus: {podIP: 10.0.0.1}\n";

fn peers(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )
}

fn left(outcome: &Outcome) -> Vec<u16> {
    outcome.mesh.workloads.values().flat_map(|workload| workload.exclusions.inbound_ports.clone()).collect()
}

#[test]
fn a_port_is_left_alone_only_where_peer_authentication_takes_plaintext() {
    const OWN: &str = "{selector: {matchLabels: {app: web}}, ";
    for (what, policies, still, who) in [
        ("no policy", String::new(), vec![9090, 9100], ""),
        ("permissive", peers("a", "shop", "{mtls: {mode: PERMISSIVE}}"), vec![9090, 9100], ""),
        ("another namespace's", peers("a", "bank", "{mtls: {mode: STRICT}}"), vec![9090, 9100], ""),
        ("its namespace's", peers("a", "shop", "{mtls: {mode: STRICT}}"), vec![], "shop/a"),
        ("the mesh's", peers("a", "istio-system", "{mtls: {mode: STRICT}}"), vec![], "istio-system/a"),
        (
            "its own for one port",
            peers("a", "shop", &format!("{OWN}portLevelMtls: {{'9100': {{mode: STRICT}}}}}}")),
            vec![9090],
            "shop/a",
        ),
        (
            "its own, but for one port",
            peers(
                "a",
                "shop",
                &format!("{OWN}mtls: {{mode: STRICT}}, portLevelMtls: {{'9090': {{mode: PERMISSIVE}}}}}}"),
            ),
            vec![9090],
            "shop/a",
        ),
        ("one that cannot be read", peers("a", "shop", "{mtls: {mode: STRIKT}}"), vec![], "shop/a"),
    ] {
        let text = format!("{POD}{policies}");
        let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
        let outcome = Store::new(Options::default()).apply(&files);
        assert_eq!(left(&outcome), still, "{what}: {:#?}", outcome.findings);
        let told: Vec<_> =
            outcome.findings.iter().filter(|finding| finding.reason == Reason::NotPermitted).collect();
        assert_eq!(told.len(), 2 - still.len(), "{what}: {told:#?}");
        for finding in told {
            assert_eq!(finding.severity, Severity::Warning, "{what}");
            assert_eq!(finding.field, "metadata.annotations[canopy.mesh/exclude-inbound-ports]", "{what}");
            assert!(
                finding.message.contains(&format!("PeerAuthentication {who} takes")),
                "{what}: {finding}"
            );
        }
    }
}

#[test]
fn a_port_is_closed_and_opened_by_an_edit_of_the_policy_alone() {
    let mut store = Store::new(Options::default());
    let mut apply = |policies: &str| {
        let files = [("pod.yaml", POD), ("peers.yaml", policies)];
        let files = files.map(|(name, text)| (PathBuf::from(name), FileText::from(text)));
        left(&store.apply(&BTreeMap::from(files)))
    };
    assert_eq!(apply(""), [9090, 9100]);
    assert!(apply(&peers("a", "shop", "{mtls: {mode: STRICT}}")).is_empty());
    assert_eq!(apply(""), [9090, 9100]);
}

#[test]
fn a_pod_whose_label_takes_it_out_of_the_mesh_is_named_beside_the_policy_that_does_not_hold_for_it() {
    let strict = peers("a", "istio-system", "{mtls: {mode: STRICT}}");
    for (label, policies, is_told) in [
        ("off", &*strict, true),
        (
            "off",
            &*peers(
                "a",
                "shop",
                "{selector: {matchLabels: {app: web}}, portLevelMtls: {'80': {mode: STRICT}}}",
            ),
            true,
        ),
        ("off", &*peers("a", "shop", "{mtls: {mode: PERMISSIVE}}"), false),
        ("off", "", false),
        ("node", &*strict, false),
    ] {
        let pod = POD.replace("{app: web}", &format!("{{app: web, canopy.mesh/mode: {label}}}"));
        let pod = pod.replace(", canopy.mesh/exclude-inbound-ports: \"9090, 9100\"", "");
        let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from((pod + policies).as_str()))]);
        let outcome = Store::new(Options::default()).apply(&files);
        let told: Vec<_> = outcome.findings.iter().filter(|one| one.reason == Reason::NotPermitted).collect();
        assert_eq!(told.len(), usize::from(is_told), "{label} {policies}: {:#?}", outcome.findings);
        for finding in told {
            assert!(
                finding.severity == Severity::Warning && finding.message.contains("/a refuses"),
                "{finding}"
            );
        }
    }
}
