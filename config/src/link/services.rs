//! Services beside each other and beside pods: a cluster address belongs to one Service.

use std::{net::IpAddr, sync::Arc};

use super::{Linking, Owner, Refusal, as_service, claims};
use crate::{finding::Reason, lower::Lowered};

pub(super) fn place(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Some(draft) = as_service(lowered) else { return Ok(()) };
    for (vip, place) in draft.vips.iter().zip(&draft.vip_places) {
        // One that is in force stays so: whoever writes a pod may write any address as its node's. What the node itself
        // calls its own is not asked: proxies and caches of names give a node the very addresses of Services.
        if linking.is_a_nodes(*vip) && !has_already(linking, vip, lowered) {
            let message = format!("{vip} is the address of a node: choose another address");
            return Err(Refusal { place: place.clone(), reason: Reason::NotPermitted, message });
        }
    }
    claims::take(linking, lowered)?;
    for vip in &draft.vips {
        linking.addresses.insert(*vip, Owner::Service(draft.name.clone()));
    }
    linking.services.insert(draft.name.clone(), Arc::clone(lowered));
    Ok(())
}

fn has_already(linking: &Linking, vip: &IpAddr, lowered: &Lowered) -> bool {
    let holder = linking.reserved.get(&claims::Thing::Address(*vip));
    holder.is_some_and(|holder| holder.object == lowered.object)
}
