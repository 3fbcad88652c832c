//! The manifests that Canopy gets: ordinary Kubernetes objects for the bench's pods.
//!
//! Written as JSON, one object a document; nothing in them is special to a benchmark but the names.

use std::{net::Ipv4Addr, path::PathBuf};

use serde_json::{Value, json};
use testkit::Pod;

use crate::lab::backends::Port;

/// The address of the Service that clients dial.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// What a manifest says of a pod.
#[derive(Debug, Clone)]
pub(crate) struct PodEntry {
    pub namespace: String,
    pub name: String,
    pub address: Ipv4Addr,
    pub netns: PathBuf,
}

impl PodEntry {
    /// As it is.
    pub(crate) fn of(pod: &Pod) -> Self {
        let (namespace, name) = (pod.namespace().to_owned(), pod.name().to_owned());
        Self { namespace, name, address: pod.v4(), netns: pod.netns_path().to_owned() }
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
            "metadata": { "name": name, "labels": { "canopy.mesh/mode": "node" } },
        }));
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "app", "namespace": name },
        }));
    }

    /// A running pod.
    pub(crate) fn pod(&mut self, pod: &PodEntry) {
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": pod.name, "namespace": pod.namespace, "labels": { "app": pod.name },
                "annotations": { "canopy.mesh/netns": pod.netns },
            },
            "spec": { "serviceAccountName": "app", "containers": [{ "name": "app", "image": "app" }] },
            "status": { "phase": "Running", "podIP": pod.address, "podIPs": [{ "ip": pod.address }] },
        }));
    }

    /// The Service `web` with all ports of the backends, served by one pod.
    pub(crate) fn service(&mut self, namespace: &str, pod: &Pod) {
        let ports = |target: bool| -> Vec<Value> {
            Port::ALL
                .map(|port| {
                    let mut entry = json!({ "name": name(port), "port": port.number(), "protocol": "TCP" });
                    if let Some(protocol) = app_protocol(port) {
                        entry["appProtocol"] = protocol.into();
                    }
                    if target {
                        entry["targetPort"] = port.number().into();
                    }
                    entry
                })
                .to_vec()
        };
        self.objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": namespace },
            "spec": { "clusterIP": VIP, "clusterIPs": [VIP], "selector": { "app": pod.name() }, "ports": ports(true) },
        }));
        self.objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "web-1", "namespace": namespace, "labels": { "kubernetes.io/service-name": "web" },
            },
            "endpoints": [{
                "addresses": [pod.v4()], "conditions": { "ready": true },
                "targetRef": { "kind": "Pod", "name": pod.name(), "namespace": namespace },
            }],
            "ports": ports(false),
        }));
    }

    /// All objects as documents of one file.
    pub(crate) fn text(&self) -> String {
        self.objects.iter().map(|object| format!("---\n{object}\n")).collect()
    }
}

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
