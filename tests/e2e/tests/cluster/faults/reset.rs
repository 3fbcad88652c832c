//! etcd has lost its data: nodes and pods go on by what they last heard, and what is made again after is served.
//!
//! After it the cluster is as new, with Canopy installed: it runs last.

use std::time::Duration;

use e2e::repository;
use testkit::{Outcome, Traffic, eventually};

use super::web;
use crate::lab::{NODES, OPTED_IN, STRICT, host, installed, running, script};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn when_etcd_has_lost_all_what_was_carried_goes_on_and_what_is_made_again_is_served() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    space.apply(STRICT)?;
    let (outside, other) = web(&cluster, &[])?;
    let server = space.kubectl(&[
        "get",
        "pods",
        "--selector=app=web",
        "--output=jsonpath={.items[*].status.podIP}",
    ])?;
    let servers: Vec<String> = server.split(' ').map(|pod| format!("{}:8080", host(pod))).collect();
    let clients = [space.inside("client-1")?, space.inside("client-2")?];
    let stranger = outside.inside("client-1")?;
    // By the pods' own networks, since nobody can ask an API server that knows of no pod.
    let traffic: Vec<Traffic> = clients
        .iter()
        .map(|client| Traffic::start(client, address.parse().expect("an address"), "web"))
        .collect::<Result<_, _>>()?;
    let undisturbed = Traffic::start(&stranger, other.parse()?, "web")?;
    let refused: Vec<Traffic> = servers
        .iter()
        .map(|server| Traffic::start(&stranger, server.parse().expect("an address"), "web"))
        .collect::<Result<_, _>>()?;
    eventually("plaintext is refused", || refused.iter().all(|traffic| traffic.tally().failures > 50))?;
    let answered: Vec<u64> = refused.iter().map(|traffic| traffic.tally().total()).collect();

    script("cluster", &["forget"])?;
    let pods = cluster.kubectl(&["get", "pods", "--all-namespaces", "--output=name"])?;
    assert_eq!(pods.trim(), "", "the API server knows of no pod");
    std::thread::sleep(Duration::from_secs(20));
    for traffic in &traffic {
        traffic.next(500)?;
        assert_eq!(traffic.tally().failures, 0, "{:?}", traffic.tally());
    }
    for (traffic, before) in refused.iter().zip(answered) {
        assert_eq!(traffic.tally().total(), before, "nothing is answered in plaintext");
    }
    assert_eq!(undisturbed.tally().failures, 0, "{:?}", undisturbed.tally());
    drop((traffic, refused, undisturbed));

    script("cluster", &["renew"])?;
    cluster.kubectl(&[
        "apply",
        "--kustomize",
        &repository().join("deploy/daemonset/base").to_string_lossy(),
    ])?;
    for part in ["deployment/canopy-control", "daemonset/canopy-cni", "daemonset/canopy-node"] {
        installed(&cluster, &["rollout", "status", part, "--timeout=120s"])?;
    }
    let (space, _address) = web(&cluster, &[OPTED_IN])?;
    for client in ["client-1", "client-2"] {
        for _ in NODES {
            crate::lab::both_answer(&space, client, "web")?;
        }
    }
    Ok(())
}
