//! A pod as `istio.workload.Workload`, with the Services it is behind and the policies that select it.
//!
//! What is shown of it is the caller's to choose: nothing here may look at another object.

use std::{collections::BTreeMap, sync::Arc};

use super::service::{Behind, protocol};
use crate::{
    discovery::{
        Site,
        messages::{
            self, Address, Locality, NetworkMode, Port, PortList, TunnelProtocol, WorkloadStatus,
            address::Type,
        },
    },
    model::{Workload, ZONE_LABEL},
};

/// Where an app says its name, the first of them that it has.
const APP: [&str; 3] = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
/// And its version.
const REVISION: [&str; 3] = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
/// Where it says in which region it is; the zone is beside it.
const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// `istio.workload.WorkloadType`: a pod by itself. What made it is not known.
const POD: i32 = 2;

/// The message of a pod: `uid` is its name as a resource.
pub(in crate::discovery) fn raise(
    site: &Site,
    uid: &str,
    pod: &Workload,
    services: &[Behind],
    policies: &[Arc<str>],
) -> Address {
    let label = |keys: [&str; 3]| keys.iter().find_map(|key| pod.labels.get(*key)).cloned();
    let name = pod.pod.name.as_str();
    let workload = messages::Workload {
        uid: uid.to_owned(),
        name: name.to_owned(),
        namespace: pod.pod.namespace.as_str().to_owned(),
        addresses: pod.addresses.iter().copied().map(super::bytes).collect(),
        tunnel_protocol: if pod.meshed { TunnelProtocol::Hbone } else { TunnelProtocol::None }.into(),
        trust_domain: pod.identity.trust_domain.as_str().to_owned(),
        service_account: pod.identity.service_account.as_str().to_owned(),
        node: pod.node.as_ref().map_or_else(String::new, |node| node.as_str().to_owned()),
        canonical_name: label(APP).unwrap_or_else(|| name.to_owned()),
        canonical_revision: label(REVISION).unwrap_or_else(|| "latest".to_owned()),
        workload_type: POD,
        workload_name: name.to_owned(),
        authorization_policies: policies.iter().map(ToString::to_string).collect(),
        status: if takes_any(services) { WorkloadStatus::Healthy } else { WorkloadStatus::Unhealthy }.into(),
        cluster_id: site.cluster.clone(),
        services: ports(services),
        locality: locality(pod),
        // A pod in the node's own network is no workload of the model.
        network_mode: NetworkMode::Standard.into(),
        extensions: vec![super::extension(pod)],
        ..messages::Workload::default()
    };
    Address { r#type: Some(Type::Workload(workload)) }
}

/// Where it is, by the labels that Kubernetes copies from its node.
fn locality(pod: &Workload) -> Option<Locality> {
    let label = |key: &str| pod.labels.get(key).cloned().unwrap_or_default();
    let (region, zone) = (label(REGION_LABEL), label(ZONE_LABEL));
    (!zone.is_empty()).then(|| Locality { region, zone, subzone: String::new() })
}

/// Whether new connections may go to it. The model says it of each endpoint, Istio of the whole workload: one that no Service names
/// takes them.
fn takes_any(services: &[Behind]) -> bool {
    let mut all = services.iter().flat_map(|behind| behind.ports.iter()).peekable();
    all.peek().is_none() || all.any(|port| port.ready)
}

/// Its ports by Service. Where it takes connections of some Services and not of others, only the former are named: Istio has one
/// word for all of them.
fn ports(services: &[Behind]) -> BTreeMap<String, PortList> {
    let takes_any = takes_any(services);
    let list = |behind: &Behind| {
        let told = behind.ports.iter().filter(|port| port.ready || !takes_any);
        let ports: Vec<Port> = told
            .map(|port| Port {
                service_port: port.number.into(),
                target_port: port.target.into(),
                app_protocol: protocol(port.protocol).into(),
            })
            .collect();
        (!ports.is_empty()).then(|| (behind.service.to_string(), PortList { ports }))
    };
    services.iter().filter_map(list).collect()
}
