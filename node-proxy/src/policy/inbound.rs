//! Whether a connection may reach a workload: PeerAuthentication, then AuthorizationPolicies that deny, then those that allow.
//!
//! The same decision wherever it is made: in the receiver's cell for what arrives there, in the caller's for what it
//! would deliver by itself, and where somebody asks why. Pure.

use std::sync::Arc;

use config::{
    model::{Action, AuthorizationPolicy},
    name::PolicyName,
};

use super::{Denied, authorization};
use crate::snapshot::policies::InboundPolicy;

pub use super::authorization::{Inbound, Matched};

/// On what ground a connection is let in or refused. Borrows: who wants the verdict alone pays for nothing else.
#[derive(Debug, Clone, Copy)]
pub enum Ground<'a> {
    /// Nothing that is about the workload says who may come in.
    Open,
    /// This policy allows it, by what of it matches.
    Allowed(&'a AuthorizationPolicy, Matched),
    /// This PeerAuthentication takes no plaintext.
    Plaintext(&'a PolicyName),
    /// This policy denies it, by what of it matches.
    Denied(&'a AuthorizationPolicy, Matched),
    /// There are policies that allow, of which this is the first, and none allows it.
    NoneAllows(&'a AuthorizationPolicy),
}

impl Ground<'_> {
    /// Whether it is let in.
    pub fn verdict(&self) -> Result<(), Denied> {
        match self {
            Self::Open | Self::Allowed(..) => Ok(()),
            Self::Plaintext(by) => Err(Denied::PlaintextRefused { policy: (*by).clone() }),
            Self::Denied(policy, _) if policy.action == Action::Unreadable => {
                Err(Denied::PolicyUnreadable { policy: policy.name.clone() })
            }
            Self::Denied(policy, _) => Err(Denied::PolicyDenied { policy: policy.name.clone() }),
            Self::NoneAllows(first) => Err(Denied::NoPolicyAllows { policy: first.name.clone() }),
        }
    }
}

/// Decides by the policies of the receiving workload.
pub fn decide_inbound(policy: &InboundPolicy, inbound: &Inbound<'_>) -> Result<(), Denied> {
    weigh_inbound(policy, inbound).verdict()
}

/// The same decision, with its ground.
pub fn weigh_inbound<'a>(policy: &'a InboundPolicy, inbound: &Inbound<'_>) -> Ground<'a> {
    if inbound.identity.is_none()
        && let Some(by) = policy.peers.strict_at(inbound.destination.port())
    {
        return Ground::Plaintext(by);
    }
    let matching = |policy: &'a Arc<AuthorizationPolicy>| {
        authorization::matching(policy, inbound).map(|matched| (&**policy, matched))
    };
    if let Some((policy, matched)) = policy.deny.iter().find_map(matching) {
        return Ground::Denied(policy, matched);
    }
    match policy.allow.first() {
        Some(first) => match policy.allow.iter().find_map(matching) {
            Some((policy, matched)) => Ground::Allowed(policy, matched),
            None => Ground::NoneAllows(first),
        },
        None => by_doubtful(policy, matching),
    }
}

/// Each of them may be the only one that allows, or none of them may be about this workload: what one of them alone
/// would refuse is refused. Where another policy is known to allow, they would only add to what it allows.
fn by_doubtful<'a>(
    policy: &'a InboundPolicy,
    matching: impl Fn(&'a Arc<AuthorizationPolicy>) -> Option<(&'a AuthorizationPolicy, Matched)>,
) -> Ground<'a> {
    let mut ground = Ground::Open;
    for doubtful in &policy.doubtful {
        match matching(doubtful) {
            Some((policy, matched)) => ground = Ground::Allowed(policy, matched),
            None => return Ground::NoneAllows(doubtful),
        }
    }
    ground
}
