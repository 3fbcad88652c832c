//! What labels of Canopy's own do, where nothing but them says so.

use std::{collections::BTreeMap, path::PathBuf};

use config::store::{FileText, Options, Outcome, Store};

/// As an API server has taken it.
fn apply(text: &str) -> Outcome {
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    Store::new(Options { of_cluster: true, ..Options::default() }).apply(&files)
}

fn namespace(labels: &str) -> String {
    format!("kind: Namespace\napiVersion: v1\nmetadata: {{name: shop, labels: {{{labels}}}}}\n")
}

#[test]
fn labels_that_do_something_are_not_said_to_do_nothing() {
    for (mode, on_failure) in [("node", "open"), ("node", "closed"), ("'off'", "open")] {
        let labels = format!("canopy.mesh/mode: {mode}, canopy.mesh/on-failure: {on_failure}");
        assert!(apply(&namespace(&labels)).findings.is_empty(), "{labels}");
    }
}

#[test]
fn in_a_cluster_no_pod_is_in_by_its_network_namespace_which_is_the_nodes_word() {
    let pod = "---\napiVersion: v1\nkind: Pod\n\
        metadata: {name: p, namespace: shop, annotations: {canopy.mesh/netns: /run/netns/x}}\n\
        spec: {containers: [{name: c}]}\nstatus: {podIP: 10.0.0.1}\n";
    for (labels, is_in) in [("canopy.mesh/mode: node", true), ("team: shop", false)] {
        let mesh = apply(&format!("{}{pod}", namespace(labels))).mesh;
        let found = mesh.workloads.values().next().expect("the pod");
        assert_eq!((found.netns.is_some(), found.meshed), (is_in, is_in), "{labels}");
    }
}

#[test]
fn a_pod_with_a_sidecar_is_in_the_mesh_and_is_no_nodes_to_capture() {
    let pod = |label: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop, labels: {{{label}}}, \
             annotations: {{canopy.mesh/netns: /run/netns/x}}}}\nspec: {{containers: [{{name: c}}]}}\nstatus: {{podIP: 10.0.0.1}}\n"
        )
    };
    for (labels, own) in
        [("canopy.mesh/mode: sidecar", ""), ("canopy.mesh/mode: node", "canopy.mesh/mode: sidecar")]
    {
        let outcome = apply(&format!("{}{}", namespace(labels), pod(own)));
        let found = outcome.mesh.workloads.values().next().expect("the pod");
        assert!(found.meshed && found.netns.is_none(), "{labels} {own}");
        assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
    }
}
