//! Sidecars by the overlay: who is labelled for one gets one, and is in one mesh with pods of the nodes; who ran before stays its node's.

use e2e::{TLS_RECORD, contains};
use testkit::{Capture, Cluster, Outcome, Space, eventually};

use super::{install, installed, kustomization};
use crate::lab::{
    OPTED_IN, STRICT, ask, both_answer, finally, is_told_of, log, named, running, serve_web, sleeper,
    until_carried,
};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn pods_that_are_labelled_for_sidecars_are_ready_under_strict_in_one_mesh_with_a_nodes_and_their_jobs_end()
-> Outcome {
    let cluster = running();
    let base = with_sidecars(&cluster)?;
    let (nodes, own) = (cluster.space(&[OPTED_IN])?, cluster.space(&[SIDECAR])?);
    let outside = cluster.space(&[])?;
    for space in [&nodes, &own] {
        space.apply(STRICT)?;
        // Probes by HTTP, which the kubelet asks in the clear.
        serve_web(space)?;
    }
    outside.apply(&sleeper("stranger", Some("node-1")))?;
    outside.pod_ready("stranger")?;
    for pod in named(&own, "app=web")?.iter().map(String::as_str).chain(["client-1", "client-2"]) {
        is_native(&own, pod)?;
    }
    until_carried(&cluster, &nodes, &["client-1", "client-2"], true)?;
    until_carried(&cluster, &own, &["client-1", "client-2"], false)?;

    for (from, to) in [(&own, &nodes), (&nodes, &own), (&own, &own)] {
        for client in ["client-1", "client-2"] {
            both_answer(from, client, &format!("web.{}", to.name()))?;
        }
        crosses_in_tls(from, to)?;
    }
    let proven = format!("\"src.principal\":\"spiffe://cluster.local/ns/{}/sa/default\"", own.name());
    eventually("a node's daemon knows its caller by the certificate of its sidecar", || {
        log(&cluster, &nodes).is_ok_and(|lines| {
            lines.iter().any(|line| line.contains(&proven) && line.contains("\"direction\":\"inbound\""))
        })
    })?;
    ask(&outside, "stranger", &format!("web.{}", own.name())).expect_err("it shows no certificate");

    own.apply(&JOB.replace("@WEB@", &format!("web.{}", nodes.name())))?;
    own.kubectl(&["wait", "--for=condition=Complete", "job/errand", "--timeout=90s"])?;
    let said = own.kubectl(&["logs", "job/errand", "--container=errand"])?;
    assert!(said.contains("node-"), "{said}");
    drop((nodes, own, outside));
    drop(base);
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_pod_that_ran_before_its_namespace_was_labelled_for_sidecars_stays_its_nodes_and_is_told_to_be_made_anew()
-> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    space.apply(&sleeper("early", Some("node-1")))?;
    space.pod_ready("early")?;
    until_carried(&cluster, &space, &["early"], true)?;
    space.kubectl(&["label", "--overwrite", "namespace", space.name(), SIDECAR])?;
    eventually("its owner is told", || is_told_of(&space, "early", "NoSidecar"))?;
    until_carried(&cluster, &space, &["early"], true)
}

/// Installs the overlay; what is given back takes it away again.
fn with_sidecars(cluster: &Cluster) -> Result<impl Drop, Box<dyn std::error::Error + Send + Sync>> {
    let gone = cluster.clone();
    let guard = finally(move || {
        // What the base has no word of, it does not take away.
        for object in ["mutatingwebhookconfiguration", "clusterrolebinding", "clusterrole"] {
            drop(gone.kubectl(&["delete", object, "canopy-sidecar", "--ignore-not-found"]));
        }
        drop(install(&gone, "base"));
    });
    cluster.kubectl(&["apply", "--kustomize", &kustomization("overlays/sidecar")])?;
    installed(cluster, &["rollout", "status", "deployment/canopy-control", "--timeout=150s"])?;
    let bundles = "--output=jsonpath={.webhooks[*].clientConfig.caBundle}";
    eventually("the API server is told the roots of the webhook", || {
        cluster
            .kubectl(&["get", "mutatingwebhookconfiguration", "canopy-sidecar", bundles])
            .is_ok_and(|said| said.split_whitespace().count() == 2)
    })?;
    Ok(guard)
}

/// Whether a pod's sidecar is a native one, the first of its containers, and runs since the start.
fn is_native(space: &Space, pod: &str) -> Outcome {
    let shown = "--output=jsonpath={.spec.initContainers[0].name} {.spec.initContainers[0].restartPolicy} \
                 {.status.initContainerStatuses[0].started} {.status.initContainerStatuses[0].restartCount}";
    let said = space.kubectl(&["get", "pod", pod, shown])?;
    assert_eq!(said.trim(), "canopy-sidecar Always true 0", "{pod}");
    Ok(())
}

/// What a client of one space says to the servers of another is seen by nobody on the way.
fn crosses_in_tls(from: &Space, to: &Space) -> Outcome {
    let mut ends = vec![from.inside("client-1")?];
    for pod in named(to, "app=web")? {
        ends.push(to.inside(&pod)?);
    }
    let wires = ends.iter().map(Capture::of_pod).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..8 {
        from.exec(
            "client-1",
            &["timeout", "5", "wget", "-q", "-O", "-", &format!("http://web.{}/?{MARKER}", to.name())],
        )?;
    }
    let frames = wires.into_iter().map(Capture::finish).collect::<Result<Vec<_>, _>>()?;
    assert!(frames[0].iter().any(|frame| contains(frame, &TLS_RECORD)), "no TLS was seen");
    for frame in frames.iter().flatten() {
        assert!(!contains(frame, MARKER.as_bytes()), "from {} to {}: in the clear", from.name(), to.name());
    }
    Ok(())
}

const SIDECAR: &str = "canopy.mesh/mode=sidecar";
const MARKER: &str = "a-secret-that-no-wire-may-show";
const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: errand}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: errand, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: [wget, -q, -O, '-', 'http://@WEB@/']}]
";
