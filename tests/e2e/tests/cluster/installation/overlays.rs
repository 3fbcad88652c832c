//! Each overlay is what the API server takes; the example and the restricted one are installed, and do what they are for.

use std::fs;

use testkit::{Cluster, Outcome, eventually};

use super::{install, kustomization, rolled_out};
use crate::lab::{
    NODES, OPTED_IN, both_answer, finally, installed, load, on_node, run_on_node, running, serve_web,
    sleeper, until_carried,
};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn every_overlay_is_taken_by_the_api_server_as_it_is() -> Outcome {
    let cluster = running();
    let _openshift = constraints(&cluster)?;
    for overlay in ["base", "removal"].map(str::to_owned).into_iter().chain(
        ["istio-ca", "no-cni", "opt-in-example", "restricted", "sidecar", "spire"]
            .map(|name| format!("overlays/{name}")),
    ) {
        let folder = kustomization(&overlay);
        let ready = ["apply", "--dry-run=server", "--kustomize", &folder];
        // What is in a namespace that only the dry run makes is refused for want of it.
        if overlay.ends_with("example") {
            cluster.kubectl(&["create", "namespace", EXAMPLE])?;
        }
        let said = cluster.kubectl(&ready);
        if overlay.ends_with("example") {
            cluster.kubectl(&["delete", "namespace", EXAMPLE])?;
        }
        let said = said?;
        assert!(said.lines().count() >= 1, "{overlay}: {said}");
        assert!(said.lines().all(|line| line.ends_with("(server dry run)")), "{overlay}: {said}");
    }
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn the_example_that_opts_in_answers_its_caller_and_nobody_else() -> Outcome {
    let cluster = running();
    images()?;
    let _gone = finally(|| {
        drop(cluster.kubectl(&[
            "delete",
            "--kustomize",
            &kustomization("overlays/opt-in-example"),
            "--wait=false",
        ]));
    });
    cluster.kubectl(&["apply", "--kustomize", &kustomization("overlays/opt-in-example")])?;
    let space = cluster.existing(EXAMPLE);
    for part in ["deployment/web", "deployment/caller"] {
        space.rolled_out(part)?;
    }
    eventually("its caller is answered five times on end", || {
        let said = space.kubectl(&["logs", "deployment/caller", "--tail=5"]).unwrap_or_default();
        said.lines().count() == 5 && said.lines().all(|line| line == "200")
    })?;
    let accepted = "--output=jsonpath={.status.conditions[?(@.type=='Accepted')].status}";
    eventually("its Tenant is accepted", || {
        cluster.kubectl(&["get", "tenant", "example", accepted]).is_ok_and(|said| said == "True")
    })?;
    space.apply(&sleeper("stranger", Some("node-1")))?;
    space.pod_ready("stranger")?;
    until_carried(&cluster, &space, &["stranger"], true)?;
    let refused = crate::lab::ask(&space, "stranger", "web").expect_err("another account").to_string();
    assert!(refused.contains("403"), "{refused}");
    Ok(())
}

/// The programs that the example's images have, of this machine, under their names.
fn images() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> std::io::Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let passwd = file("passwd", "root:x:0:0:root:/:/bin/sh\n")?;
    let group = file("group", "root:x:0:\n")?;
    let served = "daemon off;\nuser root root;\npid /tmp/nginx.pid;\nerror_log stderr;\nevents {}\nhttp { access_log off; server { listen 80; \
                  location / { return 200 'hello'; } } }\n";
    let served = file("nginx.conf", served)?;
    let entries = [
        "/usr/sbin/nginx=/usr/sbin/nginx".to_owned(),
        format!("/etc/nginx/nginx.conf={served}"),
        format!("/etc/passwd={passwd}"),
        format!("/etc/group={group}"),
        "/var/lib/nginx/=755".to_owned(),
        "/var/log/nginx/=755".to_owned(),
        "/tmp/=1777".to_owned(),
    ];
    load("docker.io/library/nginx:1.28", &entries.each_ref().map(String::as_str))?;
    let shell = [
        "/usr/bin/curl=/usr/bin/curl",
        "/bin/busybox=/bin/busybox",
        "/bin/sh=@/bin/busybox",
        "/bin/sleep=@/bin/busybox",
    ];
    load("docker.io/curlimages/curl:8.10.1", &shell)
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn the_restricted_overlay_carries_pods_with_directories_where_openshift_has_them() -> Outcome {
    let cluster = running();
    let openshift = constraints(&cluster)?;
    let places = finally(|| {
        for node in NODES {
            for (place, _) in PLACES {
                drop(run_on_node(node, &["umount", "--lazy", place]));
            }
        }
        for folder in ["/etc/kubernetes/cni/net.d", "/etc/kubernetes/cni", "/etc/kubernetes"] {
            // Empty ones alone.
            drop(fs::remove_dir(folder));
        }
    });
    for node in NODES {
        fs::create_dir_all(on_node(node, "/run/crio")?)?;
        // What is bound over a file has its name, too.
        fs::write(on_node(node, SOCKET)?, "")?;
        for (place, real) in PLACES {
            if place != SOCKET {
                fs::create_dir_all(on_node(node, place)?)?;
            }
            run_on_node(node, &["mount", "--bind", real, place])?;
        }
    }
    let base = finally(|| drop(install(&cluster, "base")));
    cluster.kubectl(&["apply", "--kustomize", &kustomization("overlays/restricted")])?;
    // OpenShift gives each project a range of users, from which a pod has its own.
    let user = "--patch={\"spec\":{\"template\":{\"spec\":{\"securityContext\":{\"runAsUser\":1000700000,\"fsGroup\":1000700000}}}}}";
    installed(&cluster, &["patch", "deployment", "canopy-control", "--type=merge", user])?;
    rolled_out(&cluster)?;
    let space = cluster.space(&[OPTED_IN])?;
    serve_web(&space)?;
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    both_answer(&space, "client-1", "web")?;
    drop(space);
    drop(base);
    drop((places, openshift));
    install(&cluster, "base")
}

/// Where OpenShift has what is elsewhere here.
const PLACES: [(&str, &str); 3] = [
    (SOCKET, "/run/containerd/containerd.sock"),
    ("/var/lib/cni/bin", "/opt/cni/bin"),
    ("/etc/kubernetes/cni/net.d", "/etc/cni/net.d"),
];

const SOCKET: &str = "/run/crio/crio.sock";

/// The definition of OpenShift's kind, without its schema: that it is known. It goes with the guard.
fn constraints(cluster: &Cluster) -> Result<impl Drop, Box<dyn std::error::Error + Send + Sync>> {
    cluster.existing("default").apply(CONSTRAINTS)?;
    let defined = "crd/securitycontextconstraints.security.openshift.io";
    let gone = cluster.clone();
    let guard = finally(move || drop(gone.kubectl(&["delete", defined])));
    cluster.kubectl(&["wait", "--for=condition=Established", defined, "--timeout=30s"])?;
    Ok(guard)
}

const CONSTRAINTS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: securitycontextconstraints.security.openshift.io}
spec:
  group: security.openshift.io
  scope: Cluster
  names: {kind: SecurityContextConstraints, plural: securitycontextconstraints, singular: securitycontextconstraints}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

const EXAMPLE: &str = "canopy-example";
