//! A cell that compiles for itself: what it is told, and what it makes of that.
//!
//! Its snapshot must decide as the daemon's own of the same version would.

use std::{net::IpAddr, sync::Arc};

use config::{
    model::{Isolation, Mesh, ServiceEntry, Tenant},
    name::{HostName, TenantId},
    part,
};

use super::Compiler;
use crate::snapshot::{Snapshot, Source};

/// The compiler of one tenant's cell, in a process of its own.
#[derive(Debug)]
pub struct Told {
    tenant: TenantId,
    compiler: Compiler,
    /// Of the last version.
    mesh: Mesh,
}

impl Told {
    /// Of a tenant, on a node with these addresses.
    pub fn new(tenant: TenantId, node_addresses: &Arc<[IpAddr]>) -> Self {
        let compiler = Compiler { tells: false, ..Compiler::for_node(Arc::clone(node_addresses)) };
        Self { tenant, compiler, mesh: Mesh::default() }
    }

    /// The snapshot of what was told; an empty one where it says nothing of the tenant.
    pub fn compile(&mut self, source: Source) -> Arc<Snapshot> {
        let Source { mut mesh, found, here, node_addresses } = source;
        // Once: before its first configuration a cell is told of no node. A node without a name has addresses all the same, from which
        // its probes come.
        if here != *self.compiler.clusters.here() || node_addresses != self.compiler.node_addresses {
            let compiler = Compiler::for_node(node_addresses).seen_from(here);
            self.compiler = Compiler { tells: false, ..compiler };
        }
        part::adopt(&mut mesh, &self.mesh);
        self.compiler.know(found);
        let mut compiled = self.compiler.compile(&mesh);
        self.mesh = mesh;
        compiled.remove(&self.tenant).unwrap_or_else(|| Arc::new(Snapshot::empty(self.tenant.clone())))
    }
}

impl Compiler {
    /// What a tenant's cell compiles from that is a process of its own. Of a tenant that had one, too: it may still carry
    /// connections of before, and has to hear what is taken from them.
    pub(super) fn source(&self, mesh: &Mesh, tenant: &Tenant) -> Option<Arc<Source>> {
        let had_one = || self.snapshots.get(&tenant.id).is_some_and(|before| before.source.is_some());
        let is_told = self.tells && (tenant.isolation == Isolation::Process || had_one());
        is_told.then(|| {
            let mesh = part::of(mesh, &tenant.id);
            let wanted = |(owner, host): &(TenantId, HostName)| {
                let is_of = |entry: &ServiceEntry| {
                    mesh.membership.get(&entry.name.namespace) == Some(owner) && entry.hosts.contains(host)
                };
                mesh.service_entries.values().any(|entry| is_of(entry))
            };
            let found = self.answers.iter().filter(|(key, _)| wanted(key));
            let found = found.map(|(key, addresses)| (key.clone(), addresses.clone())).collect();
            let here = self.clusters.here().clone();
            Arc::new(Source { mesh, node_addresses: Arc::clone(&self.node_addresses), here, found })
        })
    }
}
