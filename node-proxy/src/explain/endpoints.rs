//! Which endpoints may be picked, and what becomes of a connection to each. Those of which the same is to be told are told together.
//!
//! Of a Service with very many, the first are looked at; how many are not is said.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use config::{model::Endpoint, name::PodName};

use super::{
    Telling,
    delivery::{Arrival, Way},
    few,
    receiver::By,
    told::Name,
    verdict::{Fate, Refusal, Share},
};
use crate::{
    balance,
    snapshot::{Cluster, Destination, Narrowing},
    telemetry::Reason,
    upstream::{Delivery, choice::Why},
};

/// Endpoints of one Service port that are looked at.
const LOOKED_AT: usize = 256;

/// Endpoints of which the same is to be told.
struct Alike {
    way: Way,
    addresses: Vec<SocketAddr>,
}

impl Telling<'_> {
    /// The endpoints of a Service, without any route.
    pub(super) fn any_of(&mut self, cluster: &Cluster, to: SocketAddr) -> Vec<Share> {
        let object = self.world.object("Service", &cluster.service.namespace, &cluster.service.name);
        let says = format!(
            "Service {} port {}: all of it, as no route says otherwise",
            cluster.service, cluster.port
        );
        self.stage(Name::Backend, says, Some(object));
        self.reached(cluster, to, Arrival::Steered)
    }

    /// The very address that was dialled.
    pub(super) fn one(
        &mut self,
        to: SocketAddr,
        pod: Option<&PodName>,
        destination: &Destination,
    ) -> Vec<Share> {
        let is_outside = matches!(destination, Destination::Outside);
        self.at_once(to, pod, if is_outside { Arrival::Outside } else { Arrival::Steered })
    }

    /// One address, of which there is nothing to choose.
    pub(super) fn at_once(&mut self, to: SocketAddr, pod: Option<&PodName>, arrival: Arrival) -> Vec<Share> {
        let way = self.way(to, pod, arrival);
        vec![Share::whole(self.tell(&Alike { way, addresses: vec![to] }))]
    }

    /// Every endpoint that may be picked.
    pub(super) fn reached(&mut self, cluster: &Cluster, to: SocketAddr, arrival: Arrival) -> Vec<Share> {
        if let Some(refusal) = self.backend_behind(cluster) {
            return vec![Share::whole(Fate::Refused(refusal))];
        }
        let is_v4 = self.client(to).is_ipv4();
        let ready: Vec<&Arc<Endpoint>> = balance::ready(cluster, is_v4).collect();
        if ready.is_empty() {
            return vec![Share::whole(self.nobody(cluster))];
        }
        self.left_aside(cluster, &ready, is_v4);
        let mut groups: Vec<Alike> = Vec::new();
        for endpoint in ready.iter().take(LOOKED_AT) {
            let way = self.way(endpoint.address, endpoint.workload.as_ref(), arrival);
            match groups.iter_mut().find(|group| group.way.is_like(&way)) {
                Some(group) => group.addresses.push(endpoint.address),
                None => groups.push(Alike { way, addresses: vec![endpoint.address] }),
            }
        }
        let several = groups.len() > 1;
        let mut shares = Vec::new();
        for group in groups {
            let part = format!("at {} of {} endpoints", group.addresses.len(), ready.len());
            let share = Share::whole(self.tell(&group));
            shares.push(if several { share.of(&part) } else { share });
        }
        shares
    }

    /// Those that are not picked, and why.
    fn left_aside(&mut self, cluster: &Cluster, picked: &[&Arc<Endpoint>], is_v4: bool) {
        if picked.len() > LOOKED_AT {
            self.detail(format!("{} more endpoints were not looked at", picked.len() - LOOKED_AT), None);
        }
        self.narrowed(cluster);
        let is_picked = |one: &Endpoint| picked.iter().any(|picked| picked.address == one.address);
        let unready = cluster.endpoints.iter().filter(|one| !one.ready && !is_picked(one));
        let unready: Vec<SocketAddr> = unready.map(|one| one.address).collect();
        if !unready.is_empty() {
            self.detail(format!("not ready, and so not picked: {}", few(unready)), None);
        }
        let candidates = cluster.candidates().iter().filter(|one| cluster.takes(one)).count();
        let others = candidates.saturating_sub(picked.len());
        if others > 0 {
            let (own, other) = if is_v4 { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
            self.detail(
                format!("ready at {other}, too: {others}; a connection by {own} goes to {own}"),
                None,
            );
        }
        if let Some(affinity) = cluster.affinity {
            let says = format!(
                "sessionAffinity ClientIP: a client goes where it went last, for {} s after that, as long as that is among these",
                affinity.lasts.as_secs()
            );
            self.detail(says, None);
        }
    }

    /// Why not all that are ready may be picked, and which may not.
    fn narrowed(&mut self, cluster: &Cluster) {
        let Some(narrowed) = &cluster.narrowed else { return };
        let to: HashSet<SocketAddr> = narrowed.to.iter().map(|one| one.address).collect();
        let others = cluster.endpoints.iter().filter(|one| one.ready && !to.contains(&one.address));
        let others: Vec<SocketAddr> = others.map(|one| one.address).collect();
        let why = match narrowed.by {
            Narrowing::Reach => "internalTrafficPolicy Local: endpoints on the caller's own node alone",
            Narrowing::NodeHints => {
                "hints of its EndpointSlices: those that are for this node (trafficDistribution)"
            }
            Narrowing::ZoneHints => {
                "hints of its EndpointSlices: those that are for this node's zone (trafficDistribution)"
            }
            Narrowing::Draining => "none is ready: those that end, and still serve",
        };
        let but = if others.is_empty() { String::new() } else { format!("; not {}", few(others)) };
        self.detail(format!("{why}{but}"), None);
    }

    fn nobody(&mut self, cluster: &Cluster) -> Fate {
        let service = &cluster.service;
        let object = self.world.object("Service", &service.namespace, &service.name);
        let all = cluster.endpoints.len();
        let reason = cluster.emptiness();
        let owner = self.world.owner(&service.namespace);
        let (which, remedy) = if reason == Reason::NoLocalEndpoint {
            let remedy = format!(
                "{owner} would have to have a pod of Service {service} ready on this node, as a DaemonSet has (EndpointSlices name the \
                 node of each, and the daemon is told its own: --node), or take internalTrafficPolicy Local away"
            );
            (" on this node", remedy)
        } else {
            let remedy = format!(
                "{owner} would have to have a pod ready behind Service {service}, which its selector or an EndpointSlice names"
            );
            ("", remedy)
        };
        let says =
            format!("none of {all} endpoints of Service {service} port {} is ready{which}", cluster.port);
        self.stage(Name::Endpoint, says.clone(), Some(object.clone()));
        self.left_aside(cluster, &[], true);
        Fate::Refused(Refusal { reason, says, by: Some(object), remedy })
    }

    /// Tells of a group, and what becomes of it.
    fn tell(&mut self, group: &Alike) -> Fate {
        let Alike { way, addresses } = group;
        let Some(first) = addresses.first().copied() else {
            return Fate::Passed { to: "nowhere".to_owned() };
        };
        let to = few(addresses.iter().map(|address| self.named(*address)));
        let pod = way.receiver.as_ref().map(|receiver| self.world.pod(&receiver.pod));
        let how = delivered(way);
        self.stage(Name::Endpoint, format!("{to}: {how}"), pod.filter(|_| addresses.len() == 1));
        if let Some(refusal) = &way.stopped {
            return Fate::Refused(refusal.clone());
        }
        let is_the_networks =
            way.choice.is_none_or(|choice| matches!(choice.delivery, Delivery::Tunnel | Delivery::Network));
        if let Some(says) = &way.network {
            self.tell_network(says, is_the_networks);
        }
        match self.let_in(way, first) {
            Some(refusal) => Fate::Refused(refusal),
            None => self.goes(way, to),
        }
    }

    /// Why the receiver does not let it in, if it does not.
    fn let_in(&mut self, way: &Way, to: SocketAddr) -> Option<Refusal> {
        let receiver = way.receiver.as_ref()?;
        let Some(guard) = &way.guard else {
            let pod = self.world.pod(&receiver.pod);
            let says = "no proxy of the mesh answers for it: no policy is asked";
            self.stage(Name::Receiver, says, Some(pod));
            return None;
        };
        let refusal = self.ask(guard, receiver, to);
        if guard.by == By::OtherEnd {
            let says =
                "asked by the proxy at the other end; where it refuses, the caller is answered peer_denied";
            self.detail(says, None);
        }
        refusal
    }

    fn goes(&self, way: &Way, to: String) -> Fate {
        let by = way.choice.map_or("past the proxy", |choice| choice.delivery.as_str());
        let mut to = format!("{to}, {by}");
        if way.is_the_networks_to_refuse() {
            let against = way.network.as_ref().map(super::network::Says::against).unwrap_or_default();
            to.push_str(&format!(
                ", unless the network's plugin refuses it, as NetworkPolicy {against} has it"
            ));
        }
        if way.arrival == Arrival::Past { Fate::Passed { to } } else { Fate::Carried { to } }
    }

    /// An address, with the pod that has it.
    fn named(&self, address: SocketAddr) -> String {
        match self.snapshot.pod_at(address) {
            Some(pod) => format!("{address} ({pod})"),
            None => address.to_string(),
        }
    }
}

/// By which delivery, and why.
fn delivered(way: &Way) -> String {
    let Some(choice) = way.choice else { return "past the proxy, as plaintext".to_owned() };
    let why = match choice.why {
        Why::OwnApp => "its own application",
        Why::SameTenant => "same node, same tenant",
        Why::OtherTenant => "same node, another tenant: through that tenant's cell",
        Why::NetworkPolicy => {
            "same node, but NetworkPolicies are not known to allow a way that the network cannot see"
        }
        Why::OtherNode => "on another node, by mutual TLS to its proxy",
        Why::NotMeshed => "no proxy of the mesh answers for it",
        Why::Outside => "outside the mesh, as it is",
    };
    format!("{} ({}: {why})", choice.delivery.as_str(), choice.why.as_str())
}
