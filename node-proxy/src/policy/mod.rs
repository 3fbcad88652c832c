//! Stage 4: whether a connection may go on. The only maker of a [`Permit`], which every later stage asks for.
//!
//! Decisions are pure functions over the snapshot. Nothing may be connected before this stage has said yes.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use config::{model::Workload, name::PolicyName};
use ebpf_redirect::{Origin, Side};

use crate::{
    accept::Accepted,
    capture::{Arrival, Captured, Tree},
    identity::{Caller, Identified},
    snapshot::{Destination, Snapshot},
    telemetry::Reason,
};

pub use self::inbound::{Ground, Inbound, Matched, decide_inbound, weigh_inbound};
use self::network::{Asked, Evaluated};

mod authorization;
pub mod early;
pub mod egress;
mod inbound;
pub mod network;
pub mod probe;

/// What was permitted. Cheap to clone: every request of a connection holds one.
///
/// Only this module can make one; its facts can be read,
/// ```
/// fn read(permit: &node_proxy::policy::Permit) -> &node_proxy::policy::Permitted {
///     permit
/// }
/// ```
/// but, even with all of them at hand, nobody else can put a permit together,
/// ```compile_fail
/// fn forge(facts: node_proxy::policy::Permitted) -> node_proxy::policy::Permit {
///     node_proxy::policy::Permit(std::rc::Rc::new(facts))
/// }
/// ```
/// or change what one says.
/// ```compile_fail
/// fn tamper(permit: &mut node_proxy::policy::Permit, other: node_proxy::snapshot::Destination) {
///     permit.destination = other;
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Permit(Rc<Permitted>);

/// The facts that the decision was made on.
#[derive(Debug)]
pub struct Permitted {
    /// Which way.
    pub side: Side,
    /// Whose tree.
    pub tree: Rc<Tree>,
    /// The true ends.
    pub origin: Origin,
    /// What it is going to.
    pub destination: Destination,
    /// Who calls.
    pub caller: Arc<Caller>,
}

impl std::ops::Deref for Permit {
    type Target = Permitted;
    fn deref(&self) -> &Permitted {
        &self.0
    }
}

/// Why a connection may not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The tenant may not connect to anything outside the mesh.
    #[error("the tenant's egress is limited to the mesh, and no ServiceEntry names the destination")]
    EgressForbidden,
    /// It is somebody's, of whom nothing can be taken in.
    #[error(
        "the destination is somebody's of whom the control plane says what cannot be read or obeyed: it is not passed through"
    )]
    DestinationUnknown,
    /// A proxy has to be gone through that Canopy does not speak to.
    #[error("the destination is behind a waypoint, which Canopy does not speak to and does not go around")]
    Waypoint,
    /// The receiver takes no plaintext.
    #[error("PeerAuthentication {policy} takes no plaintext")]
    PlaintextRefused {
        /// Which object says so.
        policy: PolicyName,
    },
    /// A policy denies it.
    #[error("AuthorizationPolicy {policy} denies it")]
    PolicyDenied {
        /// Which.
        policy: PolicyName,
    },
    /// There are policies that allow, and none allows this.
    #[error("no AuthorizationPolicy allows it; {policy} is one that would have to")]
    NoPolicyAllows {
        /// The first of them.
        policy: PolicyName,
    },
    /// A policy that cannot be read denies whatever it may be about.
    #[error("AuthorizationPolicy {policy} cannot be read, so it denies everything")]
    PolicyUnreadable {
        /// Which.
        policy: PolicyName,
    },
    /// The network's own policies are not known to let it go straight to its receiver any more.
    #[error("NetworkPolicies are not known to allow the delivery that the network cannot see")]
    NetworkPolicy,
    /// The configuration does not know the workload yet.
    #[error("no policies are known of the receiving workload yet")]
    PolicyUnknown,
}

impl Denied {
    /// The reason in answer, log and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::EgressForbidden => Reason::EgressForbidden,
            Self::DestinationUnknown => Reason::DestinationUnknown,
            Self::Waypoint => Reason::Waypoint,
            Self::NetworkPolicy => Reason::NetworkPolicy,
            Self::PlaintextRefused { .. } => Reason::PlaintextRefused,
            Self::PolicyDenied { .. } => Reason::PolicyDenied,
            Self::NoPolicyAllows { .. } => Reason::NoPolicyAllows,
            Self::PolicyUnreadable { .. } => Reason::PolicyUnreadable,
            Self::PolicyUnknown => Reason::PolicyUnknown,
        }
    }

    /// The object that decided, for the log.
    pub fn policy(&self) -> Option<&PolicyName> {
        match self {
            Self::EgressForbidden
            | Self::DestinationUnknown
            | Self::Waypoint
            | Self::NetworkPolicy
            | Self::PolicyUnknown => None,
            Self::PlaintextRefused { policy }
            | Self::PolicyDenied { policy }
            | Self::NoPolicyAllows { policy }
            | Self::PolicyUnreadable { policy } => Some(policy),
        }
    }
}

/// Decides about a connection.
pub fn decide(snapshot: &Snapshot, identified: &Identified) -> Result<Permit, Denied> {
    let Identified { accepted, caller } = identified;
    by_network(snapshot, accepted)?;
    let facts = Permitted {
        side: accepted.captured.side,
        tree: Rc::clone(&accepted.captured.tree),
        origin: accepted.origin,
        destination: accepted.destination.clone(),
        caller: Arc::clone(caller),
    };
    Permit::issue(facts, |question| judge(snapshot, question))
}

/// What another cell of this node delivers crosses no interface where the network could refuse it. That cell asked what its
/// own tenant's NetworkPolicies let out; what the receiver's let in is asked here, and only that: nobody else's policies are
/// evaluated on this cell's time.
fn by_network(snapshot: &Snapshot, accepted: &Accepted) -> Result<(), Denied> {
    let Captured { arrival: Arrival::Delivered(delivered), tree, .. } = &accepted.captured else {
        return Ok(());
    };
    let Some(from) = &delivered.unseen_from else { return Ok(()) };
    match network::between(snapshot, Asked::Destination, from, &tree.workload, accepted.origin.destination) {
        Evaluated::Allowed => Ok(()),
        Evaluated::Denied | Evaluated::Unknown => Err(Denied::NetworkPolicy),
    }
}

impl Permit {
    /// The same permission for what the destination has become after a change of configuration.
    ///
    /// Decides again: a change that forbids it ends what was permitted before.
    pub fn renew(&self, snapshot: &Snapshot, destination: Destination) -> Result<Self, Denied> {
        let facts = Permitted {
            side: self.side,
            tree: Rc::clone(&self.tree),
            origin: self.origin,
            destination,
            caller: Arc::clone(&self.caller),
        };
        Self::issue(facts, |question| reconsider(snapshot, question))
    }

    /// The one place where permits are made.
    fn issue(
        facts: Permitted,
        judge: impl FnOnce(&Question<'_>) -> Result<(), Denied>,
    ) -> Result<Self, Denied> {
        judge(&Question {
            side: facts.side,
            workload: &facts.tree.workload,
            origin: facts.origin,
            destination: &facts.destination,
            caller: &facts.caller,
        })?;
        Ok(Self(Rc::new(facts)))
    }
}

/// What a decision is made on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Which way.
    pub side: Side,
    /// The tree's workload: who calls (outbound), or is called (inbound).
    pub workload: &'a Workload,
    /// The true ends.
    pub origin: Origin,
    /// What it is going to.
    pub destination: &'a Destination,
    /// Who calls.
    pub caller: &'a Caller,
}

/// Whether a connection that was permitted before still would be.
pub fn reconsider(snapshot: &Snapshot, question: &Question<'_>) -> Result<(), Denied> {
    unless_left(snapshot, question.workload, judge(snapshot, question))
}

/// A pod that left the configuration took no permission with it: what is under way there ends with its tree, in the time
/// that the tree is given. One that became another tenant's has not left.
fn unless_left(snapshot: &Snapshot, receiver: &Workload, judged: Result<(), Denied>) -> Result<(), Denied> {
    match judged {
        Err(Denied::PolicyUnknown) if !snapshot.is_here(&receiver.pod) => Ok(()),
        judged => judged,
    }
}

/// The rules themselves.
fn judge(snapshot: &Snapshot, question: &Question<'_>) -> Result<(), Denied> {
    let Question { side, workload, origin, destination, caller } = *question;
    match (side, destination) {
        (Side::Outbound, Destination::Outside)
            if snapshot.directory.guarded.contains(&origin.destination.ip().to_canonical()) =>
        {
            Err(Denied::DestinationUnknown)
        }
        (Side::Outbound, Destination::Outside) => {
            egress::admit_outside(snapshot, &workload.pod.namespace, origin.destination)
        }
        (Side::Outbound, destination) if destination.waypoint().is_some() => Err(Denied::Waypoint),
        // The endpoint of a Service is asked about when it is chosen.
        (Side::Outbound, _) => Ok(()),
        (Side::Inbound, _) => admit(snapshot, workload, caller, origin),
    }
}

/// Decides by the policies of a receiving workload of this tenant.
fn admit(snapshot: &Snapshot, receiver: &Workload, caller: &Caller, ends: Origin) -> Result<(), Denied> {
    let policy = snapshot.policies.of(&receiver.pod).ok_or(Denied::PolicyUnknown)?;
    decide_inbound(policy, &Inbound::new(caller.identity.as_ref(), ends))
}

/// What the receiver's policies say of a connection that the caller's own cell would deliver: the same as the receiver's
/// cell would. Proof that they were asked; only this module can make one.
#[derive(Debug, Clone)]
pub struct Admission(());

/// Whether a caller that was admitted before still would be.
pub fn reconsider_directly(
    snapshot: &Snapshot,
    receiver: &Workload,
    caller: &Caller,
    ends: Origin,
) -> Result<(), Denied> {
    unless_left(snapshot, receiver, admit(snapshot, receiver, caller, ends))
}

/// Asks the policies of a workload of the same tenant whether a caller that is permitted to go out may come in, at this
/// address and port.
pub fn admit_directly(
    snapshot: &Snapshot,
    permit: &Permit,
    receiver: &Workload,
    to: SocketAddr,
) -> Result<Admission, Denied> {
    let ends = Origin { destination: to, client: permit.origin.client };
    admit(snapshot, receiver, &permit.caller, ends).map(Admission)
}

#[cfg(test)]
mod tests;
