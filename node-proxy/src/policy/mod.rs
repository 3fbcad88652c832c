//! Stage 4: whether a connection may go on. The only maker of a [`Permit`], which every later stage asks for.
//!
//! Decisions are pure functions over the snapshot. Nothing may be connected before this stage has said yes.

use std::{rc::Rc, sync::Arc};

use config::model::Egress;
use ebpf_redirect::{Origin, Side};

use crate::{
    capture::Tree,
    identity::{Caller, Identified},
    snapshot::Destination,
    telemetry::Reason,
};

pub mod early;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The tenant may not connect to anything outside the mesh.
    #[error("the tenant's egress is limited to the mesh")]
    EgressForbidden,
}

impl Denied {
    /// The reason in answer, log and metrics.
    pub fn reason(self) -> Reason {
        match self {
            Self::EgressForbidden => Reason::EgressForbidden,
        }
    }
}

/// Decides about a connection.
pub fn decide(egress: Egress, identified: &Identified) -> Result<Permit, Denied> {
    let Identified { accepted, caller } = identified;
    Permit::issue(
        egress,
        Permitted {
            side: accepted.captured.side,
            tree: Rc::clone(&accepted.captured.tree),
            origin: accepted.origin,
            destination: accepted.destination.clone(),
            caller: Arc::clone(caller),
        },
    )
}

impl Permit {
    /// The same permission for what the destination has become after a change of configuration.
    ///
    /// Decides again: a change that forbids the destination ends what was permitted before.
    pub fn renew(&self, egress: Egress, destination: Destination) -> Result<Self, Denied> {
        Self::issue(
            egress,
            Permitted {
                side: self.side,
                tree: Rc::clone(&self.tree),
                origin: self.origin,
                destination,
                caller: Arc::clone(&self.caller),
            },
        )
    }

    /// The one place where permits are made.
    fn issue(egress: Egress, facts: Permitted) -> Result<Self, Denied> {
        judge(egress, facts.side, &facts.destination)?;
        Ok(Self(Rc::new(facts)))
    }
}

/// Whether a connection that was permitted before still would be, now that its destination is this.
pub fn reconsider(egress: Egress, side: Side, destination: &Destination) -> Result<(), Denied> {
    judge(egress, side, destination)
}

/// The rules themselves.
fn judge(egress: Egress, side: Side, destination: &Destination) -> Result<(), Denied> {
    match (side, egress, destination) {
        (Side::Outbound, Egress::Mesh, Destination::Outside) => Err(Denied::EgressForbidden),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
