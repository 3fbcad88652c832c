//! Services beside each other and beside pods: a cluster address belongs to one Service.

use std::sync::Arc;

use super::{Linking, Owner, Refusal, as_service};
use crate::{finding::Reason, lower::Lowered};

pub(super) fn place(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Some(draft) = as_service(lowered) else { return Ok(()) };
    for (vip, place) in draft.vips.iter().zip(&draft.vip_places) {
        if let Some(owner) = linking.addresses.get(vip) {
            let message = format!("{vip} belongs to {owner} already: choose another address");
            return Err(Refusal { place: place.clone(), reason: Reason::Conflict, message });
        }
        if linking.node_addresses.contains(vip) {
            let message = format!("{vip} is the address of a node: choose another address");
            return Err(Refusal { place: place.clone(), reason: Reason::NotPermitted, message });
        }
    }
    for vip in &draft.vips {
        linking.addresses.insert(*vip, Owner::Service(draft.name.clone()));
    }
    linking.services.insert(draft.name.clone(), Arc::clone(lowered));
    Ok(())
}
