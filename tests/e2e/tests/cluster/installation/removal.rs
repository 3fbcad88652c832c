//! Uninstalled as its documentation says, nothing of Canopy is left on a node or in the API, and pods go on as if it had never been there.

use std::fs;

use testkit::{Cluster, Outcome, Traffic, eventually};

use super::{install, kustomization};
use crate::{
    faults::web,
    lab::{NODES, OPTED_IN, ask, both_answer, installed, on_node, running, sleeper, until_carried},
};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn after_an_uninstall_nothing_is_left_and_pods_old_and_new_do_without() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let (outside, other) = web(&cluster, &[])?;
    let undisturbed = Traffic::start(&outside.inside("client-1")?, other.parse()?, "web")?;
    // As docs/operations/kubernetes.md has it.
    let opted_in = "--selector=canopy.mesh/mode=node";
    cluster.kubectl(&["label", "namespace", opted_in, "canopy.mesh/mode-"])?;
    until_carried(&cluster, &space, &["client-1", "client-2"], false)?;
    // One that nobody has taken out: it is labelled itself.
    let forgotten = cluster.space(&[])?;
    for (name, node) in FORGOTTEN.iter().zip(NODES) {
        let labelled = format!("{{name: {name}, labels: {{canopy.mesh/mode: node}}}}");
        let pod = sleeper(name, Some(node)).replace(&format!("{{name: {name}}}"), &labelled);
        forgotten.apply(&pod)?;
        forgotten.pod_ready(name)?;
    }
    until_carried(&cluster, &forgotten, &FORGOTTEN, true)?;
    ask(&forgotten, FORGOTTEN[0], &other)?;
    let daemons =
        ["delete", "daemonset", "canopy-cni", "canopy-node", "--cascade=foreground", "--timeout=90s"];
    installed(&cluster, &daemons)?;
    for name in FORGOTTEN {
        ask(&forgotten, name, &other).expect_err("nobody carries it any more, and nobody has let it go");
    }
    remove(&cluster)?;
    for name in FORGOTTEN {
        ask(&forgotten, name, &other)?;
    }

    for node in NODES {
        assert_eq!(left_on(node)?, Vec::<String>::new(), "{node}");
    }
    for kind in KINDS {
        let said = cluster.kubectl(&[
            "get",
            kind,
            "--all-namespaces",
            "--selector=app.kubernetes.io/part-of=canopy",
            "--output=name",
        ])?;
        assert_eq!(said.trim(), "", "{kind}");
    }
    assert!(cluster.kubectl(&["get", "tenants"]).is_err(), "nor is their kind known");
    // Pods of before, and those of a namespace that no file of Canopy's has ever known, labelled or not.
    for client in ["client-1", "client-2"] {
        both_answer(&space, client, "web")?;
    }
    let (late, _) = web(&cluster, &[])?;
    cluster.kubectl(&["label", "namespace", late.name(), OPTED_IN])?;
    late.kubectl(&["delete", "pods", "--all", "--grace-period=1"])?;
    late.rolled_out("deployment/web")?;
    let tally = undisturbed.tally();
    assert!(tally.failures == 0 && tally.total() > 100, "{tally:?}");

    install(&cluster, "base")?;
    until_carried(&cluster, &space, &["client-1"], false)?;
    cluster.kubectl(&["label", "namespace", space.name(), OPTED_IN])?;
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    eventually("carried again after all", || ask(&space, "client-1", &address).is_ok())?;
    Ok(())
}

/// All but the daemons.
fn remove(cluster: &Cluster) -> Outcome {
    cluster.kubectl(&["apply", "--kustomize", &kustomization("removal")])?;
    installed(cluster, &["rollout", "status", "daemonset/canopy-removal", "--timeout=90s"])?;
    cluster.kubectl(&[
        "delete",
        "--kustomize",
        &kustomization("base"),
        "--ignore-not-found",
        "--timeout=120s",
    ])?;
    Ok(())
}

/// What is Canopy's on a node: its part of the chain, files, pins.
fn left_on(node: &str) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let mut left = Vec::new();
    for folder in ["/etc/cni/net.d", "/opt/cni/bin", "/var/lib/canopy", "/run/canopy", "/sys/fs/bpf"] {
        let is_others = matches!(folder, "/etc/cni/net.d" | "/opt/cni/bin");
        for entry in fs::read_dir(on_node(node, folder)?)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // The kernel's own, in every mount of bpffs.
            if folder == "/sys/fs/bpf" && name.ends_with(".debug") {
                continue;
            }
            if !is_others || name.contains("canopy") {
                left.push(format!("{folder}/{name}"));
            } else if folder == "/etc/cni/net.d" && fs::read_to_string(entry.path())?.contains("canopy-cni") {
                left.push(format!("canopy-cni in {folder}/{name}"));
            }
        }
    }
    Ok(left)
}

/// Pods, one on each node, that are captured when the daemons go.
const FORGOTTEN: [&str; 2] = ["forgotten-1", "forgotten-2"];
/// Kinds of what is installed.
const KINDS: [&str; 9] = [
    "namespaces",
    "serviceaccounts",
    "clusterroles",
    "clusterrolebindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "customresourcedefinitions",
    "daemonsets",
    "deployments",
];
