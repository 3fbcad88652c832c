//! In what a tenant's cell runs: what its Tenant says, as far as its pods can have certificates there.
//!
//! It must never let a cell speak in the clear that would not as a thread.

use config::{model::Isolation, name::TenantId};

use crate::identity::{authority::remote::Terms, credentials::Sources};

/// Why a cell has made room that nothing was wrong with.
pub(in crate::forest) const CHANGES_CLASS: &str = "changes its isolation class";

/// Whether the source of certificates has any for a cell in a process of its own. SPIRE's agent has not: it would give such a
/// process those of all pods of the node.
pub(super) fn can_be_apart(identity: &Sources) -> bool {
    Terms::of(&*identity.authority).is_some()
}

/// The class of a cell whose tenant wants this one.
pub(super) fn given(wanted: Isolation, can_be_apart: bool) -> Isolation {
    if can_be_apart { wanted } else { Isolation::Thread }
}

/// Says that a tenant does not get the class that it wants, if it does not.
pub(super) fn tell(tenant: &TenantId, wanted: Isolation, can_be_apart: bool) {
    if given(wanted, can_be_apart) != wanted {
        tracing::warn!(
            %tenant,
            remedy = "run the daemon with another --ca, or take `isolation: process` out of the Tenant",
            "its cell stays a thread: with this source of certificates a process of its own would have none"
        );
    }
}
