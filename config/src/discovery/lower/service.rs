//! A Service: its addresses and ports. By Istio's word its endpoints are what workloads say of it.
//!
//! A Service that names a waypoint must never lose that word.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    Bad, Lowered, Note, Object, Site,
    address::{check_usable, gateway, ip, is_ours, port},
    facts, names,
};
use crate::{
    discovery::messages::{
        self, LoadBalancing, NetworkAddress,
        load_balancing::{HealthPolicy, Mode, Scope},
    },
    document::shorten,
    finding::Reason,
    model::{AppProtocol, Members, Reach, Service, ServicePort},
    name::ServiceName,
};

/// A Service, and how its endpoints are found.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::discovery) struct HeldService {
    /// What is known of it by itself.
    pub(in crate::discovery) service: Arc<Service>,
    /// By port, the port of its endpoints where they do not say their own (0: they have to); `None` where its endpoints are known.
    pub(in crate::discovery) targets: Option<BTreeMap<u16, u16>>,
    /// The name that workloads call it by.
    pub(in crate::discovery) resource: String,
    /// What is to be made of those endpoints.
    pub(in crate::discovery) wish: Wish,
    /// Whether it is a Service of Kubernetes, whose addresses the API server gives; of others somebody wrote them.
    pub(in crate::discovery) is_kubernetes: bool,
}

/// What Istio's word for balancing wants of endpoints, beside how far connections go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::discovery) struct Wish {
    /// Those on the caller's node are preferred.
    pub(in crate::discovery) node: bool,
    /// Those in the caller's zone are.
    pub(in crate::discovery) zone: bool,
    /// Those that are not ready are as good.
    pub(in crate::discovery) unready: bool,
}

pub(super) fn lower(name: &str, message: &messages::Service, site: &Site) -> Result<Lowered, Bad> {
    let own_name = names::service(name, &site.domain)?;
    if format!("{}/{}", message.namespace, message.hostname) != name {
        let said = shorten(&format!("{}/{}", message.namespace, message.hostname));
        return Err(Bad::invalid(format!("says that it is {said}")));
    }
    let (resource, is_kubernetes) = (name.to_owned(), message.canonical);
    if let Some(own) = facts::of_extension::<Service>(&message.extensions)? {
        let service = Arc::new(checked(own, &own_name, message)?);
        let held = HeldService { service, targets: None, resource, wish: Wish::default(), is_kubernetes };
        return Ok(Lowered { object: Object::Service(Arc::new(held)), notes: Vec::new() });
    }
    let mut notes = Vec::new();
    let vips = vips(&message.addresses, site, &mut notes)?;
    let (ports, targets) = ports(&message.ports)?;
    let members = Members { selected: None, named: Default::default(), known: true };
    let (reach, wish) = balancing(message.load_balancing.as_ref(), &mut notes);
    let waypoint = waypoint(message);
    let service = Service { name: own_name, vips, ports, members, waypoint, reach, affinity: None };
    let service = Arc::new(service);
    let held = HeldService { service, targets: Some(targets), resource, wish, is_kubernetes };
    Ok(Lowered { object: Object::Service(Arc::new(held)), notes })
}

/// How far connections go, and what is wanted of endpoints. Of a region nothing is known here: endpoints in the caller's own are no
/// better than others where none is in its zone. What would go further than it may goes nowhere but to the caller's node.
fn balancing(said: Option<&LoadBalancing>, notes: &mut Vec<Note>) -> (Reach, Wish) {
    let Some(said) = said else { return Default::default() };
    let scopes: Vec<Scope> = said.routing_preference().collect();
    let has = |scope| scopes.contains(&scope);
    let unready = said.health_policy() == HealthPolicy::AllowAll;
    let wish = Wish { unready, ..Wish::default() };
    let narrow = [Scope::Region, Scope::Zone, Scope::Subzone, Scope::Node];
    match said.mode() {
        Mode::Strict if narrow.into_iter().any(has) => {
            if scopes.iter().any(|scope| *scope != Scope::Node) {
                notes.push(Note::not_obeyed(
                    "endpoints of the caller's region or zone alone cannot be told here: its connections go to those of the \
                     caller's node alone",
                ));
            }
            (Reach::Node, wish)
        }
        Mode::Failover => (Reach::Cluster, Wish { node: has(Scope::Node), zone: has(Scope::Zone), unready }),
        Mode::Passthrough => {
            notes.push(Note::not_obeyed(
                "the client's choice of an endpoint (mode PASSTHROUGH) is not asked for here: one is chosen among all",
            ));
            (Reach::Cluster, wish)
        }
        Mode::Strict | Mode::Unspecified => (Reach::Cluster, wish),
    }
}

fn checked(own: Service, name: &ServiceName, message: &messages::Service) -> Result<Service, Bad> {
    facts::check_name(&own.name, name)?;
    let endpoints = own.ports.iter().flat_map(|port| &port.endpoints).map(|endpoint| endpoint.address.ip());
    own.vips.iter().copied().chain(endpoints).try_for_each(check_usable)?;
    let waypoint = own.waypoint.clone().or_else(|| waypoint(message));
    Ok(Service { waypoint, ..own })
}

fn waypoint(message: &messages::Service) -> Option<String> {
    let weighted = message
        .weighted_waypoints
        .iter()
        .map(|one| one.destination.as_ref().map_or_else(String::new, gateway));
    let all: Vec<String> = message.waypoint.iter().map(gateway).chain(weighted).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The addresses that clients dial; those of other networks are nobody's here. A whole network is none: who names one would take all
/// that is in it from everybody. A Service of which nothing else is left is not in force, so that nobody takes it for reached.
fn vips(addresses: &[NetworkAddress], site: &Site, notes: &mut Vec<Note>) -> Result<Vec<IpAddr>, Bad> {
    let mut vips = Vec::new();
    let mut networks = Vec::new();
    for one in addresses.iter().filter(|one| is_ours(&one.network, site)) {
        let address = ip(&one.address)?;
        let whole = if one.address.len() == 4 { 32 } else { 128 };
        let length = one.length.unwrap_or(whole);
        if length > whole {
            return Err(Bad::invalid(format!(
                "{address}/{length} is no network: its prefix has at most {whole} bits"
            )));
        }
        if length < whole {
            networks.push(format!("{address}/{length}"));
            continue;
        }
        check_usable(address)?;
        if !vips.contains(&address) {
            vips.push(address);
        }
    }
    let Some(first) = networks.first() else { return Ok(vips) };
    let what = match networks.len() {
        1 => format!("{first} is a network, not an address"),
        many => format!("{first} and {} more are networks, not addresses", many - 1),
    };
    if vips.is_empty() {
        let message = format!("{what}, and it has no other: name single addresses");
        return Err(Bad::new(Reason::NotObeyed, message));
    }
    notes.push(Note::not_obeyed(format!("{what}: not used; name single addresses")));
    Ok(vips)
}

/// Each number once. TCP and UDP of one number are one port here; where they are said to speak different things, nobody is taken
/// by either word.
fn ports(said: &[messages::Port]) -> Result<(Vec<ServicePort>, BTreeMap<u16, u16>), Bad> {
    let mut ports: Vec<ServicePort> = Vec::new();
    let mut targets = BTreeMap::new();
    for one in said {
        let number = port(one.service_port)?;
        let target = if one.target_port == 0 { 0 } else { port(one.target_port)? };
        let protocol = protocol(one.app_protocol);
        targets.entry(number).or_insert(target);
        match ports.iter_mut().find(|known| known.number == number) {
            Some(known) if known.protocol != protocol => known.protocol = AppProtocol::Undeclared,
            Some(_) => {}
            None => ports.push(ServicePort { number, name: None, protocol, endpoints: Vec::new() }),
        }
    }
    Ok((ports, targets))
}

fn protocol(number: i32) -> AppProtocol {
    match messages::AppProtocol::try_from(number) {
        Ok(messages::AppProtocol::Http11) => AppProtocol::Http1,
        Ok(messages::AppProtocol::Http2 | messages::AppProtocol::Grpc) => AppProtocol::Http2,
        // TLS is opaque until Canopy terminates it.
        Ok(messages::AppProtocol::Tcp | messages::AppProtocol::Tls) => AppProtocol::Tcp,
        Ok(messages::AppProtocol::Unknown) | Err(_) => AppProtocol::Undeclared,
    }
}
