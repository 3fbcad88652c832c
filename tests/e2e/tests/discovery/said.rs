//! Resources as a control plane says them: in Istio's words, as istiod would, and in the model's own.
//!
//! Written here by hand, field by field: what is on the wire must not change with the code that reads it.

use std::net::IpAddr;

use config::discovery::{
    Kind,
    messages::{
        self, Address, AppProtocol, Authorization, Clause, Facts, Match, NetworkAddress, Port, PortList,
        Rule, StringMatch, TunnelProtocol, address::Type, string_match,
    },
};
use prost::Message;
use serde_json::{Value, json};
use testkit::{Pod, control_plane::Change};

/// The name of a pod as a resource.
pub(crate) fn uid(pod: &Pod) -> String {
    format!("Kubernetes//Pod/{}/{}", pod.namespace(), pod.name())
}

/// The name of a Service as a resource.
pub(crate) fn host(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}.{namespace}.svc.cluster.local")
}

/// What istiod says of a pod that is behind these Services, at port 80 of each.
pub(crate) fn workload(pod: &Pod, services: &[&str], policies: &[&str]) -> messages::Workload {
    let ports = PortList { ports: vec![port()] };
    messages::Workload {
        uid: uid(pod),
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        addresses: vec![pod.v4().octets().to_vec(), pod.v6().octets().to_vec()],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        service_account: pod.name().to_owned(),
        canonical_name: pod.name().to_owned(),
        workload_name: pod.name().to_owned(),
        workload_type: 2,
        cluster_id: "Kubernetes".to_owned(),
        authorization_policies: policies.iter().map(|&name| name.to_owned()).collect(),
        services: services.iter().map(|&name| (host(pod.namespace(), name), ports.clone())).collect(),
        ..messages::Workload::default()
    }
}

/// What istiod says of a Service with port 80.
pub(crate) fn service(namespace: &str, name: &str, vip: IpAddr) -> messages::Service {
    let IpAddr::V4(v4) = vip else { panic!("{vip} is not IPv4") };
    let address = NetworkAddress { network: String::new(), address: v4.octets().to_vec(), length: None };
    messages::Service {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        hostname: format!("{name}.{namespace}.svc.cluster.local"),
        addresses: vec![address],
        ports: vec![port()],
        canonical: true,
        ..messages::Service::default()
    }
}

fn port() -> Port {
    Port { service_port: 80, target_port: 80, app_protocol: AppProtocol::Http11.into() }
}

/// A workload as a resource.
pub(crate) fn set_workload(message: messages::Workload) -> Change {
    let uid = message.uid.clone();
    Change::set(ADDRESS, &uid, &Address { r#type: Some(Type::Workload(message)) }.encode_to_vec())
}

/// A Service as a resource.
pub(crate) fn set_service(message: messages::Service) -> Change {
    let name = format!("{}/{}", message.namespace, message.hostname);
    Change::set(ADDRESS, &name, &Address { r#type: Some(Type::Service(message)) }.encode_to_vec())
}

/// A policy as a resource.
pub(crate) fn set_policy(message: &Authorization) -> Change {
    Change::set(AUTHORIZATION, &format!("{}/{}", message.namespace, message.name), &message.encode_to_vec())
}

/// A policy of `shop`, for all that is in it, about callers who are this account of it.
pub(crate) fn policy(name: &str, action: messages::Action, account: &str) -> Authorization {
    let exact = string_match::Type::Exact(format!("cluster.local/ns/shop/sa/{account}"));
    let one = Match { principals: vec![StringMatch { r#type: Some(exact) }], ..Match::default() };
    Authorization {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        scope: messages::Scope::Namespace.into(),
        action: action.into(),
        rules: vec![Rule { clauses: vec![Clause { matches: vec![one] }] }],
        ..Authorization::default()
    }
}

/// The message of a policy whose only match has one more field, which nobody knows yet: number 100, a text.
pub(crate) fn with_a_new_condition(policy: &Authorization) -> Vec<u8> {
    let one = policy.rules[0].clauses[0].matches[0].encode_to_vec();
    let condition = [one, field(100, b"moon")].concat();
    let rule = field(1, &field(2, &condition));
    let rest = Authorization { rules: Vec::new(), ..policy.clone() }.encode_to_vec();
    [rest, field(5, &rule)].concat()
}

/// A field of bytes, as protobuf writes it.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    prost::encoding::encode_varint(number << 3 | 2, &mut written);
    prost::encoding::encode_varint(bytes.len() as u64, &mut written);
    written.extend(bytes);
    written
}

/// The HTTPRoute `shop/web` of the Service of that name, as the model has it: to these Services of `shop`.
pub(crate) fn route(backends: &[&str]) -> Value {
    let name = |name: &str| json!({"namespace": "shop", "name": name});
    let backend = |backend: &&str| json!({"weight": 1, "target": {"service": {"service": name(backend), "port": 80}}, "filters": []});
    json!({
        "name": {"namespace": "shop", "name": "web", "kind": "http"},
        "tenant": {"namespace": "shop"},
        "created": null,
        "parents": [{"service": name("web"), "port": null}],
        "rules": [{
            "name": null,
            "matches": [],
            "filters": [],
            "backends": backends.iter().map(backend).collect::<Vec<_>>(),
            "timeouts": {"request": null, "backend_request": null},
        }],
    })
}

/// An object of the model as a resource of its own type.
pub(crate) fn set_facts(kind: Kind, name: &str, object: &Value) -> Change {
    Change::set(kind.type_url(), name, &Facts { json: object.to_string() }.encode_to_vec())
}

/// That route as a resource.
pub(crate) fn set_route(object: &Value) -> Change {
    set_facts(Kind::Route, ROUTE_NAME, object)
}

/// What [`route`] is called.
pub(crate) const ROUTE_NAME: &str = "HTTPRoute/shop/web";
/// `istio.workload.Address`.
pub(crate) const ADDRESS: &str = "type.googleapis.com/istio.workload.Address";
/// `istio.security.Authorization`.
pub(crate) const AUTHORIZATION: &str = "type.googleapis.com/istio.security.Authorization";
/// The model's route.
pub(crate) const ROUTE: &str = "type.googleapis.com/canopy.mesh.v1alpha1.Route";
