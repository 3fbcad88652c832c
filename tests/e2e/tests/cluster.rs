//! The cluster that `make cluster` brings up is one: pods of a Deployment are spread over its nodes and reach each other by address,
//! by their Service's address and by its name. Run by `make test-cluster`, on a cluster that is up.

use e2e::repository;
use testkit::{Cluster, Outcome, Space, eventually};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn pods_reach_each_other_across_nodes_by_address_by_service_and_by_name() -> Outcome {
    let space = Cluster::running(&repository().join("target/tools")).space(&[])?;
    space.apply(WEB)?;
    space.rolled_out("deployment/web")?;
    let placed = space.kubectl(&["get", "pods", "--selector=app=web", "--output", PLACES])?;
    // The node of each pod, and its addresses: one, or one of each family.
    let placed: Vec<(&str, &str)> = placed.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut nodes: Vec<&str> = placed.iter().map(|(node, _)| *node).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, NODES, "one pod on each node");
    let addresses = space.kubectl(&["get", "service", "web", "--output=jsonpath={.spec.clusterIPs[*]}"])?;
    let named = format!("web.{}.svc.cluster.local", space.name());
    let mut hosts: Vec<String> = addresses.split(' ').map(host).collect();
    hosts.extend(["web".to_owned(), named]);

    for client in ["client-1", "client-2"] {
        space.pod_ready(client)?;
        for (node, address) in
            placed.iter().flat_map(|(node, all)| all.split(' ').map(move |one| (node, one)))
        {
            let said = ask(&space, client, &format!("{}:8080", host(address)))?;
            assert_eq!(said.trim(), *node, "{client} asks {address}");
        }
        for host in &hosts {
            both_answer(&space, client, host)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn objects_that_the_mesh_reads_are_known_to_the_cluster_and_checked_by_it() -> Outcome {
    let space = Cluster::running(&repository().join("target/tools")).space(&[])?;
    for object in OBJECTS {
        space.apply(object)?;
        let refused = space.apply(&object.replace("spec:", "spec:\n  nonsense: 1"));
        let refused = refused.expect_err("kubectl asks for strict validation").to_string();
        assert!(refused.contains("spec.nonsense"), "{refused}");
    }
    Ok(())
}

/// An address as it stands in a URL.
fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// What a pod is told at this host and path `/`.
fn ask(space: &Space, client: &str, host: &str) -> Result<String, testkit::KitError> {
    space.exec(client, &["timeout", "5", "wget", "-q", "-O", "-", &format!("http://{host}/")])
}

/// A Service's pods are picked by chance, so it is asked until each has been. It knows of them a moment after they are ready.
fn both_answer(space: &Space, client: &str, host: &str) -> Outcome {
    let mut missing = NODES.to_vec();
    eventually(&format!("{client} hears of both nodes at {host}"), || {
        let said = ask(space, client, host).unwrap_or_default();
        missing.retain(|node| *node != said.trim());
        missing.is_empty()
    })?;
    Ok(())
}

const NODES: [&str; 2] = ["node-1", "node-2"];

const PLACES: &str =
    r#"jsonpath={range .items[*]}{.spec.nodeName}{range .status.podIPs[*]} {.ip}{end}{"\n"}{end}"#;

/// A server that answers with the name of its node, one pod on each; and a client on each.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: canopy.mesh/busybox:1
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /www && echo "$NODE" >/www/index.html && exec httpd -f -p 8080 -h /www']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client-1}
spec:
  nodeName: node-1
  containers: [{name: client, image: "canopy.mesh/busybox:1", imagePullPolicy: Never, command: [sleep, "3600"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: client-2}
spec:
  nodeName: node-2
  containers: [{name: client, image: "canopy.mesh/busybox:1", imagePullPolicy: Never, command: [sleep, "3600"]}]
"#;

/// One of each origin: the Gateway API's, and Istio's.
const OBJECTS: [&str; 2] = [
    r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules: [{backendRefs: [{name: web, port: 80}]}]
",
    r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  action: DENY
  rules: [{from: [{source: {namespaces: [forum]}}]}]
",
];
