//! What a Service says of where its connections go, and what a new pod at an old address is taken for.

use std::{net::Ipv4Addr, time::Duration};

use testkit::{Outcome, Space, eventually};

use crate::lab::{
    FRIENDS_ALONE, NODES, OPTED_IN, STRICT, ask, both_answer, host, is_refused, is_told_of, load, named,
    node_folder, running, serve_web, sleeper, until_carried,
};

/// How often a Service is asked, that a choice by chance would be seen: all the same once in some 500,000.
const OFTEN: usize = 20;

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_service_is_answered_by_the_node_the_zone_or_the_one_pod_that_it_says() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    serve_web(&space)?;
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    for service in SERVICES.split("---") {
        space.apply(service)?;
    }
    for client in ["client-1", "client-2"] {
        both_answer(&space, client, "web")?;
        each_by_its_own_address(&space, client)?;
        stays_with_one(&space, client, "sticky")?;
    }
    for (client, node) in ["client-1", "client-2"].into_iter().zip(NODES) {
        eventually(&format!("{client} is answered by its own node"), || {
            hears(&space, client, "local") == [node]
        })?;
    }

    // With a server on one node alone, the other's callers are refused: by nobody's word are they sent across.
    space.kubectl(&["patch", "deployment", "web", "--type=json", ONE_SERVER])?;
    eventually("one server is left, on node-2", || {
        named(&space, "app=web").is_ok_and(|pods| pods.len() == 1)
            && ask(&space, "client-2", "local").is_ok_and(|said| said.trim() == "node-2")
    })?;
    eventually("client-1 has no server on its node", || {
        ask(&space, "client-1", "local").is_err_and(|error| error.to_string().contains("503"))
    })?;
    for _ in 0..OFTEN {
        ask(&space, "client-1", "local").expect_err("node-1 has no server");
    }
    eventually("others are answered by the one", || hears(&space, "client-1", "web") == ["node-2"])?;
    eventually("whom it stayed with is gone", || hears(&space, "client-1", "sticky") == ["node-2"])?;
    Ok(())
}

/// A headless Service's name is its pods' addresses, and a call to one of those is that pod's and no other's.
fn each_by_its_own_address(space: &Space, client: &str) -> Outcome {
    let name = format!("headless.{}.svc.cluster.local", space.name());
    let resolved = space.exec(client, &["nslookup", &name])?;
    let placed = "--output=jsonpath={range .items[*]}{.spec.nodeName} {.status.podIP}{\"\\n\"}{end}";
    let placed = space.kubectl(&["get", "pods", "--selector=app=web", placed])?;
    assert_eq!(placed.lines().count(), 2, "{placed}");
    for (node, address) in placed.lines().filter_map(|line| line.split_once(' ')) {
        assert!(resolved.contains(address), "{resolved}");
        for _ in 0..OFTEN {
            assert_eq!(ask(space, client, &format!("{}:8080", host(address)))?.trim(), node);
        }
    }
    ask(space, client, "headless:8080")?;
    Ok(())
}

/// The nodes that answer.
fn hears(space: &Space, client: &str, host: &str) -> Vec<String> {
    let said = (0..OFTEN).map(|_| ask(space, client, host).unwrap_or_else(|error| error.to_string()));
    let mut said: Vec<String> = said.map(|line| line.trim().to_owned()).collect();
    said.sort();
    said.dedup();
    said
}

fn stays_with_one(space: &Space, client: &str, host: &str) -> Outcome {
    // As soon as the Service is known.
    eventually(&format!("{host} answers"), || ask(space, client, host).is_ok())?;
    let heard = hears(space, client, host);
    assert_eq!(heard.len(), 1, "{client} at {host} hears {heard:?}");
    Ok(())
}

const ONE_SERVER: &str = r#"--patch=[{"op":"replace","path":"/spec/replicas","value":1},{"op":"add","path":"/spec/template/spec/nodeName","value":"node-2"},{"op":"remove","path":"/spec/template/spec/topologySpreadConstraints"}]"#;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}], sessionAffinity: ClientIP}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}], internalTrafficPolicy: Local}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn probes_by_grpc_are_answered_by_the_app_under_strict() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    load("canopy.mesh/etcd:1", &["/usr/bin/etcd=/usr/bin/etcd"])?;
    space.apply(STRICT)?;
    for (name, service) in [("well", ""), ("unknown", ", service: nobody")] {
        space.apply(&HEALTH.replace("@NAME@", name).replace("@SERVICE@", service))?;
    }
    space.pod_ready("well")?;
    until_carried(&cluster, &space, &["well", "unknown"], true)?;
    // It runs as the other does, and says of that name that it does not know it.
    eventually("the kubelet hears so", || is_told_of(&space, "unknown", "Readiness probe failed"))?;
    // It fails while the app begins, too: some periods more.
    std::thread::sleep(Duration::from_secs(3));
    let ready =
        "--output=jsonpath={.status.containerStatuses[0].ready} {.status.containerStatuses[0].restartCount}";
    assert_eq!(space.kubectl(&["get", "pod", "unknown", ready])?, "false 0");
    assert_eq!(space.kubectl(&["get", "pod", "well", ready])?, "true 0");
    Ok(())
}

/// etcd is a server that speaks gRPC's protocol of health, and is there.
const HEALTH: &str = "
apiVersion: v1
kind: Pod
metadata: {name: @NAME@}
spec:
  containers:
  - name: etcd
    image: canopy.mesh/etcd:1
    imagePullPolicy: Never
    args: [--data-dir, /data, --listen-client-urls, 'http://0.0.0.0:2379', --advertise-client-urls, 'http://127.0.0.1:2379']
    readinessProbe: {grpc: {port: 2379@SERVICE@}, periodSeconds: 1}
";

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn a_new_pod_at_the_address_of_one_that_left_is_nobody_but_itself() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    serve_web(&space)?;
    space.apply(FRIENDS_ALONE)?;
    let as_friend = |name: &str| {
        sleeper(name, Some("node-1")).replace("spec:\n", "spec:\n  serviceAccountName: friend\n")
    };
    space.apply(&as_friend("friend"))?;
    space.pod_ready("friend")?;
    let before = address(&space, "friend")?;
    eventually("the friend is answered", || ask(&space, "friend", "web").is_ok())?;
    space.kubectl(&["delete", "pod", "friend", "--grace-period=1"])?;

    // Twice around: what is nobody's friend has its address, and then a friend that of no friend's.
    next_is(&before)?;
    space.apply(&sleeper("stranger", Some("node-1")))?;
    space.pod_ready("stranger")?;
    assert_eq!(address(&space, "stranger")?, before, "the plugin has given it out again");
    for _ in 0..OFTEN {
        let said = ask(&space, "stranger", "web");
        assert!(is_refused(&said), "by its address it would be the friend: {said:?}");
    }
    space.kubectl(&["delete", "pod", "stranger", "--grace-period=1"])?;
    next_is(&before)?;
    space.apply(&as_friend("second"))?;
    space.pod_ready("second")?;
    assert_eq!(address(&space, "second")?, before);
    for _ in 0..OFTEN {
        ask(&space, "second", "web")?;
    }
    Ok(())
}

/// Has node-1's plugin give out this address next: it goes on behind the last one that it gave.
fn next_is(address: &str) -> Outcome {
    let before = Ipv4Addr::from(u32::from(address.parse::<Ipv4Addr>()?) - 1);
    let last = node_folder("node-1").join("var/lib/cni/networks/pods/last_reserved_ip.0");
    Ok(std::fs::write(last, before.to_string())?)
}

fn address(space: &Space, pod: &str) -> Result<String, testkit::KitError> {
    space.kubectl(&["get", "pod", pod, "--output=jsonpath={.status.podIP}"])
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn callers_are_answered_nearby_where_a_service_asks_for_it_and_from_afar_where_nobody_is_near() -> Outcome {
    let cluster = running();
    let space = cluster.space(&[OPTED_IN])?;
    serve_web(&space)?;
    space.apply(NEAR)?;
    until_carried(&cluster, &space, &["client-1", "client-2"], true)?;
    let hints = "--output=jsonpath={.items[*].endpoints[*].hints.forNodes[*].name}";
    let selector = "--selector=kubernetes.io/service-name=near";
    eventually("the cluster's controller writes hints", || {
        space.kubectl(&["get", "endpointslices", selector, hints]).is_ok_and(|hints| hints.contains("node-1"))
    })?;
    for (client, node) in ["client-1", "client-2"].into_iter().zip(NODES) {
        eventually(&format!("{client} is answered nearby"), || hears(&space, client, "near") == [node])?;
    }
    space.kubectl(&["patch", "deployment", "web", "--type=json", ONE_SERVER])?;
    // Near is a wish, and not a condition.
    eventually("client-1 is answered from afar", || hears(&space, "client-1", "near") == ["node-2"])?;
    Ok(())
}

const NEAR: &str = "
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}], trafficDistribution: PreferSameNode}
";
