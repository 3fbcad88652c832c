//! Whether the receiver lets a connection in: PeerAuthentication, then AuthorizationPolicies that deny, then those that allow.
//!
//! Decided by `policy::weigh_inbound`, over what is in force for a pod of this node, and for one of another over what its own daemon
//! compiles from the same objects.

use std::{net::SocketAddr, sync::Arc};

use config::{
    model::{Action, AuthorizationPolicy, Workload},
    name::PolicyName,
};

use super::{
    Telling, few,
    told::{Name, Object},
    verdict::Refusal,
};
use crate::{
    policy::{Denied, Ground, Inbound, Matched, weigh_inbound},
    snapshot::policies::InboundPolicy,
};

/// Whose policies are asked about a connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Guard {
    /// What they are; `None` where they are not known.
    policy: Option<Arc<InboundPolicy>>,
    /// Who asks them.
    pub(super) by: By,
    /// Whether the caller is proven.
    is_proven: bool,
    /// The port that is left alone by the receiver's word, so that nobody is asked.
    is_left_alone: bool,
}

/// Who asks a receiver's policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// The daemon of this node.
    Here,
    /// The proxy at the other end of a tunnel.
    OtherEnd,
}

impl Telling<'_> {
    /// By this node's daemon, of a caller that it proves.
    pub(super) fn guard_here(&self, receiver: &Workload) -> Guard {
        Guard { policy: self.in_force(receiver), by: By::Here, is_proven: true, is_left_alone: false }
    }

    /// By whoever ends a tunnel.
    pub(super) fn guard_anywhere(&self, receiver: &Workload) -> Guard {
        match receiver.netns {
            Some(_) => Guard { by: By::OtherEnd, ..self.guard_here(receiver) },
            None => Guard {
                policy: Some(Arc::new(self.protections.inbound(receiver))),
                by: By::OtherEnd,
                is_proven: true,
                is_left_alone: false,
            },
        }
    }

    /// By the receiver's proxy, if it has one, of what comes past the caller's.
    pub(super) fn guard_against_plaintext(&self, receiver: &Workload, to: SocketAddr) -> Option<Guard> {
        let is_left_alone = receiver.exclusions.inbound_ports.contains(&to.port());
        let policy = match (&receiver.netns, receiver.meshed) {
            (Some(_), _) => self.in_force(receiver),
            (None, true) => Some(Arc::new(self.protections.inbound(receiver))),
            (None, false) => return None,
        };
        Some(Guard { policy, by: By::Here, is_proven: false, is_left_alone })
    }

    fn in_force(&self, receiver: &Workload) -> Option<Arc<InboundPolicy>> {
        self.world.snapshots.get(&receiver.tenant)?.policies.of(&receiver.pod).cloned()
    }

    /// Asks and tells; why not, where it is not let in.
    pub(super) fn ask(&mut self, guard: &Guard, receiver: &Workload, to: SocketAddr) -> Option<Refusal> {
        let pod = self.world.pod(&receiver.pod);
        if guard.is_left_alone {
            let says = format!(
                "canopy.mesh/exclude-inbound-ports has {}: no policy is asked, but what the kernel denies",
                to.port()
            );
            self.stage(Name::Receiver, says, Some(pod));
            return None;
        }
        let Some(policy) = &guard.policy else {
            self.stage(Name::Receiver, "no policies are known of the pod yet: nothing is let in", Some(pod));
            return Some(self.refusal(&Denied::PolicyUnknown, None, receiver, to));
        };
        let identity = guard.is_proven.then_some(&self.caller.identity);
        let inbound = Inbound::new(identity, self.ends(to));
        let ground = weigh_inbound(policy, &inbound);
        let (says, object) = self.grounds(ground, &inbound);
        self.stage(Name::Receiver, says, object);
        self.asked_policies(policy, to.port());
        if !guard.is_proven && matches!(ground, Ground::Denied(..)) {
            let says = "where that asks for addresses and ports alone, the kernel refuses it already, without an answer";
            self.detail(says, None);
        }
        let denied = ground.verdict().err()?;
        let matched = match ground {
            Ground::Denied(_, matched) => Some(matched),
            _ => None,
        };
        Some(self.refusal(&denied, matched, receiver, to))
    }

    fn grounds(&self, ground: Ground<'_>, inbound: &Inbound<'_>) -> (String, Option<Object>) {
        let who = inbound
            .identity
            .map_or_else(|| format!("plaintext from {}", inbound.client), |identity| identity.to_string());
        match ground {
            Ground::Open => (format!("lets in {who}: no AuthorizationPolicy limits who may come in"), None),
            Ground::Allowed(policy, matched) => (
                format!("lets in {who}: {} allows it", by(policy, matched)),
                Some(self.authorization(&policy.name)),
            ),
            Ground::Plaintext(by) => (
                format!("refuses {who}: PeerAuthentication {by} takes no plaintext"),
                Some(self.world.object("PeerAuthentication", &by.namespace, &by.name)),
            ),
            Ground::Denied(policy, matched) => (
                format!("refuses {who}: {} denies it", by(policy, matched)),
                Some(self.authorization(&policy.name)),
            ),
            Ground::NoneAllows(first) => (
                format!("refuses {who}: there are policies that allow, and none allows it"),
                Some(self.authorization(&first.name)),
            ),
        }
    }

    fn authorization(&self, name: &PolicyName) -> Object {
        self.world.object("AuthorizationPolicy", &name.namespace, &name.name)
    }

    /// Those that are about the receiver, in the order in which they are asked.
    fn asked_policies(&mut self, policy: &InboundPolicy, port: u16) {
        let peers = match policy.peers.strict_at(port) {
            Some(by) => {
                format!("asked first: PeerAuthentication {by}, by which port {port} takes no plaintext")
            }
            None => format!("asked first: PeerAuthentication; plaintext would be taken at port {port}, too"),
        };
        let strict = policy.peers.strict_at(port);
        let object = strict.map(|by| self.world.object("PeerAuthentication", &by.namespace, &by.name));
        self.detail(peers, object);
        let lists = [
            ("then those that deny", &policy.deny),
            ("then those that allow", &policy.allow),
            ("and, as nobody can tell whether they are about it, those that perhaps allow", &policy.doubtful),
        ];
        for (what, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            let names = few(list.iter().map(|policy| &policy.name));
            self.detail(format!("{what}: {names}"), None);
        }
    }

    fn refusal(
        &self,
        denied: &Denied,
        matched: Option<Matched>,
        receiver: &Workload,
        to: SocketAddr,
    ) -> Refusal {
        let caller = &self.caller.identity;
        let of = |policy: &PolicyName| self.world.owner(&policy.namespace);
        let port = to.port();
        let remedy = match denied {
            Denied::PlaintextRefused { policy } => format!(
                "the caller would have to come by its own proxy, which proves who it is, or {} have PeerAuthentication {policy} say PERMISSIVE for port {port}",
                of(policy)
            ),
            Denied::PolicyDenied { policy } => format!(
                "{} would have to take {caller} out of {} of AuthorizationPolicy {policy}",
                of(policy),
                matched.map_or_else(|| "what is denied".to_owned(), rule)
            ),
            Denied::NoPolicyAllows { policy } => format!(
                "{} would have to add a rule that allows {caller} at port {port} to AuthorizationPolicy {policy}, or to another with ALLOW for the same pods",
                of(policy)
            ),
            Denied::PolicyUnreadable { policy } => format!(
                "{} would have to mend AuthorizationPolicy {policy}: `canopy status` and `canopy validate` say what is wrong with it",
                of(policy)
            ),
            Denied::PolicyUnknown => {
                "nothing has to be changed: the pod has just come, or is about to go; ask again in a moment"
                    .to_owned()
            }
            // Not of a receiver.
            Denied::EgressForbidden
            | Denied::DestinationUnknown
            | Denied::Waypoint
            | Denied::NetworkPolicy => denied.to_string(),
        };
        let by = match denied {
            Denied::PlaintextRefused { policy } => {
                Some(self.world.object("PeerAuthentication", &policy.namespace, &policy.name))
            }
            other => other.policy().map(|policy| self.authorization(policy)),
        };
        let says = format!("{} does not let it in: {denied}", receiver.pod);
        Refusal { reason: denied.reason(), says, by, remedy }
    }
}

fn by(policy: &AuthorizationPolicy, matched: Matched) -> String {
    match (policy.action, matched) {
        (Action::Unreadable, _) | (_, Matched::Whole) => {
            format!("AuthorizationPolicy {}, which cannot be read,", policy.name)
        }
        (_, matched) => format!("{} of AuthorizationPolicy {}", rule(matched), policy.name),
    }
}

fn rule(matched: Matched) -> String {
    match matched {
        Matched::Whole => "all".to_owned(),
        Matched::Rule(position) => format!("rules[{position}]"),
    }
}
