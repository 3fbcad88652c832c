//! Parts of a cluster that are away: what is carried is never let go in plaintext, and what is not carried never notices.
//!
//! Each test ends parts that all others need: they run after the others, one at a time, and put back what they took.

use std::{fs, time::Duration};

use testkit::{Cluster, Outcome, Space, Traffic, eventually};

use crate::lab::{
    OPTED_IN, ask, daemons, finally, host, installed, is_told_of, named, node_folder, running, script,
    serve_web, sleeper, until_carried,
};

mod crowd;

mod nodes;

mod reset;

/// A namespace with clients and servers on both nodes, and the address of its Service.
pub(crate) fn web(
    cluster: &Cluster,
    labels: &[&str],
) -> Result<(Space, String), Box<dyn std::error::Error + Send + Sync>> {
    let space = cluster.space(labels)?;
    serve_web(&space)?;
    if !labels.is_empty() {
        let servers = named(&space, "app=web")?;
        let pods: Vec<&str> = servers.iter().map(String::as_str).chain(["client-1", "client-2"]).collect();
        until_carried(cluster, &space, &pods, true)?;
    }
    let address = space.kubectl(&["get", "service", "web", "--output=jsonpath={.spec.clusterIP}"])?;
    eventually("the Service answers", || ask(&space, "client-1", &host(&address)).is_ok())?;
    Ok((space, format!("{}:80", host(&address))))
}

/// Says on which nodes daemons may run: on those with this word for a label (JSON), or on all (`null`).
fn run_daemons_on(cluster: &Cluster, word: &str) -> Result<String, testkit::KitError> {
    let labels = format!("{{\"canopy.mesh/test\":{word}}}");
    let patch = format!("--patch={{\"spec\":{{\"template\":{{\"spec\":{{\"nodeSelector\":{labels}}}}}}}}}");
    installed(cluster, &["patch", "daemonset", "canopy-node", "--type=merge", &patch])
}

/// No daemon runs until what comes back is dropped.
fn without_daemons(cluster: &Cluster) -> Result<impl Drop, Box<dyn std::error::Error + Send + Sync>> {
    run_daemons_on(cluster, "\"nowhere\"")?;
    let away = finally(move || drop(run_daemons_on(cluster, "null")));
    eventually("no daemon is left", || daemons(cluster).is_ok_and(|pods| pods.is_empty()))?;
    Ok(away)
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn while_no_daemon_runs_what_was_carried_is_refused_new_pods_wait_and_nobody_else_notices() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let (outside, other) = web(&cluster, &[])?;
    let undisturbed = Traffic::start(&outside.inside("client-1")?, other.parse()?, "web")?;
    let away = without_daemons(&cluster)?;

    let pod = space.kubectl(&[
        "get",
        "pods",
        "--selector=app=web",
        "--output=jsonpath={.items[0].status.podIP}",
    ])?;
    for target in [address.as_str(), &format!("{}:8080", host(&pod))] {
        for client in ["client-1", "client-2"] {
            ask(&space, client, target).expect_err("nothing passes in plaintext");
        }
        ask(&outside, "client-1", target).expect_err("nor from outside");
    }
    space.apply(&sleeper("late", Some("node-1")))?;
    outside.apply(&sleeper("late", Some("node-1")))?;
    outside.pod_ready("late")?;
    eventually("the pod's events say what it waits for", || {
        is_told_of(&space, "late", "no daemon enrols the pod")
    })?;
    let phase = space.kubectl(&["get", "pod", "late", "--output=jsonpath={.status.phase}"])?;
    assert_eq!(phase, "Pending");

    drop(away);
    installed(&cluster, &["rollout", "status", "daemonset/canopy-node", "--timeout=90s"])?;
    eventually("what waited starts", || space.pod_ready("late").is_ok())?;
    until_carried(&cluster, &space, &["late", "client-1", "client-2"], true)?;
    for client in ["client-1", "client-2", "late"] {
        eventually(&format!("{client} is served again"), || ask(&space, client, &address).is_ok())?;
    }
    let tally = undisturbed.tally();
    assert!(tally.failures == 0 && tally.total() > 100, "{tally:?}");
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_daemon_that_is_killed_under_load_comes_back_and_takes_over_what_it_carried() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let (outside, other) = web(&cluster, &[])?;
    let load = Traffic::start(&space.inside("client-1")?, address.parse()?, "web")?;
    let undisturbed = Traffic::start(&outside.inside("client-1")?, other.parse()?, "web")?;
    load.next(200)?;
    let node = "--field-selector=spec.nodeName=node-1";
    let pod = installed(
        &cluster,
        &[
            "get",
            "pods",
            "--selector=app.kubernetes.io/name=canopy-node",
            node,
            "--output=jsonpath={.items[0].metadata.name}",
        ],
    )?;
    let system = cluster.existing("canopy-system");
    system.inside(&pod)?.kill()?;
    eventually("requests fail while it is away", || load.tally().failures > 0)?;
    eventually("it carries again", || load.next(100).is_ok_and(|tally| tally.total() >= 100))?;
    let before = load.tally();
    load.next(200)?;
    assert_eq!(load.tally().failures, before.failures, "{:?}", load.tally());
    let tally = undisturbed.tally();
    assert!(tally.failures == 0 && tally.total() > 100, "{tally:?}");
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn while_the_api_server_is_away_traffic_goes_on_and_what_changed_meanwhile_is_learnt_after() -> Outcome {
    let cluster = running();
    let (space, address) = web(&cluster, &[OPTED_IN])?;
    let traffic = Traffic::start(&space.inside("client-1")?, address.parse()?, "web")?;
    traffic.next(200)?;
    script("cluster", &["stop", "apiserver"])?;
    let back = finally(|| drop(script("cluster", &["start", "apiserver"])));
    std::thread::sleep(Duration::from_secs(20));
    traffic.next(500)?;
    drop(back);
    eventually("the API server answers", || space.kubectl(&["get", "pods"]).is_ok())?;
    space.kubectl(&["scale", "deployment/web", "--replicas=1"])?;
    space.apply(&sleeper("late", Some("node-1")))?;
    eventually("a new pod starts", || space.pod_ready("late").is_ok())?;
    until_carried(&cluster, &space, &["late"], true)?;
    eventually("one server is left", || named(&space, "app=web").is_ok_and(|pods| pods.len() == 1))?;
    traffic.next(200)?;
    assert_eq!(traffic.tally().failures, 0, "{:?}", traffic.tally());
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_list_of_plugins_that_somebody_overwrites_is_mended() -> Outcome {
    let list = node_folder("node-2").join("etc/cni/net.d/10-pods.conflist");
    let chained = fs::read_to_string(&list)?;
    assert!(chained.contains("canopy-cni"), "{chained}");
    let mut without: serde_json::Value = serde_json::from_str(&chained)?;
    if let Some(plugins) = without["plugins"].as_array_mut() {
        plugins.retain(|plugin| plugin["type"] != "canopy-cni");
    }
    fs::write(&list, serde_json::to_vec_pretty(&without)?)?;
    eventually("it is in the list again", || {
        fs::read_to_string(&list).is_ok_and(|list| list.contains("canopy-cni"))
    })?;
    Ok(())
}
