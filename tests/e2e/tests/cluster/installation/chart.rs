//! The chart, by Helm itself: it takes over what kustomize has installed without a pod that is replaced, changes it by a value, and goes.

use std::process::Command;

use e2e::repository;
use testkit::{Cluster, KitError, Outcome, eventually};

use super::{install, rolled_out};
use crate::{
    faults::web,
    lab::{OPTED_IN, ask, done, finally, installed, running, until_carried},
};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn helm_takes_over_what_kustomize_has_installed_changes_it_and_takes_it_away() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let before = pods(&cluster)?;
    let back = finally(|| drop(install(&cluster, "base")));
    let chart = repository().join("deploy/helm/canopy").to_string_lossy().into_owned();
    let upgrade = ["upgrade", "--install", "mesh", &chart, "--take-ownership"];
    helm(&upgrade)?;
    rolled_out(&cluster)?;
    assert_eq!(pods(&cluster)?, before, "the chart is the base: nothing was replaced");
    ask(&space, "client-1", &address)?;

    // A new template for the daemon, and for it alone.
    helm(&[&upgrade[..], &["--set", "node.resources.requests.memory=100Mi"]].concat())?;
    rolled_out(&cluster)?;
    let after = pods(&cluster)?;
    let stay = |part: &str| before.iter().filter(|pod| pod.contains(part)).all(|pod| after.contains(pod));
    assert!(stay("canopy-control") && stay("canopy-cni") && !stay("canopy-node"), "{before:?} {after:?}");
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    eventually("it serves", || ask(&space, "client-1", &address).is_ok())?;

    helm(&["uninstall", "mesh"])?;
    eventually("its pods are gone", || pods(&cluster).is_ok_and(|pods| pods.is_empty()))?;
    ask(&space, "client-1", &address).expect_err("what was not let go before stays closed");
    cluster.kubectl(&["get", "tenants"])?;
    drop(back);
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    eventually("it serves again", || ask(&space, "client-1", &address).is_ok())?;
    Ok(())
}

/// The names of all pods of the installation.
fn pods(cluster: &Cluster) -> Result<Vec<String>, KitError> {
    let names = installed(cluster, &["get", "pods", "--output=name"])?;
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// Runs Helm as the cluster's administrator, with nothing of this user's own.
fn helm(arguments: &[&str]) -> Outcome {
    let own = tempfile::tempdir()?;
    let kubeconfig = repository().join("target/cluster/admin.kubeconfig");
    done(
        Command::new(repository().join("target/tools/helm"))
            .args(["--namespace", "canopy-system", "--kubeconfig"])
            .arg(kubeconfig)
            .args(arguments)
            .env("HOME", own.path()),
    )
}
