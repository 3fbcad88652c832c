//! Where a tenant that is kept to the mesh may go all the same: what a ServiceEntry of its own, or of the root namespace, names.
//!
//! Asked of every address that is dialled and is no workload's: the one the client dialled, and the endpoint that was chosen for
//! it. Who else calls that address an endpoint must never open it: a Service is anybody's word.

use std::net::SocketAddr;

use config::{model::Egress, name::Namespace};

use super::Denied;
use crate::snapshot::{Snapshot, canonical};

/// Whether callers of a namespace may go to an address outside the mesh.
pub fn admit_outside(snapshot: &Snapshot, caller: &Namespace, to: SocketAddr) -> Result<(), Denied> {
    match snapshot.egress {
        Egress::Any => Ok(()),
        Egress::Mesh => {
            let to = canonical(to);
            let named = snapshot.external.entry(caller, to.ip(), to.port());
            named.map(|_| ()).ok_or(Denied::EgressForbidden)
        }
    }
}
