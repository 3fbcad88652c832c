//! Resources in, a mesh out: what istiod's words mean, and that neither order nor poison changes what others say.

use std::path::PathBuf;

use prost::Message;
use serde::Serialize;

use super::super::messages::{
    self, Address, Any, Authorization, Clause, Extension, Facts, Match, NetworkAddress, Port, PortList, Rule,
    StringMatch, address, string_match,
};
use super::*;
use crate::{
    finding::Severity,
    identity::Identity,
    model::{AuthorizationPolicy, Service, Tenant},
    name::{PolicyName, ServiceName, TenantId},
};

mod guarded;
mod istiod;
mod kept;
mod order;
mod owners;
mod placed;
mod poison;
mod rules;

fn assembly() -> Assembly {
    Assembly::new(Options::default(), ClusterDomain::default())
}

fn resource(name: &str, body: Vec<u8>) -> Resource {
    Resource { name: name.to_owned(), aliases: Vec::new(), version: String::new(), body }
}

fn uid(name: &str) -> String {
    format!("Kubernetes//Pod/{name}")
}

fn host(service: &str) -> String {
    let (namespace, name) = service.split_once('/').unwrap();
    format!("{namespace}/{name}.{namespace}.svc.cluster.local")
}

fn bytes(address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A pod as istiod tells of it, in the mesh.
fn workload(name: &str, address: &str) -> messages::Workload {
    let (namespace, own) = name.split_once('/').unwrap();
    messages::Workload {
        uid: uid(name),
        name: own.to_owned(),
        namespace: namespace.to_owned(),
        addresses: vec![bytes(address)],
        tunnel_protocol: messages::TunnelProtocol::Hbone as i32,
        node: "node-a".to_owned(),
        ..Default::default()
    }
}

/// The same, behind a Service on these ports.
fn behind(mut workload: messages::Workload, service: &str, ports: &[(u32, u32)]) -> messages::Workload {
    let port = |(service_port, target_port): &(u32, u32)| Port {
        service_port: *service_port,
        target_port: *target_port,
        app_protocol: 0,
    };
    workload.services.extend([(host(service), PortList { ports: ports.iter().map(port).collect() })]);
    workload
}

fn of_workload(workload: messages::Workload) -> Resource {
    let name = workload.uid.clone();
    let address = Address { r#type: Some(address::Type::Workload(workload)) };
    resource(&name, address.encode_to_vec())
}

fn service(name: &str, vip: &str, ports: &[(u32, u32, messages::AppProtocol)]) -> messages::Service {
    let (namespace, own) = name.split_once('/').unwrap();
    let port = |(service_port, target_port, protocol): &(u32, u32, messages::AppProtocol)| Port {
        service_port: *service_port,
        target_port: *target_port,
        app_protocol: *protocol as i32,
    };
    messages::Service {
        name: own.to_owned(),
        namespace: namespace.to_owned(),
        hostname: host(name).split_once('/').unwrap().1.to_owned(),
        addresses: vec![NetworkAddress { network: String::new(), address: bytes(vip), length: None }],
        ports: ports.iter().map(port).collect(),
        ..Default::default()
    }
}

fn of_service(service: messages::Service) -> Resource {
    let name = format!("{}/{}", service.namespace, service.hostname);
    let address = Address { r#type: Some(address::Type::Service(service)) };
    resource(&name, address.encode_to_vec())
}

fn authorization(
    name: &str,
    scope: messages::Scope,
    action: messages::Action,
    rules: Vec<Rule>,
) -> Authorization {
    let (namespace, own) = name.split_once('/').unwrap();
    Authorization {
        name: own.to_owned(),
        namespace: namespace.to_owned(),
        scope: scope as i32,
        action: action as i32,
        rules,
        ..Default::default()
    }
}

fn of_authorization(message: &Authorization) -> Resource {
    resource(&format!("{}/{}", message.namespace, message.name), message.encode_to_vec())
}

/// A rule of one clause of one match.
fn only(one: Match) -> Rule {
    Rule { clauses: vec![Clause { matches: vec![one] }] }
}

fn exact(text: &str) -> StringMatch {
    StringMatch { r#type: Some(string_match::Type::Exact(text.to_owned())) }
}

fn present() -> StringMatch {
    StringMatch { r#type: Some(string_match::Type::Presence(messages::Empty {})) }
}

/// One of the model's own.
fn facts(name: &str, object: &impl Serialize) -> Resource {
    resource(name, Facts { json: serde_json::to_string(object).unwrap() }.encode_to_vec())
}

fn extension(object: &impl Serialize) -> Extension {
    let value = Facts { json: serde_json::to_string(object).unwrap() }.encode_to_vec();
    let type_url = "type.googleapis.com/canopy.mesh.v1alpha1.Facts".to_owned();
    Extension { name: "canopy.mesh/v1alpha1".to_owned(), config: Some(Any { type_url, value }) }
}

fn split<T>(name: &str, make: impl FnOnce(crate::name::Namespace, crate::name::Name) -> T) -> T {
    let (namespace, name) = name.split_once('/').unwrap();
    make(namespace.try_into().unwrap(), name.try_into().unwrap())
}

fn pod(name: &str) -> PodName {
    split(name, PodName::new)
}

fn policy(name: &str) -> PolicyName {
    split(name, PolicyName::new)
}

fn tenant(name: &str, namespaces: &[&str], egress: &str) -> Tenant {
    let namespaces: Vec<&str> = namespaces.to_vec();
    let value = serde_json::json!({
        "id": {"tenant": name}, "namespaces": namespaces, "isolation": "thread", "egress": egress,
        "budget": {}, "owner": null, "left_out": 0,
    });
    serde_json::from_value(value).unwrap()
}

fn own_workload(made: &Made, name: &str) -> Workload {
    Workload::clone(&made.mesh.workloads[&pod(name)])
}

fn own_service(made: &Made, name: &str) -> Service {
    Service::clone(&made.mesh.services[&split(name, ServiceName::new)])
}

fn own_policy(made: &Made, name: &str) -> AuthorizationPolicy {
    AuthorizationPolicy::clone(&made.mesh.authorization[&policy(name)])
}

/// A mesh of these alone.
fn made(sets: Vec<(Kind, Vec<Resource>)>) -> Made {
    let mut assembly = assembly();
    for (kind, set) in sets {
        assert_eq!(assembly.take(kind, set, &[]), [], "all of them are good");
    }
    assembly.make()
}

/// Without how often it changed.
fn mesh(made: &Made) -> Mesh {
    Mesh { version: 0, ..Mesh::clone(&made.mesh) }
}

fn told(made: &Made) -> Vec<(Severity, Reason, String)> {
    let told = |finding: &Finding| (finding.severity, finding.reason, finding.file.display().to_string());
    made.findings.iter().map(told).collect()
}

fn netns(name: &str) -> PathBuf {
    PathBuf::from(format!("/run/netns/{name}"))
}

/// Pods of this machine, as its files tell of them.
fn local(names: &[&str]) -> BTreeMap<PodName, Arc<Workload>> {
    let one = |name: &&str| {
        let pod = pod(name);
        let namespace = pod.namespace.clone();
        let identity: Identity = format!("spiffe://cluster.local/ns/{namespace}/sa/default").parse().unwrap();
        let mut workload = Workload::new(pod.clone(), TenantId::Namespace(namespace), identity);
        workload.netns = Some(netns(pod.name.as_str()));
        (pod, Arc::new(workload))
    };
    names.iter().map(one).collect()
}
