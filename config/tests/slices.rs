//! Several EndpointSlices of one Service: what they say of one address, whichever of them is read first.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Finding, Reason, Severity},
    model::AppProtocol,
    store::{FileText, Options, Store},
};

fn slice(name: &str, protocol: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: {{kubernetes.io/service-name: s}}}}\n\
         addressType: IPv4\nports: [{{port: 8080{protocol}}}]\nendpoints: [{{addresses: [10.1.0.1]}}]\n"
    )
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n";

/// What the one endpoint speaks, and what is said of slices that contradict each other.
fn endpoint(slices: &[String]) -> (AppProtocol, Vec<Finding>) {
    let text = [SERVICE.to_owned()].iter().chain(slices).cloned().collect::<Vec<_>>().join("---\n");
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
    let outcome = Store::new(Options::default()).apply(&files);
    let ports = outcome.mesh.services.values().flat_map(|service| &service.ports);
    let endpoints: Vec<_> = ports.flat_map(|port| &port.endpoints).cloned().collect();
    assert_eq!(endpoints.len(), 1, "{:#?}", outcome.findings);
    let of_slices = outcome.findings.into_iter().filter(|finding| finding.reason == Reason::Conflict);
    (endpoints[0].protocol, of_slices.collect())
}

#[test]
fn slices_that_say_different_things_of_one_address_are_told_and_neither_counts_whichever_comes_first() {
    let (http, h2c, tcp, none) = (
        slice("a", ", appProtocol: http"),
        slice("b", ", appProtocol: kubernetes.io/h2c"),
        slice("c", ", appProtocol: tcp"),
        slice("d", ""),
    );
    for slices in [[&http, &h2c, &none], [&h2c, &none, &http], [&none, &tcp, &http], [&h2c, &tcp, &http]] {
        let (protocol, told) = endpoint(&slices.map(Clone::clone));
        assert_eq!(protocol, AppProtocol::Undeclared, "{slices:?}");
        let [finding] = &told[..] else { panic!("{told:#?}") };
        assert_eq!((finding.severity, &*finding.field), (Severity::Warning, "endpoints[0].addresses[0]"));
        assert!(
            finding.message.contains("10.1.0.1:8080 has another appProtocol in EndpointSlice"),
            "{finding}"
        );
    }
    // What one of them does not say is no contradiction.
    for slices in [[&http, &none], [&none, &http]] {
        let (protocol, told) = endpoint(&slices.map(Clone::clone));
        assert_eq!((protocol, told.len()), (AppProtocol::Http1, 0), "{slices:?}");
    }
}

#[test]
fn the_api_servers_own_slice_names_a_node_and_no_other_slice_does() {
    let node: std::net::IpAddr = [192, 0, 2, 1].into();
    let of = |service: &str, slice: &str, namespace: &str| {
        let meta = |name| format!("metadata: {{name: {name}, namespace: {namespace}");
        let ports = "ports: [{port: 443, targetPort: 6443}]";
        let text = format!(
            "apiVersion: v1\nkind: Service\n{}}}\nspec: {{clusterIP: 10.0.0.1, {ports}}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n{}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             addressType: IPv4\nports: [{{port: 6443}}]\nendpoints: [{{addresses: [{node}]}}]\n",
            meta(service),
            meta(slice)
        );
        let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
        let options = Options { node_addresses: vec![node], ..Options::default() };
        let outcome = Store::new(options).apply(&files);
        let ports = outcome.mesh.services.values().flat_map(|service| &service.ports);
        ports.flat_map(|port| &port.endpoints).count()
    };
    assert_eq!(of("kubernetes", "kubernetes", "default"), 1);
    assert_eq!(of("kubernetes", "mine", "default"), 0);
    assert_eq!(of("kubernetes", "kubernetes", "forum"), 0);
    assert_eq!(of("web", "web", "default"), 0);
}

#[test]
fn a_slice_names_a_node_where_a_pod_of_its_namespace_is_on_the_nodes_network_for_as_long_as_it_is() {
    let slice = |namespace: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n{}",
            slice("a", "").replace("{name: a,", &format!("{{name: a, namespace: {namespace},"))
        )
    };
    let pod = |namespace: &str, network: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: agent, namespace: {namespace}}}\n\
             spec: {{{network}containers: [{{name: a}}]}}\nstatus: {{hostIP: 10.1.0.1, podIP: 10.1.0.{}}}\n",
            if network.is_empty() { 9 } else { 1 }
        )
    };
    let mut store = Store::new(Options::default());
    let mut endpoints = |pod: String| {
        let text = |text: String| FileText::from(text.as_str());
        let files = [("forum.yaml", slice("forum")), ("pod.yaml", pod), ("shop.yaml", slice("shop"))];
        let files = files.map(|(name, it)| (PathBuf::from(name), text(it)));
        let outcome = store.apply(&BTreeMap::from(files));
        outcome.mesh.services.values().map(|service| service.ports[0].endpoints.len()).collect::<Vec<_>>()
    };
    let host = "hostNetwork: true, ";
    assert_eq!(endpoints(pod("shop", "")), [0, 0], "of forum and of shop");
    assert_eq!(endpoints(pod("shop", host)), [0, 1]);
    assert_eq!(endpoints(pod("forum", host)), [1, 1], "shop's is in force");
}
