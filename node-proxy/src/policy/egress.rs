//! Where a tenant that is kept to the mesh may go all the same: what a ServiceEntry of its own, or of the root namespace, names.
//!
//! Asked of every address that is dialled and is no workload's: the one the client dialled, and the endpoint that was chosen for
//! it. Who else calls that address an endpoint must never open it: a Service is anybody's word.

use std::{net::SocketAddr, sync::Arc};

use config::{
    model::{Egress, ServiceEntry},
    name::Namespace,
};

use super::Denied;
use crate::snapshot::{Snapshot, canonical};

/// Whether callers of a namespace may go to an address outside the mesh.
pub fn admit_outside(snapshot: &Snapshot, caller: &Namespace, to: SocketAddr) -> Result<(), Denied> {
    way_out(snapshot, caller, to).map(drop)
}

/// By which entry callers of a namespace may go to an address outside the mesh; `None` where they may go anywhere.
pub fn way_out<'a>(
    snapshot: &'a Snapshot,
    caller: &Namespace,
    to: SocketAddr,
) -> Result<Option<&'a Arc<ServiceEntry>>, Denied> {
    match snapshot.egress {
        Egress::Any => Ok(None),
        Egress::Mesh | Egress::Doubtful => {
            let to = canonical(to);
            snapshot.external.entry(caller, to.ip(), to.port()).map(Some).ok_or(Denied::EgressForbidden)
        }
    }
}
