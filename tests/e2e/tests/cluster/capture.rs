//! A label on a namespace has its pods carried as they are, none is restarted; without it they are let go. What they have open stays.

use testkit::{Outcome, eventually};

use crate::lab::{OPTED_IN, WEB, ask, both_answer, log, named, running, sleeper, until_carried};

/// Says something ten times a second on one connection, and writes down what comes back.
const TALK: &str = "
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  nodeName: node-2
  containers: [{name: echo, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: [nc, -ll, -p, '9000', -e, cat]}]
---
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  nodeName: node-1
  containers:
  - name: talker
    image: canopy.mesh/busybox:1
    imagePullPolicy: Never
    env: [{name: PEER, value: '@PEER@'}]
    command: [sh, -c, '(while true; do echo tick; sleep 0.1; done) | nc $PEER 9000 >/said; echo ended >>/said; sleep 3600']
";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn pods_that_run_are_carried_when_their_namespace_is_labelled_and_let_go_after_and_no_connection_ends()
-> Outcome {
    let cluster = running();
    let space = cluster.space(&[])?;
    let (echo, talker) = TALK.split_once("---").ok_or("two pods")?;
    space.apply(WEB)?;
    space.apply(echo)?;
    space.rolled_out("deployment/web")?;
    for pod in ["client-1", "client-2", "echo"] {
        space.pod_ready(pod)?;
    }
    let peer = space.kubectl(&["get", "pod", "echo", "--output=jsonpath={.status.podIP}"])?;
    space.apply(&talker.replace("@PEER@", &peer))?;
    space.pod_ready("talker")?;
    let heard = |least: usize| {
        let said = space.exec("talker", &["cat", "/said"]).unwrap_or_default();
        assert!(!said.contains("ended"), "the connection was cut");
        said.lines().count() >= least
    };
    eventually("the talker hears itself", || heard(5))?;

    let started = starts(&space)?;
    space.kubectl(&["label", "namespace", space.name(), OPTED_IN])?;
    let web = named(&space, "app=web")?;
    let pods: Vec<&str> = web.iter().map(String::as_str).chain(["client-1", "client-2", "talker"]).collect();
    until_carried(&cluster, &space, &pods, true)?;
    let before = space.exec("talker", &["cat", "/said"])?.lines().count();
    eventually("what was open goes on", || heard(before + 10))?;
    for client in ["client-1", "client-2"] {
        both_answer(&space, client, "web")?;
    }
    eventually("the access log says how calls went", || {
        let lines = log(&cluster, &space).unwrap_or_default();
        ["\"delivery\":\"tunnel\"", "\"delivery\":\"direct\""]
            .iter()
            .all(|delivery| lines.iter().any(|line| line.contains(delivery) && line.contains("/web\"")))
    })?;

    space.kubectl(&["label", "namespace", space.name(), "canopy.mesh/mode-"])?;
    until_carried(&cluster, &space, &pods, false)?;
    let before = space.exec("talker", &["cat", "/said"])?.lines().count();
    eventually("what was open goes on", || heard(before + 10))?;
    ask(&space, "client-1", "web")?;
    assert_eq!(starts(&space)?, started, "no container was restarted");
    Ok(())
}

/// When each container of the namespace was started.
fn starts(space: &testkit::Space) -> Result<String, testkit::KitError> {
    let times = "--output=jsonpath={range .items[*]}{.metadata.uid}{.status.containerStatuses[*].state.running.startedAt}{\"\\n\"}{end}";
    space.kubectl(&["get", "pods", "--sort-by=.metadata.name", times])
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn the_api_server_and_what_is_on_a_nodes_network_are_reached_from_a_carried_pod() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    space.apply(ON_THE_NODE)?;
    space.apply(&sleeper("client", Some("node-1")))?;
    for pod in ["agent", "client"] {
        space.pod_ready(pod)?;
    }
    until_carried(&cluster, &space, &["client"], true)?;
    // It speaks TLS, and says so to whoever does not.
    let api = ["wget", "-q", "-O", "-", "http://kubernetes.default.svc.cluster.local:443/"];
    let refused = space.exec("client", &api).expect_err("it answers 400").to_string();
    assert!(refused.contains("400 Bad Request"), "{refused}");
    eventually("the agent's Service answers", || {
        ask(&space, "client", "agent").is_ok_and(|said| said.trim() == "on the node")
    })?;
    until_carried(&cluster, &space, &["agent"], false)
}

const ON_THE_NODE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: agent, labels: {app: agent}}
spec:
  hostNetwork: true
  nodeName: node-2
  containers:
  - name: agent
    image: canopy.mesh/busybox:1
    imagePullPolicy: Never
    command: [sh, -c, 'mkdir /www && echo on the node >/www/index.html && exec httpd -f -p 28480 -h /www']
    readinessProbe: {httpGet: {path: /, port: 28480}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: agent}
spec: {selector: {app: agent}, ports: [{port: 80, targetPort: 28480}]}
";
