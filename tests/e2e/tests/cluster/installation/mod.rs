//! The life of an installation: its overlays, an upgrade under load, and its end, of which nothing is left.
//!
//! Each test changes what all others stand on: they run one at a time, after the others, and leave Canopy installed as its base is.

use e2e::repository;
use testkit::{Cluster, Outcome};

use crate::lab::installed;

mod chart;

mod overlays;

mod removal;

mod sidecar;

mod upgrade;

/// The folder of a kustomization below `deploy/daemonset`.
fn kustomization(name: &str) -> String {
    repository().join("deploy/daemonset").join(name).to_string_lossy().into_owned()
}

/// Applies a kustomization of Canopy itself, and waits for all of its parts.
fn install(cluster: &Cluster, name: &str) -> Outcome {
    cluster.kubectl(&["apply", "--kustomize", &kustomization(name)])?;
    rolled_out(cluster)
}

fn rolled_out(cluster: &Cluster) -> Outcome {
    for part in ["deployment/canopy-control", "daemonset/canopy-cni", "daemonset/canopy-node"] {
        installed(cluster, &["rollout", "status", part, "--timeout=150s"])?;
    }
    Ok(())
}
