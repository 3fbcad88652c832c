//! A workload: who and where it is, the Services it is behind, the policies it names.
//!
//! An identity must never be taken from an address: one that is the node's is nobody's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Bad, Lowered, Note, Object, Site,
    address::{check_usable, gateway, ip, is_ours, port},
    facts, names,
};
use crate::{
    discovery::messages::{self, NetworkMode, PortList, TunnelProtocol, WorkloadStatus},
    document::shorten,
    finding::Reason,
    identity::{Identity, TrustDomain},
    model::{Workload, Zone},
    name::{NodeName, PodName, ServiceAccount, TenantId},
};

/// A workload, and what it says of others.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::discovery) struct HeldWorkload {
    /// What is known of it by itself. Its tenant is whose its namespace is, whatever it says.
    pub(in crate::discovery) workload: Arc<Workload>,
    /// Whether new connections may go to it.
    pub(in crate::discovery) ready: bool,
    /// Where it answers behind Services. Of one in its node's network that is the node's address, which is not its own.
    pub(in crate::discovery) reached: Vec<IpAddr>,
    /// Whether it is a pod, which has its addresses from the network; of others somebody wrote them.
    pub(in crate::discovery) is_pod: bool,
    /// Whether that address is its own.
    pub(in crate::discovery) is_itself: bool,
    /// By the names of their resources, the Services it is behind: port to port; 0 is as the Service says.
    pub(in crate::discovery) services: BTreeMap<String, BTreeMap<u16, u16>>,
    /// The zone that it is in, if that is said.
    pub(in crate::discovery) zone: Option<Zone>,
    /// The names of the resources of policies about it.
    pub(in crate::discovery) policies: BTreeSet<String>,
}

pub(super) fn lower(name: &str, message: messages::Workload, site: &Site) -> Result<Lowered, Bad> {
    let (pod, is_pod) = names::workload(name)?;
    if message.uid != name {
        return Err(Bad::invalid(format!("says that its uid is {}", shorten(&message.uid))));
    }
    if message.namespace != pod.namespace.as_str() || is_pod && message.name != pod.name.as_str() {
        let said = shorten(&format!("{}/{}", message.namespace, message.name));
        return Err(Bad::invalid(format!("says that it is {said}")));
    }
    let services = message.services.iter().map(|(service, list)| Ok((service.clone(), ports(list)?)));
    let services = services.collect::<Result<BTreeMap<_, _>, Bad>>()?;
    let addresses = message.addresses.iter().map(|bytes| ip(bytes)).collect::<Result<Vec<_>, Bad>>()?;
    addresses.iter().try_for_each(|address| check_usable(*address))?;
    let is_itself = match NetworkMode::try_from(message.network_mode) {
        Ok(NetworkMode::Standard) => true,
        Ok(NetworkMode::HostNetwork) => false,
        Err(_) => return Err(unknown("network mode", message.network_mode)),
    };
    let reached = if is_ours(&message.network, site) { addresses } else { Vec::new() };
    let ready = message.status == WorkloadStatus::Healthy as i32;
    let policies = message.authorization_policies.iter().cloned().collect();
    let zone = message.locality.as_ref().and_then(|locality| Zone::try_from(locality.zone.as_str()).ok());
    let (workload, notes) = match facts::of_extension::<Workload>(&message.extensions)? {
        Some(own) => (checked(own, &pod, &message)?, Vec::new()),
        None => said(&message, pod, if is_itself { &reached } else { &[] })?,
    };
    let workload = Arc::new(workload);
    let held = HeldWorkload { workload, ready, reached, is_pod, is_itself, services, zone, policies };
    Ok(Lowered { object: Object::Workload(Arc::new(held)), notes })
}

/// The model's own word. Which network namespace a pod has is for its node to say, never for a control plane.
fn checked(own: Workload, pod: &PodName, message: &messages::Workload) -> Result<Workload, Bad> {
    facts::check_name(&own.pod, pod)?;
    own.addresses.iter().try_for_each(|address| check_usable(*address))?;
    if own.identity.namespace != pod.namespace {
        let message = format!("its identity {} is of another namespace", own.identity);
        return Err(Bad::new(Reason::NotPermitted, message));
    }
    let waypoint = own.waypoint.clone().or_else(|| message.waypoint.as_ref().map(gateway));
    Ok(Workload { netns: None, waypoint, ..own })
}

/// Istio's word.
fn said(
    message: &messages::Workload,
    pod: PodName,
    addresses: &[IpAddr],
) -> Result<(Workload, Vec<Note>), Bad> {
    let meshed = match TunnelProtocol::try_from(message.tunnel_protocol) {
        Ok(TunnelProtocol::None) => false,
        Ok(TunnelProtocol::Hbone) => true,
        Ok(TunnelProtocol::LegacyIstioMtls) => {
            return Err(Bad::invalid(
                "takes mutual TLS of sidecars alone (LEGACY_ISTIO_MTLS), which is not spoken here: have it take HBONE",
            ));
        }
        Err(_) => return Err(unknown("tunnel protocol", message.tunnel_protocol)),
    };
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let trust_domain = TrustDomain::try_from(or(&message.trust_domain, "cluster.local"))
        .map_err(|error| Bad::invalid(shorten(&error.to_string())))?;
    let service_account = ServiceAccount::try_from(or(&message.service_account, "default"))
        .map_err(|error| Bad::invalid(format!("its service account {}", shorten(&error.to_string()))))?;
    let node = (!message.node.is_empty()).then(|| NodeName::try_from(message.node.as_str())).transpose();
    let node = node.map_err(|error| Bad::invalid(format!("its node {}", shorten(&error.to_string()))))?;
    let identity = Identity { trust_domain, namespace: pod.namespace.clone(), service_account };
    let (kept, left) = one_per_family(addresses);
    let notes = left
        .map(|address| Note::not_obeyed(format!("{address} is a further address of its family: not used")));
    let tenant = TenantId::Namespace(pod.namespace.clone());
    let workload = Workload {
        node,
        meshed,
        addresses: kept,
        waypoint: message.waypoint.as_ref().map(gateway),
        ..Workload::new(pod, tenant, identity)
    };
    Ok((workload, notes.into_iter().collect()))
}

/// The first of each family, and the first of the others.
fn one_per_family(addresses: &[IpAddr]) -> (Vec<IpAddr>, Option<IpAddr>) {
    let (mut kept, mut left): (Vec<IpAddr>, _) = (Vec::new(), None);
    for address in addresses {
        if kept.iter().all(|known| known.is_ipv4() != address.is_ipv4()) {
            kept.push(*address);
        } else {
            left = left.or(Some(*address));
        }
    }
    (kept, left)
}

fn ports(list: &PortList) -> Result<BTreeMap<u16, u16>, Bad> {
    let mut ports = BTreeMap::new();
    for one in &list.ports {
        let target = if one.target_port == 0 { 0 } else { port(one.target_port)? };
        ports.entry(port(one.service_port)?).or_insert(target);
    }
    Ok(ports)
}

fn unknown(what: &str, number: i32) -> Bad {
    Bad::invalid(format!("its {what} {number} is not known here"))
}
