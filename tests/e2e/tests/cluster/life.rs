//! What pods do in their lives, carried: probes, init containers, Jobs, StatefulSets, host ports, rollouts.

use testkit::{Outcome, Traffic, eventually};

use crate::lab::{NODES, OPTED_IN, STRICT, ask, host, named, running, sleeper, until_carried};

/// Every kind of probe, an init container, a second container on loopback alone, a host port.
const PROBED: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: probed}
spec:
  serviceName: probed
  replicas: 2
  selector: {matchLabels: {app: probed}}
  template:
    metadata: {labels: {app: probed}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers:
      - {name: before, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: ['true']}
      containers:
      - name: web
        image: canopy.mesh/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /www && hostname >/www/index.html && exec httpd -f -p 8080 -h /www']
        ports: [{containerPort: 8080, hostPort: 28481}]
        startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        livenessProbe: {exec: {command: ['true']}, periodSeconds: 1}
      - name: inside
        image: canopy.mesh/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /www && echo inside >/www/index.html && exec httpd -f -p 127.0.0.1:8081 -h /www']
        readinessProbe: {exec: {command: [wget, -q, -O, /dev/null, 'http://127.0.0.1:8081/']}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: probed}
spec: {clusterIP: None, selector: {app: probed}, ports: [{port: 8080}]}
";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn probes_pass_under_strict_and_nobody_else_in_plaintext_does() -> Outcome {
    let cluster = running();
    let (space, outside) = (cluster.space(&[OPTED_IN])?, cluster.space(&[])?);
    space.apply(STRICT)?;
    space.apply(PROBED)?;
    for space in [&space, &outside] {
        space.apply(&sleeper("client", None))?;
    }
    outside.pod_ready("client")?;
    space.kubectl(&["rollout", "status", "statefulset/probed", "--timeout=90s"])?;
    space.pod_ready("client")?;
    until_carried(&cluster, &space, &["probed-0", "probed-1", "client"], true)?;
    for pod in ["probed-0", "probed-1"] {
        let address = space.kubectl(&["get", "pod", pod, "--output=jsonpath={.status.podIP}"])?;
        let by_name = format!("{pod}.probed:8080");
        eventually(&format!("{pod} answers by name"), || {
            ask(&space, "client", &by_name).is_ok_and(|said| said.trim() == pod)
        })?;
        ask(&outside, "client", &format!("{}:8080", host(&address)))
            .expect_err("plaintext from outside of the mesh");
        let inside = ["wget", "-q", "-O", "-", "http://127.0.0.1:8081/"];
        let said = space.kubectl(&[&["exec", pod, "--container=web", "--"], &inside[..]].concat())?;
        assert_eq!(said.trim(), "inside", "containers of a pod speak on loopback");
        let node = space.kubectl(&["get", "pod", pod, "--output=jsonpath={.status.hostIP}"])?;
        // A caller at a host port comes from the node's own address, as its probes do, and is told what a probe is: that the pod lives.
        let said = ask(&outside, "client", &format!("{}:28481", host(&node))).unwrap_or_default();
        assert_eq!(said, "", "a host port under STRICT");
    }
    let restarts = "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    let restarts = space.kubectl(&["get", "pods", "--selector=app=probed", restarts])?;
    assert!(restarts.split(' ').all(|count| count == "0"), "{restarts}");

    space.kubectl(&["patch", "peerauthentication", "default", "--type=merge", PERMISSIVE])?;
    let node = space.kubectl(&["get", "pod", "probed-0", "--output=jsonpath={.status.hostIP}"])?;
    eventually("a host port answers where plaintext may", || {
        ask(&outside, "client", &format!("{}:28481", host(&node))).is_ok_and(|said| said.trim() == "probed-0")
    })?;
    Ok(())
}

const PERMISSIVE: &str = "--patch={\"spec\":{\"mtls\":{\"mode\":\"PERMISSIVE\"}}}";

const ROLLED: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: rolled}
spec:
  replicas: 3
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: rolled}}
  template:
    metadata: {labels: {app: rolled}}
    spec:
      # What is told of an end is told everywhere within this time; the server goes on meanwhile.
      terminationGracePeriodSeconds: 3
      containers:
      - name: web
        image: canopy.mesh/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /www && hostname >/www/index.html && exec httpd -f -p 8080 -h /www']
        env: [{name: ROUND, value: '0'}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: rolled}
spec: {selector: {app: rolled}, ports: [{port: 80, targetPort: 8080}]}
";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn no_request_fails_while_a_deployment_of_three_is_replaced_pod_by_pod() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    space.apply(ROLLED)?;
    space.apply(&sleeper("client", Some("node-1")))?;
    space.rolled_out("deployment/rolled")?;
    space.pod_ready("client")?;
    let first = named(&space, "app=rolled")?;
    let carried: Vec<&str> = first.iter().map(String::as_str).chain(["client"]).collect();
    until_carried(&cluster, &space, &carried, true)?;
    let address = space.kubectl(&["get", "service", "rolled", "--output=jsonpath={.spec.clusterIP}"])?;
    eventually("the Service answers", || ask(&space, "client", &host(&address)).is_ok())?;
    let client = space.inside("client")?;
    let traffic = Traffic::start(&client, format!("{}:80", host(&address)).parse()?, "rolled")?;
    traffic.next(500)?;
    for round in 1..=2 {
        space.kubectl(&["set", "env", "deployment/rolled", &format!("ROUND={round}")])?;
        space.rolled_out("deployment/rolled")?;
    }
    // Until the last of those that were replaced is gone.
    eventually("three pods are left", || named(&space, "app=rolled").is_ok_and(|pods| pods.len() == 3))?;
    let left = named(&space, "app=rolled")?;
    assert!(left.iter().all(|pod| !first.contains(pod)), "{left:?} were there before");
    traffic.next(500)?;
    let tally = traffic.tally();
    assert_eq!(tally.failures, 0, "{tally:?}");
    assert!(tally.total() > 1_000, "{tally:?}");
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_job_ends_and_what_has_ended_is_carried_no_more() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    for node in NODES {
        space.apply(&JOB.replace("@NODE@", node))?;
    }
    for node in NODES {
        space.kubectl(&["wait", "--for=condition=Complete", &format!("job/on-{node}"), "--timeout=60s"])?;
    }
    let ended = named(&space, "app=job")?;
    assert_eq!(ended.len(), 2, "their pods are still there: {ended:?}");
    let ended: Vec<&str> = ended.iter().map(String::as_str).collect();
    until_carried(&cluster, &space, &ended, false)
}

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: on-@NODE@}
spec:
  template:
    metadata: {labels: {app: job}}
    spec:
      restartPolicy: Never
      nodeName: @NODE@
      containers: [{name: job, image: 'canopy.mesh/busybox:1', imagePullPolicy: Never, command: [sleep, '1']}]
";
