//! What must not be taken for outside.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use config::model::{Mesh, Service};

/// What a mesh guards, as the very one that is known if it is the same: with the addresses of Services that name a waypoint.
pub(super) fn update(mesh: &Mesh, known: &Arc<HashSet<IpAddr>>) -> Arc<HashSet<IpAddr>> {
    let is_behind = |service: &&Arc<Service>| service.waypoint.is_some();
    let behind = mesh.services.values().filter(is_behind).flat_map(|service| &service.vips);
    let now: HashSet<IpAddr> = mesh.guarded.iter().chain(behind).map(IpAddr::to_canonical).collect();
    if now == **known { Arc::clone(known) } else { Arc::new(now) }
}
