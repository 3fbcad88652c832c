//! What NetworkPolicies say of a pair of pods: all of them together, as they are evaluated on the data path, and each by itself, so that
//! it can be told which of them decide.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use config::{
    model::{NetworkPolicy, Workload},
    name::PolicyName,
};

use super::{Telling, few, told::Name};
use crate::{
    policy::network::{self, Asked, Evaluated},
    snapshot::network::{Network, PodNetwork},
};

/// What they say of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Says {
    /// All of both ends together.
    pub(super) verdict: Evaluated,
    /// Each that is about one of the ends, and what it says by itself.
    pub(super) each: Vec<(PolicyName, Asked, Evaluated)>,
}

impl Telling<'_> {
    /// What NetworkPolicies say of a connection to a pod, whichever node it is on.
    pub(super) fn network_of(&self, receiver: &Arc<Workload>, to: SocketAddr) -> Says {
        let (from, into) = (self.protections.network(self.caller), self.protections.network(receiver));
        let namespaces: HashMap<_, _> = self
            .world
            .mesh
            .namespaces
            .iter()
            .map(|(name, facts)| (name.clone(), Arc::clone(facts)))
            .collect();
        let mut network = Network { pods: HashMap::new(), namespaces };
        let mut ask = |from: &PodNetwork, into: &PodNetwork, asked| {
            let one = |limits: &PodNetwork| {
                Arc::new(PodNetwork { ingress: limits.ingress.clone(), egress: limits.egress.clone() })
            };
            network.pods.insert(receiver.pod.clone(), one(into));
            network.pods.insert(self.caller.pod.clone(), one(from));
            network::allows(&network, asked, self.caller, receiver, to)
        };
        let verdict = ask(&from, &into, Asked::Both);
        let nothing = PodNetwork::default();
        let mut each = Vec::new();
        for policy in from.egress.iter().take(POLICIES) {
            let alone = PodNetwork { egress: vec![Arc::clone(policy)], ingress: Vec::new() };
            each.push((name(policy), Asked::Source, ask(&alone, &nothing, Asked::Source)));
        }
        for policy in into.ingress.iter().take(POLICIES) {
            let alone = PodNetwork { ingress: vec![Arc::clone(policy)], egress: Vec::new() };
            each.push((name(policy), Asked::Destination, ask(&nothing, &alone, Asked::Destination)));
        }
        Says { verdict, each }
    }

    /// Tells it, where there is anything to tell.
    pub(super) fn tell_network(&mut self, says: &Says, is_decided_by_the_network: bool) {
        if says.each.is_empty() {
            return;
        }
        let verdict = match (says.verdict, is_decided_by_the_network) {
            (Evaluated::Allowed, false) => {
                "NetworkPolicies of both ends allow the pair, so that the network need not see it"
            }
            (Evaluated::Allowed, true) => {
                "NetworkPolicies allow the pair; the network, which carries it, enforces them"
            }
            (Evaluated::Denied, _) => {
                "NetworkPolicies do not allow the pair: it goes across the network, whose plugin is to refuse it"
            }
            (Evaluated::Unknown, _) => {
                "whether NetworkPolicies allow the pair is not known here: it goes across the network, which decides"
            }
        };
        self.stage(Name::Network, verdict, None);
        for (policy, asked, said) in &says.each {
            let of = if *asked == Asked::Source {
                "what the caller may reach"
            } else {
                "what may reach the receiver"
            };
            let object = self.world.object("NetworkPolicy", &policy.namespace, &policy.name);
            self.detail(format!("{of}: NetworkPolicy {policy} {}", word(*said)), Some(object));
        }
    }
}

impl Says {
    /// Those that keep the pair from being allowed.
    pub(super) fn against(&self) -> String {
        few(self.each.iter().filter(|(_, _, said)| *said != Evaluated::Allowed).map(|(name, _, _)| name))
    }
}

fn name(policy: &NetworkPolicy) -> PolicyName {
    policy.name.clone()
}

fn word(said: Evaluated) -> &'static str {
    match said {
        Evaluated::Allowed => "allows it",
        Evaluated::Denied => "does not allow it",
        Evaluated::Unknown => "cannot be evaluated here",
    }
}

/// NetworkPolicies that are told, of each end.
const POLICIES: usize = 16;
