//! Who answers behind a Service: its EndpointSlices, or else the pods its selector picks.
//!
//! In a cluster a controller writes slices from selectors. Files have no controller, so where no slice names
//! a Service the same is derived here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Candidate, Linking, Owner, Refusal, age, as_pod, as_service,
    claims::Thing,
    findings::Stage,
    workloads::{self, OfANode},
};
use crate::{
    finding::{Reason, Severity},
    lower::{
        Draft, Lowered, Place, PortDraft, Preference, ServiceDraft, SliceEndpoint, TargetPort, WorkloadDraft,
    },
    model::{AppProtocol, Endpoint, Members, Reach, Service, ServicePort, Topology, ZONE_LABEL, Zone},
    name::{NodeName, PodName, ServiceName},
};

/// A slice may name its own namespace's pods and addresses outside the mesh, nobody else's.
pub(super) fn check_slice(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Draft::EndpointSlice(slice) = &lowered.draft else { return Ok(()) };
    let Some(service) = &slice.service else { return Ok(()) };
    for endpoint in &slice.endpoints {
        if let Some(message) = trespass(linking, lowered, &service.namespace, endpoint) {
            return Err(Refusal { place: endpoint.place.clone(), reason: Reason::NotPermitted, message });
        }
    }
    if linking.services.contains_key(service) {
        linking.slices.entry(service.clone()).or_default().push(Arc::clone(lowered));
    } else {
        let message = format!("there is no Service {service} with endpoints: add it, or correct the label");
        linking.dangling(lowered, &slice.service_place, message);
    }
    Ok(())
}

fn trespass(
    linking: &Linking,
    slice: &Lowered,
    namespace: &crate::name::Namespace,
    endpoint: &SliceEndpoint,
) -> Option<String> {
    let address = endpoint.address;
    match linking.addresses.get(&address) {
        Some(Owner::Pod(pod)) if pod.namespace != *namespace => Some(format!(
            "{address} is Pod {pod}, of another namespace: a slice names its own namespace's pods only"
        )),
        Some(Owner::Pod(_)) => None,
        _ if is_the_api_servers(slice) || is_of_a_pod_on_it(linking, slice, address) => None,
        // Before anything else is asked: a Service that has it too makes it no other.
        _ if linking.own_addresses.contains(&address) => {
            Some(format!("{address} is an address of this node: name the pod's own address"))
        }
        // Not for a Service that came later: whoever writes one may write any address as its own.
        Some(Owner::Service(service)) if !came_first(linking, slice, service, address) => {
            Some(format!("{address} is the cluster address of Service {service}: name its pods instead"))
        }
        // Not where the slice in force has it: whoever writes a pod may write any address as its node's.
        None if linking.is_a_nodes(address) && !had_already(linking, address) => {
            Some(format!("{address} is the address of a node: name the pod's own address"))
        }
        _ => None,
    }
}

/// Whether a slice is the one that the API server keeps of itself, which has no pods: its addresses are nodes' on most clusters. Who
/// else writes it is overruled by it within ten seconds, and what it names is reached by nobody's name but its own.
fn is_the_api_servers(slice: &Lowered) -> bool {
    let object = &slice.object;
    object.namespace.as_deref() == Some("default") && *object.name == *"kubernetes"
}

/// Whether a pod of the slice's namespace is on a node's network and so has the node's address: who may have such a pod listens there
/// as it is.
fn is_of_a_pod_on_it(linking: &Linking, slice: &Lowered, address: IpAddr) -> bool {
    let shared = |namespace| linking.of_nodes.contains(&OfANode::SharedWith(namespace, address));
    slice.object.namespace.clone().is_some_and(shared)
}

/// Whether a slice named an address before a Service had it: among newcomers, the older comes first.
fn came_first(linking: &Linking, slice: &Lowered, service: &ServiceName, address: IpAddr) -> bool {
    let since = linking.services.get(service).and_then(|service| service.created);
    let is_held = linking.reserved.contains_key(&Thing::Address(address));
    had_already(linking, address) || !is_held && age(slice.created) < age(since)
}

/// Whether the version in force of the slice that is looked at names an address.
fn had_already(linking: &Linking, address: IpAddr) -> bool {
    let before = linking.before.as_ref().map(|before| &before.draft);
    matches!(before, Some(Draft::EndpointSlice(slice)) if slice.endpoints.iter().any(|one| one.address == address))
}

/// Notes where slices are missing: one that was refused may have been of any Service of its namespace.
pub(super) fn note_refused<'a>(linking: &mut Linking, slices: impl Iterator<Item = &'a Candidate>) {
    let refused = slices.filter(|slice| !linking.used.contains_key(&slice.object));
    linking.refused_slices = refused.filter_map(|slice| slice.object.namespace.clone()).collect();
}

/// Puts a Service into the mesh, with its endpoints.
pub(super) fn fill(linking: &mut Linking, name: &ServiceName) {
    let Some(lowered) = linking.services.get(name).cloned() else { return };
    let Some(draft) = as_service(&lowered) else { return };
    linking.findings.begin(Stage::Filled, &lowered.object);
    let slices = linking.slices.get(name).cloned().unwrap_or_default();
    let ports = draft.ports.iter().map(|port| {
        let endpoints = if slices.is_empty() {
            from_selector(linking, &lowered, draft, port)
        } else {
            from_slices(linking, &slices, draft, port)
        };
        let (number, name, protocol) = (port.number, port.name.clone(), port.protocol);
        ServicePort { number, name, protocol, endpoints }
    });
    let ports = ports.collect();
    if slices.is_empty() {
        report_empty(linking, &lowered, draft);
    }
    let members = members(linking, draft, &slices);
    let service = Service {
        name: name.clone(),
        vips: draft.vips.clone(),
        ports,
        members,
        waypoint: None,
        reach: draft.reach,
        affinity: draft.affinity,
    };
    linking.mesh.services.insert(name.clone(), Arc::new(service));
}

/// Whom a policy that names the Service is about. Ports have no part in it: a headless Service may have none, and one
/// whose port no pod has is the same Service.
fn members(linking: &Linking, draft: &ServiceDraft, slices: &[Arc<Lowered>]) -> Members {
    let endpoints = slices.iter().flat_map(|slice| match &slice.draft {
        Draft::EndpointSlice(slice) => slice.endpoints.as_slice(),
        _ => &[],
    });
    let named = endpoints.filter_map(|endpoint| pod_at(linking, endpoint.address)).collect();
    let selected = (!draft.selector.is_empty()).then(|| draft.selector.clone());
    let all_slices = !linking.refused_slices.contains(draft.name.namespace.as_str());
    let known = selected.is_some() || !slices.is_empty() && all_slices;
    Members { selected, named, known }
}

/// An address that stands in several slices, as while a controller moves it from one to another, is one endpoint: ready
/// if any of them says so, and where the first of them says. A slice says for its own addresses what they speak; where two say different things of one, neither
/// counts, whichever is read first, and it speaks what the Service says.
fn from_slices(
    linking: &mut Linking,
    slices: &[Arc<Lowered>],
    draft: &ServiceDraft,
    port: &PortDraft,
) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut said: BTreeMap<SocketAddr, Said<'_>> = BTreeMap::new();
    for lowered in slices {
        let Draft::EndpointSlice(slice) = &lowered.draft else { continue };
        for slice_port in slice.ports.iter().filter(|slice_port| slice_port.name == port.name) {
            for endpoint in &slice.endpoints {
                let address = SocketAddr::new(endpoint.address, slice_port.number);
                let words = Words { protocol: slice_port.protocol, of: lowered, place: &endpoint.place };
                if let Some(known) = said.get_mut(&address) {
                    endpoints[known.position].ready |= endpoint.ready;
                    endpoints[known.position].draining |= endpoint.draining;
                    known.words.push(words);
                    continue;
                }
                said.insert(address, Said { position: endpoints.len(), words: vec![words] });
                let workload = pod_at(linking, endpoint.address);
                endpoints.push(Endpoint {
                    address,
                    ready: endpoint.ready,
                    workload,
                    protocol: slice_port.protocol,
                    draining: endpoint.draining,
                    topology: of_slice(draft, &endpoint.topology),
                });
            }
        }
    }
    for (address, Said { position, words }) in said.iter().filter(|(_, said)| said.words.len() > 1) {
        endpoints[*position].protocol = agreed(linking, *address, words);
    }
    endpoints
}

/// What a slice says of where an endpoint is, as far as the Service wants to know. Hints are there where a controller follows the
/// Service's wish; the node is told of all.
fn of_slice(draft: &ServiceDraft, said: &Topology) -> Option<Box<Topology>> {
    let node = said.node.as_ref().filter(|_| draft.reach == Reach::Node).cloned();
    Topology { node, for_nodes: said.for_nodes.clone(), for_zones: said.for_zones.clone() }.boxed()
}

/// The hints that a controller would give, of a pod on a node.
fn of_pod(draft: &ServiceDraft, pod: &WorkloadDraft, on: Option<&NodeName>) -> Option<Box<Topology>> {
    let zone = || pod.workload.labels.get(ZONE_LABEL).and_then(|label| Zone::try_from(label.as_str()).ok());
    let for_node = on.filter(|_| draft.preference == Some(Preference::Node));
    let topology = Topology {
        node: on.filter(|_| draft.reach == Reach::Node).cloned(),
        for_nodes: for_node.into_iter().cloned().collect(),
        for_zones: draft.preference.and_then(|_| zone()).into_iter().collect(),
    };
    topology.boxed()
}

/// The node that a pod is on: by its own word, or this one, where it has its network namespace.
fn node_of(linking: &Linking, pod: &WorkloadDraft) -> Option<NodeName> {
    let is_here = || linking.mesh.workloads.get(&pod.workload.pod).is_some_and(|known| known.netns.is_some());
    pod.workload.node.clone().or_else(|| linking.node.clone().filter(|_| is_here()))
}

/// What slices say of one endpoint.
struct Said<'a> {
    position: usize,
    words: Vec<Words<'a>>,
}

struct Words<'a> {
    protocol: AppProtocol,
    of: &'a Lowered,
    place: &'a Place,
}

/// The protocol that all slices of an endpoint agree on which say any.
fn agreed(linking: &mut Linking, address: SocketAddr, words: &[Words<'_>]) -> AppProtocol {
    let mut outright = words.iter().filter(|words| words.protocol != AppProtocol::Undeclared);
    let Some(first) = outright.next() else { return AppProtocol::Undeclared };
    let Some(other) = outright.find(|other| other.protocol != first.protocol) else { return first.protocol };
    let message = format!(
        "{address} has another appProtocol in {} ({}:{}): neither counts, write the same in both",
        first.of.object,
        first.of.file.display(),
        first.of.at.line
    );
    linking.find(other.of, (Severity::Warning, Reason::Conflict), other.place, message);
    AppProtocol::Undeclared
}

fn pod_at(linking: &Linking, address: IpAddr) -> Option<PodName> {
    match linking.addresses.get(&address) {
        Some(Owner::Pod(pod)) => Some(pod.clone()),
        _ => None,
    }
}

fn from_selector(
    linking: &mut Linking,
    lowered: &Lowered,
    draft: &ServiceDraft,
    port: &PortDraft,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    let mut nameless = false;
    for pod in selected(linking, draft) {
        let Some(pod_draft) = as_pod(&pod) else { continue };
        let Some(number) = target(port, pod_draft) else {
            nameless = true;
            continue;
        };
        let on = node_of(linking, pod_draft);
        for address in pod_draft.workload.addresses.iter().filter(|address| has_family(draft, **address)) {
            endpoints.push(Endpoint {
                address: SocketAddr::new(*address, number),
                ready: pod_draft.ready || draft.publish_not_ready,
                workload: Some(pod_draft.workload.pod.clone()),
                protocol: AppProtocol::Undeclared,
                draining: pod_draft.draining,
                topology: of_pod(draft, pod_draft, on.as_ref()),
            });
        }
    }
    if let (TargetPort::Named(name), true, true) = (&port.target, nameless, endpoints.is_empty()) {
        let message = format!(
            "no pod behind this Service has a TCP port named {name}: name it in the pod, or use a number"
        );
        linking.dangling(lowered, &port.target_place, message);
    }
    endpoints
}

/// The pods of a Service's namespace that have all labels of its selector.
fn selected(linking: &Linking, draft: &ServiceDraft) -> Vec<Arc<Lowered>> {
    if draft.selector.is_empty() {
        return Vec::new();
    }
    let pods = workloads::of_namespace(linking, &draft.name.namespace);
    pods.filter(|pod| as_pod(pod).is_some_and(|pod| selects(draft, pod))).cloned().collect()
}

/// Whether a pod has all labels that a Service's selector names.
pub(super) fn selects(draft: &ServiceDraft, pod: &WorkloadDraft) -> bool {
    draft.selector.iter().all(|(key, value)| pod.workload.labels.get(key).is_some_and(|label| label == value))
}

fn target(port: &PortDraft, pod: &WorkloadDraft) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Named(name) => {
            let named = pod.workload.ports.iter().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.number)
        }
    }
}

/// A Service with addresses serves their families; a headless one serves all.
fn has_family(draft: &ServiceDraft, address: IpAddr) -> bool {
    draft.vips.is_empty() || draft.vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4())
}

fn report_empty(linking: &mut Linking, lowered: &Lowered, draft: &ServiceDraft) {
    if !draft.selector.is_empty() && selected(linking, draft).is_empty() {
        let place = Place { at: draft.selector_place.at, field: draft.selector_place.field.clone() };
        linking.dangling(
            lowered,
            &place,
            "selects no workload that is known here: correct it, or add the pods".to_owned(),
        );
    }
}
