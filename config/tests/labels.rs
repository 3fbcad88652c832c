//! What labels of Canopy's own do, where nothing but them says so.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::Reason,
    store::{FileText, Options, Outcome, Store},
};

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
fn a_pod_with_a_sidecar_is_in_the_mesh_and_no_nodes_and_one_without_stays_with_its_node_and_is_told_what_to_do()
 {
    let pod = |label: &str, init: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop, labels: {{{label}}}, \
             annotations: {{canopy.mesh/netns: /run/netns/x}}}}\nspec: {{containers: [{{name: c, image: i}}], initContainers: [{init}]}}\nstatus: {{podIP: 10.0.0.1}}\n"
        )
    };
    let sidecar = "{name: canopy-sidecar, image: i, restartPolicy: Always}";
    for (labels, own) in
        [("canopy.mesh/mode: sidecar", ""), ("canopy.mesh/mode: node", "canopy.mesh/mode: sidecar")]
    {
        let outcome = apply(&format!("{}{}", namespace(labels), pod(own, sidecar)));
        let found = outcome.mesh.workloads.values().next().expect("the pod");
        assert!(found.meshed && found.netns.is_none(), "{labels} {own}");
        assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
        for without in
            ["", "{name: canopy-sidecar, image: i}", "{name: sidecar, image: i, restartPolicy: Always}"]
        {
            let outcome = apply(&format!("{}{}", namespace(labels), pod(own, without)));
            let found = outcome.mesh.workloads.values().next().expect("the pod");
            assert!(found.meshed && found.netns.is_some(), "{labels} {own} {without}: it is its node's");
            let told: Vec<_> =
                outcome.findings.iter().map(|finding| (finding.reason, &finding.message)).collect();
            assert!(
                matches!(&told[..], [(Reason::NoSidecar, message)] if message.contains("rollout restart")),
                "{told:?}"
            );
        }
    }
}

#[test]
fn a_pod_that_brings_a_sidecars_container_where_no_label_asks_for_one_is_its_nodes_all_the_same() {
    let pod = "---\napiVersion: v1\nkind: Pod\n\
        metadata: {name: p, namespace: shop, annotations: {canopy.mesh/netns: /run/netns/x}}\n\
        spec: {containers: [{name: c, image: i}], initContainers: [{name: canopy-sidecar, image: i, restartPolicy: Always}]}\n\
        status: {podIP: 10.0.0.1}\n";
    let kept = "---\napiVersion: canopy.mesh/v1alpha1\nkind: Tenant\nmetadata: {name: t}\n\
        spec: {namespaces: [shop], egress: mesh}\n";
    for (labels, tenant) in [("canopy.mesh/mode: node", ""), ("canopy.mesh/mode: sidecar", kept)] {
        let outcome = apply(&format!("{}{pod}{tenant}", namespace(labels)));
        let found = outcome.mesh.workloads.values().next().expect("the pod");
        assert!(found.meshed && found.netns.is_some(), "{labels}");
        let told = outcome.findings.iter().filter(|finding| finding.message.contains("two proxies"));
        assert_eq!(told.count(), 1, "{:?}", outcome.findings);
    }
}
