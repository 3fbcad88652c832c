//! The cluster that `make cluster` brings up is one: pods of a Deployment are spread over its nodes and reach each other by address,
//! by their Service's address and by its name.

use testkit::Outcome;

use crate::lab::{NODES, WEB, ask, both_answer, host, running};

#[test]
#[ignore = "needs a cluster: make test-cluster"]
fn pods_reach_each_other_across_nodes_by_address_by_service_and_by_name() -> Outcome {
    let space = running().space(&[])?;
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
    let space = running().space(&[])?;
    for object in OBJECTS {
        space.apply(object)?;
        let refused = space.apply(&object.replace("spec:", "spec:\n  nonsense: 1"));
        let refused = refused.expect_err("kubectl asks for strict validation").to_string();
        assert!(refused.contains("spec.nonsense"), "{refused}");
    }
    Ok(())
}

const PLACES: &str =
    r#"jsonpath={range .items[*]}{.spec.nodeName}{range .status.podIPs[*]} {.ip}{end}{"\n"}{end}"#;

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
