//! How one address is reached, and whether it is: which delivery, and what the receiver's policies say.
//!
//! What a cell knows by its trees is told by the configuration here: a pod is near if it is on this node and served. Which delivery
//! follows from that is `upstream::choice`'s to say, and who is let in `policy`'s.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use config::{model::Workload, name::PodName};
use ebpf_redirect::Origin;

use super::{Telling, network::Says, receiver::Guard, verdict::Refusal};
use crate::{
    hbone,
    policy::{
        egress,
        network::{self, Asked, Evaluated},
    },
    telemetry::Reason,
    upstream::{
        Delivery,
        choice::{self, Choice, Facts, Place},
    },
};

/// How a connection comes to where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// By the caller's proxy, to what it means by a destination in the mesh.
    Steered,
    /// The same, to an address outside.
    Outside,
    /// Past it: as plaintext.
    Past,
}

/// How an address is reached.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) arrival: Arrival,
    /// `None` past the proxy.
    pub(super) choice: Option<Choice>,
    /// Who has the address.
    pub(super) receiver: Option<Arc<Workload>>,
    /// What NetworkPolicies say of the pair.
    pub(super) network: Option<Says>,
    /// Whose policies are asked, and what they say.
    pub(super) guard: Option<Guard>,
    /// What stops it before any receiver is asked.
    pub(super) stopped: Option<Refusal>,
    /// The port that is reached.
    pub(super) port: u16,
}

impl Way {
    /// Whether the same is to be told of both.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let stopped = |way: &Self| way.stopped.as_ref().map(|refusal| refusal.reason);
        self.choice == other.choice
            && self.port == other.port
            && self.network == other.network
            && self.guard == other.guard
            && stopped(self) == stopped(other)
    }

    /// Whether the network decides about it, and is to say no.
    pub(super) fn is_the_networks_to_refuse(&self) -> bool {
        let crosses = |choice: Choice| matches!(choice.delivery, Delivery::Tunnel | Delivery::Network);
        self.choice.is_none_or(crosses)
            && self.network.as_ref().is_some_and(|says| says.verdict == Evaluated::Denied)
    }
}

impl Telling<'_> {
    /// How an address is reached; `pod` is who was meant, where that is known.
    pub(super) fn way(&self, to: SocketAddr, pod: Option<&PodName>, arrival: Arrival) -> Way {
        let known = self.snapshot.directory.workloads.get(&to.ip().to_canonical());
        let known = known.map(|entry| &entry.workload);
        let workload = known.filter(|known| pod.is_none_or(|pod| *pod == known.pod));
        let network = workload.map(|receiver| self.network_of(receiver, to));
        let mut way = Way {
            arrival,
            choice: None,
            receiver: workload.cloned(),
            network,
            guard: None,
            stopped: None,
            port: to.port(),
        };
        if arrival == Arrival::Past {
            way.guard = workload.and_then(|receiver| self.guard_against_plaintext(receiver, to));
            return way;
        }
        let near = pod.and_then(|pod| self.near(pod, to.ip()));
        let choice = self.choose(near, workload, (to, arrival));
        way.choice = Some(choice);
        way.stopped = self.stopped(choice, (to, pod), (near, workload));
        if way.stopped.is_none() {
            way.guard = match choice.delivery {
                Delivery::Direct | Delivery::Handoff => near.map(|receiver| self.guard_here(receiver)),
                Delivery::Tunnel => workload.map(|receiver| self.guard_anywhere(receiver)),
                // Nobody answers for it but itself.
                Delivery::Local | Delivery::Network | Delivery::Passthrough => None,
            };
        }
        way
    }

    /// A pod of this node that is served here, at an address of its own.
    fn near(&self, pod: &PodName, at: IpAddr) -> Option<&Arc<Workload>> {
        let workload = self.world.mesh.workloads.get(pod)?;
        let is_served = workload.netns.is_some() && !self.world.waiting.contains_key(pod);
        (is_served && workload.addresses.contains(&at)).then_some(workload)
    }

    fn choose(
        &self,
        near: Option<&Arc<Workload>>,
        workload: Option<&Arc<Workload>>,
        (to, arrival): (SocketAddr, Arrival),
    ) -> Choice {
        let (place, network_allows) = match near {
            Some(receiver) if receiver.tenant == self.caller.tenant => {
                (Place::Neighbour, self.is_let_through(Asked::Both, receiver, to))
            }
            // Each end's cell asks its own; a receiver that says no has it come across the network.
            Some(receiver) => {
                let both = [Asked::Source, Asked::Destination];
                (Place::Guest, both.into_iter().all(|asked| self.is_let_through(asked, receiver, to)))
            }
            None if arrival == Arrival::Outside => (Place::Outside, false),
            None => (Place::Elsewhere, false),
        };
        let meshed = workload.is_some_and(|workload| workload.meshed);
        choice::choose(Facts { place, meshed, network_allows })
    }

    /// By the snapshot of whose policies are asked.
    fn is_let_through(&self, asked: Asked, receiver: &Arc<Workload>, to: SocketAddr) -> bool {
        let of = match asked {
            Asked::Source | Asked::Both => Some(self.snapshot),
            Asked::Destination => self.world.snapshots.get(&receiver.tenant),
        };
        of.is_some_and(|of| network::between(of, asked, self.caller, receiver, to) == Evaluated::Allowed)
    }

    /// What is refused by the caller's proxy before anything is connected.
    fn stopped(
        &self,
        choice: Choice,
        (to, pod): (SocketAddr, Option<&PodName>),
        (near, workload): (Option<&Arc<Workload>>, Option<&Arc<Workload>>),
    ) -> Option<Refusal> {
        if !matches!(choice.delivery, Delivery::Tunnel | Delivery::Network) {
            return None;
        }
        match (pod, workload) {
            (Some(pod), None) => return Some(self.gone(to, pod)),
            (None, None) if near.is_none() => {
                let caller = &self.caller.pod.namespace;
                return egress::way_out(self.snapshot, caller, to).is_err().then(|| self.led_out(to));
            }
            _ => {}
        }
        let is_reserved = choice.delivery == Delivery::Tunnel && hbone::is_reserved(to.port());
        is_reserved.then(|| Refusal {
            reason: Reason::ReservedPort,
            says: format!("{to} is a port of the mesh's own proxies, which no tunnel leads to"),
            by: workload.map(|receiver| self.world.pod(&receiver.pod)),
            remedy: "the application would have to listen on another port than 15001, 15006 and 15008"
                .to_owned(),
        })
    }

    fn gone(&self, to: SocketAddr, pod: &PodName) -> Refusal {
        Refusal {
            reason: Reason::EndpointGone,
            says: format!("the endpoint {to} was pod {pod}, which does not have that address any more"),
            by: Some(self.world.pod(pod)),
            remedy: format!(
                "{} would have to name the pod that is meant in its EndpointSlice, or that pod be there",
                self.world.owner(&pod.namespace)
            ),
        }
    }

    /// A Service leads out of the mesh.
    fn led_out(&self, to: SocketAddr) -> Refusal {
        let tenant = &self.caller.tenant;
        Refusal {
            reason: Reason::EgressForbidden,
            says: format!("the endpoint {to} is outside the mesh, which tenant {tenant} is kept to"),
            by: self.world.tenant(tenant),
            remedy: format!(
                "{tenant} would have to name {} at port {} in a ServiceEntry, or {} say egress: any",
                to.ip(),
                to.port(),
                super::PLATFORM
            ),
        }
    }

    /// The ends of a connection, as a receiver sees them.
    pub(super) fn ends(&self, to: SocketAddr) -> Origin {
        Origin { destination: to, client: self.client(to) }
    }
}
