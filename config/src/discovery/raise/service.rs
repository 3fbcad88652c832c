//! A Service as `istio.workload.Service`, and what it says of the pods behind it, which Istio says with each of them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    discovery::{
        Site,
        messages::{
            self, Address, LoadBalancing, NetworkAddress, Port,
            address::Type,
            load_balancing::{Mode, Scope},
        },
        names,
    },
    model::{AppProtocol, Endpoint, Reach, Service, ServicePort, Topology},
    name::PodName,
};

/// What a Service says of a pod behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::discovery) struct Behind {
    /// The Service, by its name as a resource.
    pub(in crate::discovery) service: Arc<str>,
    /// Its ports that the pod answers on, in order; shared by the pods that answer alike.
    pub(in crate::discovery) ports: Arc<[PortOf]>,
}

/// One port of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::discovery) struct PortOf {
    /// The Service's.
    pub(in crate::discovery) number: u16,
    /// The pod's.
    pub(in crate::discovery) target: u16,
    /// What is spoken there.
    pub(in crate::discovery) protocol: AppProtocol,
    /// Whether new connections may go there.
    pub(in crate::discovery) ready: bool,
}

/// The message of a Service.
pub(in crate::discovery) fn raise(site: &Site, service: &Service) -> Address {
    let address = |vip| NetworkAddress { network: String::new(), address: super::bytes(vip), length: None };
    let port = |port: &ServicePort| Port {
        service_port: port.number.into(),
        target_port: target(&port.endpoints).into(),
        app_protocol: protocol(port.protocol).into(),
    };
    let service = messages::Service {
        name: service.name.name.as_str().to_owned(),
        namespace: service.name.namespace.as_str().to_owned(),
        hostname: names::hostname(&site.domain, &service.name),
        addresses: service.vips.iter().copied().map(address).collect(),
        ports: service.ports.iter().map(port).collect(),
        load_balancing: load_balancing(service),
        canonical: true,
        extensions: vec![super::extension(service)],
        ..messages::Service::default()
    };
    Address { r#type: Some(Type::Service(service)) }
}

/// Which endpoints its connections go to, in Istio's words; these have none for affinity.
fn load_balancing(service: &Service) -> Option<LoadBalancing> {
    let endpoints = || service.ports.iter().flat_map(|port| &port.endpoints);
    let hints = |has: fn(&Topology) -> bool| endpoints().any(|one| one.topology.as_deref().is_some_and(has));
    let (mode, preference) = match service.reach {
        Reach::Node => (Mode::Strict, &[Scope::Node][..]),
        Reach::Cluster if hints(|topology| !topology.for_nodes.is_empty()) => {
            (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node][..])
        }
        Reach::Cluster if hints(|topology| !topology.for_zones.is_empty()) => {
            (Mode::Failover, &[Scope::Network, Scope::Region, Scope::Zone][..])
        }
        Reach::Cluster => return None,
    };
    let routing_preference = preference.iter().map(|scope| (*scope).into()).collect();
    Some(LoadBalancing { routing_preference, mode: mode.into(), ..LoadBalancing::default() })
}

/// What a Service says of each pod behind it.
pub(in crate::discovery) fn pods(service: &Service) -> BTreeMap<&PodName, Arc<[PortOf]>> {
    let mut by_pod: BTreeMap<&PodName, Vec<PortOf>> = BTreeMap::new();
    for port in &service.ports {
        for endpoint in &port.endpoints {
            let Some(pod) = &endpoint.workload else { continue };
            let said = port_of(port, endpoint);
            let ports = by_pod.entry(pod).or_default();
            // An address of each family: one port all the same.
            match ports.iter_mut().find(|known| known.number == said.number) {
                Some(known) => known.ready |= said.ready,
                None => ports.push(said),
            }
        }
    }
    let mut last: Arc<[PortOf]> = Arc::from([]);
    let shared = |(pod, ports): (_, Vec<PortOf>)| {
        if *last != *ports {
            last = ports.into();
        }
        (pod, Arc::clone(&last))
    };
    by_pod.into_iter().map(shared).collect()
}

/// What is spoken, in Istio's words.
pub(super) fn protocol(protocol: AppProtocol) -> messages::AppProtocol {
    match protocol {
        AppProtocol::Undeclared => messages::AppProtocol::Unknown,
        AppProtocol::Http1 => messages::AppProtocol::Http11,
        AppProtocol::Http2 => messages::AppProtocol::Http2,
        AppProtocol::Tcp => messages::AppProtocol::Tcp,
    }
}

fn port_of(port: &ServicePort, endpoint: &Endpoint) -> PortOf {
    let own = endpoint.protocol;
    PortOf {
        number: port.number,
        target: endpoint.address.port(),
        protocol: if own == AppProtocol::Undeclared { port.protocol } else { own },
        ready: endpoint.ready,
    }
}

/// The port that all endpoints have; 0 where they differ, so that each workload's own word counts.
fn target(endpoints: &[Endpoint]) -> u16 {
    let Some(first) = endpoints.first().map(|endpoint| endpoint.address.port()) else { return 0 };
    if endpoints.iter().all(|endpoint| endpoint.address.port() == first) { first } else { 0 }
}
