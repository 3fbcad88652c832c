//! The manifests that Canopy gets: ordinary Kubernetes objects for the bench's pods.
//!
//! Written as JSON, one object a document; nothing in them is special to a benchmark but the names.

use std::{net::Ipv4Addr, path::PathBuf};

use serde_json::{Value, json};
use testkit::Pod;

use super::{CLIENTS, Judge, NEAR, Tier};
use crate::{
    lab::backends::{Port, route},
    role::MARK,
};

/// The address of the Service that clients dial.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// What a manifest says of a pod.
#[derive(Debug, Clone)]
pub(crate) struct PodEntry {
    pub namespace: String,
    pub name: String,
    pub address: Ipv4Addr,
    pub netns: PathBuf,
    /// What its node is called.
    pub node: &'static str,
    /// Whether it is carried by a proxy of its own.
    pub has_sidecar: bool,
}

impl PodEntry {
    /// As it is.
    pub(crate) fn of(pod: &Pod) -> Self {
        let (namespace, name) = (pod.namespace().to_owned(), pod.name().to_owned());
        let netns = pod.netns_path().to_owned();
        Self { namespace, name, address: pod.v4(), netns, node: NEAR, has_sidecar: false }
    }

    /// The same, carried by a proxy of its own.
    pub(crate) fn with_sidecar(self) -> Self {
        Self { has_sidecar: true, ..self }
    }

    /// The same on another node.
    pub(crate) fn on(self, node: &'static str) -> Self {
        Self { node, ..self }
    }
}

/// A set of objects.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    objects: Vec<Value>,
}

impl Manifests {
    /// A namespace, which is a tenant by itself, and its service account.
    pub(crate) fn tenant(&mut self, name: &str) {
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
        }));
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "app", "namespace": name },
        }));
    }

    /// A running pod.
    pub(crate) fn pod(&mut self, pod: &PodEntry) {
        let mut labels = json!({ "app": pod.name });
        let mut annotations = json!({});
        if pod.has_sidecar {
            labels["canopy.mesh/mode"] = "sidecar".into();
        } else {
            annotations["canopy.mesh/netns"] = json!(pod.netns);
        }
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": pod.name, "namespace": pod.namespace, "labels": labels, "annotations": annotations,
            },
            "spec": {
                "serviceAccountName": "app", "nodeName": pod.node, "containers": [{ "name": "app" }],
            },
            "status": { "phase": "Running", "podIP": pod.address, "podIPs": [{ "ip": pod.address }] },
        }));
    }

    /// A Tenant of one namespace, with bounds of every kind that no load of the bench reaches: all of it is counted.
    pub(crate) fn bounded(&mut self, namespace: &str) {
        self.objects.push(json!({
            "apiVersion": "canopy.mesh/v1alpha1", "kind": "Tenant", "metadata": { "name": namespace },
            "spec": { "namespaces": [namespace], "budget": {
                "cpu": { "share": "500m", "cap": "1" },
                "memory": { "soft": "1Gi", "hard": "2Gi" },
                "connections": 100_000, "connectionsPerSecond": 10_000_000,
                "requestsPerSecond": 10_000_000, "requestsInFlight": 1_000_000,
                "bytesPerSecond": { "in": "1Ti", "out": "1Ti" },
            } },
        }));
    }

    /// A Tenant of one namespace, whose cell is of this tier.
    pub(crate) fn tier(&mut self, namespace: &str, tier: Tier) {
        let isolation = match tier {
            Tier::Thread => "thread",
            Tier::Process => "process",
        };
        self.objects.push(json!({
            "apiVersion": "canopy.mesh/v1alpha1", "kind": "Tenant", "metadata": { "name": namespace },
            "spec": { "namespaces": [namespace], "isolation": isolation },
        }));
    }

    /// The Service `web` with all ports of the backends, served by one pod.
    pub(crate) fn service(&mut self, pod: &PodEntry) {
        self.service_at(pod, VIP);
    }

    /// The same with an address of its own.
    pub(crate) fn service_at(&mut self, pod: &PodEntry, address: Ipv4Addr) {
        self.service_named("web", pod, address, &Port::ALL);
    }

    /// The same by a name of its own, with some of the ports.
    pub(crate) fn service_named(
        &mut self,
        service: &str,
        pod: &PodEntry,
        address: Ipv4Addr,
        served: &[Port],
    ) {
        let ports = |target: bool| -> Vec<Value> {
            served
                .iter()
                .map(|&port| {
                    let mut entry = json!({ "name": name(port), "port": port.number(), "protocol": "TCP" });
                    if let Some(protocol) = app_protocol(port) {
                        entry["appProtocol"] = protocol.into();
                    }
                    if target {
                        entry["targetPort"] = port.number().into();
                    }
                    entry
                })
                .collect()
        };
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": service, "namespace": pod.namespace },
            "spec": { "clusterIP": address, "clusterIPs": [address], "selector": { "app": pod.name }, "ports": ports(true) },
        }));
        self.objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("{service}-1"), "namespace": pod.namespace,
                "labels": { "kubernetes.io/service-name": service },
            },
            "endpoints": [{
                "addresses": [pod.address], "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": pod.name, "namespace": pod.namespace },
            }],
            "ports": ports(false),
        }));
    }

    /// One pod more behind the Service `web`, for HTTP/1.1 alone.
    pub(crate) fn further_endpoint(&mut self, pod: &PodEntry) {
        let port = Port::Http;
        self.objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "web-2", "namespace": pod.namespace, "labels": { "kubernetes.io/service-name": "web" },
            },
            "endpoints": [{
                "addresses": [pod.address], "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": pod.name, "namespace": pod.namespace },
            }],
            "ports": [{ "name": name(port), "port": port.number(), "protocol": "TCP", "appProtocol": app_protocol(port) }],
        }));
    }

    /// A denial of all that comes from one address. Where a cell is to judge, it asks for who the caller is not, too, which holds for all.
    pub(crate) fn denial(&mut self, server: &PodEntry, caller: Ipv4Addr, judge: Judge) {
        let mut source = json!({ "ipBlocks": [format!("{caller}/32")] });
        if judge == Judge::UserSpace {
            source["notPrincipals"] = json!(["cluster.local/ns/nowhere/sa/nobody"]);
        }
        self.objects.push(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "denial", "namespace": server.namespace },
            "spec": { "action": "DENY", "rules": [{ "from": [{ "source": source }] }] },
        }));
    }

    /// What makes every call to a pod's namespace one that has to be decided on: by the caller's identity, and by the network
    /// policies of both ends.
    pub(crate) fn policies(&mut self, server: &PodEntry) {
        self.authorization(&server.namespace, CLIENTS);
        self.networks(server);
    }

    /// That callers of a namespace have proven who they are, and are the app of `callers`.
    pub(crate) fn authorization(&mut self, namespace: &str, callers: &str) {
        self.objects.push(json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "default", "namespace": namespace },
            "spec": { "mtls": { "mode": "STRICT" } },
        }));
        let callers = format!("cluster.local/ns/{callers}/sa/app");
        self.objects.push(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": "callers", "namespace": namespace },
            "spec": { "action": "ALLOW", "rules": [{ "from": [{ "source": { "principals": [callers] } }] }] },
        }));
    }

    fn networks(&mut self, server: &PodEntry) {
        let namespace = &server.namespace;
        let namespaces = |name: &str| json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } } });
        self.objects.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "callers", "namespace": namespace },
            "spec": { "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{ "from": [namespaces(CLIENTS)] }] },
        }));
        self.objects.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "called", "namespace": CLIENTS },
            "spec": { "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "to": [namespaces(namespace)] }] },
        }));
    }

    /// An HTTPRoute for the path of this number, from the Service `web` to itself.
    pub(crate) fn route(&mut self, namespace: &str, number: usize) {
        let port = Port::Http.number();
        self.objects.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": format!("route-{number:05}"), "namespace": namespace },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": "web", "port": port }],
                "rules": [{
                    "matches": [{ "path": { "type": "PathPrefix", "value": route(number) } }],
                    "backendRefs": [{ "name": "web", "port": port }],
                }],
            },
        }));
    }

    /// An HTTPRoute for every path of a port of a Service (its namespace and its name), to itself.
    pub(crate) fn route_of_all(&mut self, (namespace, service): (&str, &str), port: Port) {
        let (name, number) = (name(port), port.number());
        self.objects.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": format!("{service}-{name}"), "namespace": namespace },
            "spec": {
                "parentRefs": [{ "group": "", "kind": "Service", "name": service, "port": number }],
                "rules": [{
                    "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
                    "backendRefs": [{ "name": service, "port": number }],
                }],
            },
        }));
    }

    /// The same, which says in a header of every answer what its last change was.
    pub(crate) fn marked_route(&mut self, namespace: &str, number: usize, mark: &str) {
        self.route(namespace, number);
        let set = json!([{ "name": MARK, "value": mark }]);
        if let Some(route) = self.objects.last_mut() {
            route["spec"]["rules"][0]["filters"] = json!([
                { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "set": set } },
            ]);
        }
    }

    /// All objects as documents of one file.
    pub(crate) fn text(&self) -> String {
        text(&self.objects)
    }

    /// The same in as many files as hold them.
    pub(crate) fn files(&self) -> impl Iterator<Item = (String, String)> {
        let name = |number| if number == 0 { "mesh.yaml".into() } else { format!("mesh-{number}.yaml") };
        (0..)
            .zip(self.objects.chunks(OBJECTS_OF_A_FILE))
            .map(move |(number, part)| (name(number), text(part)))
    }
}

fn text(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object}\n")).collect()
}

/// Less than the 10,000 documents of which a file may be.
const OBJECTS_OF_A_FILE: usize = 1_000;

fn name(port: Port) -> &'static str {
    match port {
        Port::Http => "http",
        Port::Http2 => "http2",
        Port::Echo => "tcp-echo",
        Port::Source => "tcp-source",
    }
}

fn app_protocol(port: Port) -> Option<&'static str> {
    match port {
        Port::Http => Some("http"),
        Port::Http2 => Some("kubernetes.io/h2c"),
        Port::Echo | Port::Source => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use config::store::{FileText, Options, Store};

    use super::*;

    fn entry(namespace: &str, name: &str, last: u8) -> PodEntry {
        let netns = format!("/run/netns/{name}").into();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let address = Ipv4Addr::new(10, 77, 0, last);
        PodEntry { namespace, name, address, netns, node: NEAR, has_sidecar: false }
    }

    #[test]
    fn the_daemon_takes_all_of_it_without_a_remark() {
        let mut manifests = Manifests::default();
        let server = entry("bench", "server", 11);
        manifests.tenant("bench");
        manifests.pod(&entry("bench", "client", 10));
        manifests.pod(&server);
        manifests.service(&server);
        manifests.policies(&server);
        manifests.denial(&server, Ipv4Addr::new(10, 77, 0, 99), Judge::UserSpace);
        manifests.route("bench", 7);
        manifests.pod(&entry("bench", "alone", 13).with_sidecar());
        manifests.tenant("bench1");
        manifests.pod(&entry("bench1", "further1", 12));
        let files = BTreeMap::from([("mesh.yaml".into(), FileText::from(manifests.text().into_bytes()))]);
        let outcome = Store::new(Options::default()).apply(&files);
        let said: Vec<String> = outcome.findings.iter().map(ToString::to_string).collect();
        assert!(said.is_empty(), "{said:#?}");
        assert_eq!((outcome.mesh.tenants.len(), outcome.mesh.workloads.len()), (2, 4));
        let service = outcome.mesh.services.values().next().unwrap();
        assert!(service.ports.iter().all(|port| port.endpoints.len() == 1), "{service:?}");
        use config::model::AppProtocol::{Http1, Http2, Tcp};
        let protocols: Vec<_> = service.ports.iter().map(|port| port.protocol).collect();
        assert_eq!(protocols, [Http1, Http2, Tcp, Tcp]);
        let route = outcome.mesh.routes.values().next().unwrap();
        let prefix = config::model::PathMatch::Prefix("/route/00007".into());
        assert_eq!(route.rules[0].matches[0].path, Some(prefix));
        assert_eq!((&route.parents[0].service, route.parents[0].port), (&service.name, Some(8080)));
    }

    #[test]
    fn many_objects_are_spread_over_files_and_all_are_there() {
        let mut manifests = Manifests::default();
        (0..2_500).for_each(|number| manifests.route("bench", number));
        let files: Vec<_> = manifests.files().collect();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mesh.yaml", "mesh-1.yaml", "mesh-2.yaml"]);
        assert_eq!(files.into_iter().map(|(_, text)| text).collect::<String>(), manifests.text());
    }

    #[test]
    fn the_bounds_of_a_tenant_are_read() {
        let mut manifests = Manifests::default();
        manifests.tenant("bench");
        manifests.bounded("bench");
        let files = BTreeMap::from([("mesh.yaml".into(), FileText::from(manifests.text().into_bytes()))]);
        let outcome = Store::new(Options::default()).apply(&files);
        let budget = outcome.mesh.tenants.values().next().unwrap().budget;
        assert_eq!((budget.cpu_cap_millis, budget.connections), (Some(1_000), Some(100_000)));
        assert_eq!(budget.bytes_per_second_out, Some(1 << 40));
    }
}
