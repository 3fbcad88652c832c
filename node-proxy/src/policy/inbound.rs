//! Whether a connection may reach a workload: PeerAuthentication, then AuthorizationPolicies that deny, then those that allow.
//!
//! The same decision wherever it is made: in the receiver's cell for what arrives there, in the caller's for what it
//! would deliver by itself. Pure.

use super::{Denied, authorization};
use crate::snapshot::policies::InboundPolicy;

pub use super::authorization::Inbound;

/// Decides by the policies of the receiving workload.
pub fn decide_inbound(policy: &InboundPolicy, inbound: &Inbound<'_>) -> Result<(), Denied> {
    if inbound.identity.is_none()
        && let Some(by) = policy.peers.strict_at(inbound.destination.port())
    {
        return Err(Denied::PlaintextRefused { policy: by.clone() });
    }
    let matches = |policy: &&std::sync::Arc<_>| authorization::matches(policy, inbound);
    if let Some(denies) = policy.deny.iter().find(matches) {
        let policy = denies.name.clone();
        return Err(match denies.action {
            config::model::Action::Unreadable => Denied::PolicyUnreadable { policy },
            _ => Denied::PolicyDenied { policy },
        });
    }
    match policy.allow.first() {
        Some(first) if !policy.allow.iter().any(|allows| matches(&allows)) => {
            Err(Denied::NoPolicyAllows { policy: first.name.clone() })
        }
        Some(_) => Ok(()),
        None => by_doubtful(policy, matches),
    }
}

/// Each of them may be the only one that allows, or none of them may be about this workload: what one of them alone
/// would refuse is refused. Where another policy is known to allow, they would only add to what it allows.
fn by_doubtful(
    policy: &InboundPolicy,
    matches: impl Fn(&&std::sync::Arc<config::model::AuthorizationPolicy>) -> bool,
) -> Result<(), Denied> {
    match policy.doubtful.iter().find(|doubtful| !matches(doubtful)) {
        Some(refuses) => Err(Denied::NoPolicyAllows { policy: refuses.name.clone() }),
        None => Ok(()),
    }
}
