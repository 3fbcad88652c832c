//! Policies beside the objects they name. A policy that names nothing that is there is still in force.

use std::sync::Arc;

use super::{Linking, Refusal};
use crate::{
    lower::{AuthorizationDraft, Draft, Lowered},
    model::Scope,
};

pub(super) fn place(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    match &lowered.draft {
        Draft::Authorization(draft) => authorization(linking, lowered, draft),
        Draft::PeerAuthentication(policy) => {
            let policy = policy.clone();
            linking.mesh.peer_authentication.insert(policy.name.clone(), Arc::new(policy));
        }
        Draft::Network(policy) => {
            let policy = policy.clone();
            linking.mesh.network_policies.insert(policy.name.clone(), Arc::new(policy));
        }
        Draft::ServiceEntry(entry) if !entry.addresses.is_empty() => {
            linking.mesh.service_entries.insert(entry.name.clone(), Arc::new(entry.clone()));
        }
        _ => {}
    }
    Ok(())
}

fn authorization(linking: &mut Linking, lowered: &Arc<Lowered>, draft: &AuthorizationDraft) {
    let Some(policy) = &draft.policy else { return };
    if let (Scope::Services(services), Some(place)) = (&policy.scope, &draft.targets_place) {
        for service in services {
            if linking.services.contains_key(service) {
                continue;
            }
            let message = format!("there is no Service {service}: add it, or correct the name");
            linking.dangling(lowered, place, message);
        }
    }
    linking.mesh.authorization.insert(policy.name.clone(), Arc::new(policy.clone()));
}
