//! Compiles the model into snapshots, one per tenant, sharing what is common.
//!
//! Pure and deterministic. It must never fail: what cannot be compiled was rejected when it was lowered.

use std::{collections::BTreeMap, sync::Arc};

use config::{model::Mesh, name::TenantId};

use crate::snapshot::Snapshot;

/// Compiles every tenant of a mesh.
pub fn compile(mesh: &Mesh) -> BTreeMap<TenantId, Arc<Snapshot>> {
    let snapshot = |id: &TenantId| {
        let mut snapshot = Snapshot::empty(id.clone());
        snapshot.version = mesh.version;
        Arc::new(snapshot)
    };
    mesh.tenants.keys().map(|id| (id.clone(), snapshot(id))).collect()
}
