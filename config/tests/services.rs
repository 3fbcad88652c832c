//! What a Service and its slices say of which endpoints connections go to, through lowering, and through discovery and back.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    model::{Endpoint, Mesh, Reach, Service},
    store::{FileText, Options, Store},
};

fn mesh(node: Option<&str>, text: &str) -> Mesh {
    let options = Options { node: node.map(|node| node.try_into().expect("a name")), ..Options::default() };
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    let outcome = Store::new(options).apply(&files);
    assert_eq!(outcome.accepted, outcome.objects, "{:#?}", outcome.findings);
    Mesh::clone(&outcome.mesh)
}

fn only(mesh: &Mesh) -> (Service, Vec<Endpoint>) {
    let service = Service::clone(mesh.services.values().next().expect("a Service"));
    let endpoints = service.ports[0].endpoints.clone();
    (service, endpoints)
}

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{{spec}selector: {{app: a}}, ports: [{{port: 80}}]}}\n---\n"
    )
}

fn slice(endpoint: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s-1, labels: {{kubernetes.io/service-name: s}}}}\n\
         addressType: IPv4\nports: [{{port: 8080}}]\nendpoints: [{{addresses: [10.1.0.1], {endpoint}}}]\n"
    )
}

fn pod(spec: &str, meta: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{app: a, topology.kubernetes.io/zone: z}}{meta}}}\n\
         spec: {{{spec}containers: [{{name: c}}]}}\nstatus: {{podIP: 10.1.0.1}}\n"
    )
}

/// The node of an endpoint, and for which nodes and zones it is.
fn place(endpoint: &Endpoint) -> (String, String, String) {
    let topology = endpoint.topology.clone().unwrap_or_default();
    let nodes = topology.for_nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let zones = topology.for_zones.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    (topology.node.map_or_else(String::new, |node| node.to_string()), nodes, zones)
}

#[test]
fn readiness_is_read_as_the_api_means_it() {
    for (conditions, ready, draining) in [
        ("{}", true, false),
        ("{ready: true}", true, false),
        ("{ready: false}", false, false),
        ("{ready: false, serving: true}", false, false),
        ("{ready: false, serving: true, terminating: true}", false, true),
        ("{ready: false, serving: false, terminating: true}", false, false),
        ("{ready: false, terminating: true}", false, false),
        ("{terminating: true}", false, false),
        ("{serving: true, terminating: true}", false, true),
        // Of a Service that publishes addresses that are not ready.
        ("{ready: true, serving: false, terminating: true}", true, false),
        ("{ready: true, serving: true, terminating: true}", true, false),
    ] {
        let text = service("") + &slice(&format!("conditions: {conditions}"));
        let (_, endpoints) = only(&mesh(None, &text));
        assert_eq!((endpoints[0].ready, endpoints[0].draining), (ready, draining), "{conditions}");
    }
}

#[test]
fn a_slice_says_where_its_endpoints_are_and_for_whom_as_far_as_anything_follows_from_it() {
    let slice =
        slice("nodeName: a, zone: z, hints: {forNodes: [{name: a}, {name: b}], forZones: [{name: z}]}");
    let of = |spec: &str| only(&mesh(None, &(service(spec) + &slice)));
    let (plain, endpoints) = of("");
    assert_eq!((plain.reach, plain.affinity), (Reach::Cluster, None));
    let told = |node: &str| (node.to_owned(), "a,b".to_owned(), "z".to_owned());
    assert_eq!(place(&endpoints[0]), told(""), "nobody asks for the node");
    let (local, endpoints) = of("internalTrafficPolicy: Local, ");
    assert_eq!((local.reach, place(&endpoints[0])), (Reach::Node, told("a")));
    let text = service("") + &self::slice("nodeName: a, zone: z");
    assert_eq!(
        only(&mesh(None, &text)).1[0].topology,
        None,
        "an endpoint of which nothing follows costs nothing"
    );
}

#[test]
fn without_slices_a_pod_is_meant_for_whom_a_controller_would_say() {
    let place_of = |node, spec: &str, pod: &str| {
        let (node, nodes, zones) = place(&only(&mesh(node, &(service(spec) + pod))).1[0]);
        [node, nodes, zones]
    };
    let (on_a, nowhere) = (pod("nodeName: a, ", ""), pod("", ""));
    let here = pod("", ", annotations: {canopy.mesh/netns: /run/netns/p}");
    for (spec, pod, expected) in [
        ("", &on_a, ["", "", ""]),
        ("internalTrafficPolicy: Local, ", &on_a, ["a", "", ""]),
        ("internalTrafficPolicy: Local, ", &nowhere, ["", "", ""]),
        ("internalTrafficPolicy: Local, ", &here, ["b", "", ""]),
        ("trafficDistribution: PreferClose, ", &on_a, ["", "", "z"]),
        ("trafficDistribution: PreferSameZone, ", &on_a, ["", "", "z"]),
        ("trafficDistribution: PreferSameNode, ", &on_a, ["", "a", "z"]),
        ("trafficDistribution: PreferSameNode, ", &here, ["", "b", "z"]),
    ] {
        assert_eq!(place_of(Some("b"), spec, pod), expected, "{spec}{pod}");
    }
    assert_eq!(place_of(None, "internalTrafficPolicy: Local, ", &here), ["", "", ""], "no node has a name");
}

#[test]
fn a_pod_that_ends_and_is_ready_otherwise_still_serves() {
    let ending = pod("", ", deletionTimestamp: '2026-01-01T00:00:00Z'");
    for (text, expected) in [
        (pod("", ""), (true, false)),
        (ending.clone(), (false, true)),
        (
            ending.replace("10.1.0.1}", "10.1.0.1, conditions: [{type: Ready, status: 'False'}]}"),
            (false, false),
        ),
    ] {
        let (_, endpoints) = only(&mesh(None, &(service("") + &text)));
        assert_eq!((endpoints[0].ready, endpoints[0].draining), expected, "{text}");
    }
}

#[test]
fn clients_stay_for_three_hours_where_nothing_else_is_said() {
    for (spec, affinity) in [
        ("sessionAffinity: None, ", None),
        ("sessionAffinity: ClientIP, ", Some(10_800)),
        ("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}, ", Some(5)),
        ("sessionAffinity: None, sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}, ", None),
    ] {
        assert_eq!(only(&mesh(None, &service(spec))).0.affinity, affinity, "{spec}");
    }
}
