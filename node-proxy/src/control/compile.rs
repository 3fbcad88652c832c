//! Compiles the model into snapshots, one per tenant, sharing what is common.
//!
//! Pure and deterministic, on the control thread. It must never fail: what cannot be compiled was rejected when it was
//! lowered; and where that was not noticed, a condition that cannot be compiled matches nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use config::{
    model::{Budget, Here, Mesh, Tenant},
    name::{Namespace, TenantId},
};

use self::{
    clusters::{Clusters, Touched},
    services::Services,
    tables::Tables,
    workloads::Workloads,
};
use super::{differences, names::Answers};
use crate::snapshot::{ConsumerRoutes, Directory, Snapshot};

mod clusters;
mod edits;
mod guarded;
mod matchers;
mod narrow;
mod policies;
mod protections;
mod rules;
mod seen;
mod services;
mod tables;
#[cfg(test)]
mod tests;
mod told;
mod workloads;

pub use self::{protections::Protections, told::Told};

/// Compiles every tenant of a mesh, from nothing. A running daemon keeps a [`Compiler`].
pub fn compile(mesh: &Mesh) -> BTreeMap<TenantId, Arc<Snapshot>> {
    Compiler::default().compile(mesh)
}

/// The mesh, in which no tenant has a budget.
fn unbudgeted(mesh: &Mesh) -> Mesh {
    let mut mesh = mesh.clone();
    mesh.tenants.values_mut().for_each(|tenant| Arc::make_mut(tenant).budget = Budget::default());
    mesh
}

/// Compiles one version of a mesh after the other and re-uses what did not change.
///
/// What did not change is known by `Arc::ptr_eq` on the mesh's own objects: sources must share them from one version to
/// the next. An unchanged object then costs one comparison; maps that hold a changed one are copied, their entries shared.
#[derive(Debug, Default)]
pub struct Compiler {
    clusters: Clusters,
    tables: Tables,
    services: Services,
    workloads: Workloads,
    policies: policies::Compiled,
    guarded: Arc<HashSet<IpAddr>>,
    directory: Arc<Directory>,
    snapshots: BTreeMap<TenantId, Arc<Snapshot>>,
    node_addresses: Arc<[IpAddr]>,
    answers: Answers,
    /// Whether cells are to be had from it that compile for themselves.
    tells: bool,
    /// Whether no tenant is held to its budget.
    is_unbudgeted: bool,
}

impl Compiler {
    /// A compiler that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A compiler for a node with these addresses.
    pub fn for_node(addresses: Arc<[IpAddr]>) -> Self {
        Self { node_addresses: addresses, tells: true, ..Self::default() }
    }

    /// The same, of a node that is there. To be said before anything is compiled.
    pub fn seen_from(self, here: Here) -> Self {
        Self { clusters: Clusters::seen_from(here), ..self }
    }

    /// The same, by which no tenant has a budget whatever its objects say: for measuring what budgets cost.
    pub fn without_budgets(self) -> Self {
        Self { is_unbudgeted: true, ..self }
    }

    /// Takes over what was found for hosts of ServiceEntries, for what is compiled from now on.
    pub fn know(&mut self, answers: Answers) {
        self.answers = answers;
    }

    /// Compiles every tenant of a mesh. A tenant that would see no change gets the very snapshot it has.
    pub fn compile(&mut self, mesh: &Mesh) -> BTreeMap<TenantId, Arc<Snapshot>> {
        let Touched { mut services, addresses } = self.clusters.update(&mesh.services);
        let differ = !services.is_empty();
        services.extend(self.tables.update(&mesh.routes, &self.clusters, &services));
        self.services.update(&self.clusters, &self.tables, &services);
        let workloads = self.workloads.update(&mesh.workloads, &self.clusters, addresses);
        self.policies.update(mesh, &self.answers, policies::Others { services: differ, workloads });
        self.guarded = guarded::update(mesh, &self.guarded);
        self.update_directory();
        let unbudgeted = self.is_unbudgeted.then(|| unbudgeted(mesh));
        self.snapshots = self.snapshots(unbudgeted.as_ref().unwrap_or(mesh));
        self.snapshots.clone()
    }

    fn update_directory(&mut self) {
        let new = Directory {
            services: self.services.by_address(),
            workloads: self.workloads.by_address(),
            endpoints: self.clusters.endpoints(),
            node_addresses: Arc::clone(&self.node_addresses),
            network: self.policies.network(),
            guarded: Arc::clone(&self.guarded),
        };
        let old = &self.directory;
        let same = Arc::ptr_eq(&new.services, &old.services)
            && Arc::ptr_eq(&new.workloads, &old.workloads)
            && Arc::ptr_eq(&new.endpoints, &old.endpoints)
            && Arc::ptr_eq(&new.network, &old.network)
            && Arc::ptr_eq(&new.guarded, &old.guarded);
        if !same {
            self.directory = Arc::new(new);
        }
    }

    fn snapshots(&self, mesh: &Mesh) -> BTreeMap<TenantId, Arc<Snapshot>> {
        let mut consumers = self.consumer_routes(&mesh.membership);
        let compile = |(id, tenant): (&TenantId, &Arc<Tenant>)| {
            let own = consumers.remove(id).unwrap_or_default();
            (id.clone(), self.snapshot(mesh, tenant, own))
        };
        mesh.tenants.iter().map(compile).collect()
    }

    fn snapshot(&self, mesh: &Mesh, tenant: &Tenant, own: ConsumerRoutes) -> Arc<Snapshot> {
        let id = &tenant.id;
        let (policies, external) = (self.policies.of(id), self.policies.external(id));
        if let Some(before) = self.snapshots.get(id) {
            let same = Arc::ptr_eq(&before.directory, &self.directory)
                && before.egress == tenant.egress
                && before.isolation == tenant.isolation
                && before.budget == tenant.budget
                && before.policies.is_same(&policies)
                && before.external.is_same(&external)
                && same_tables(&before.consumer_routes, &own);
            if same {
                return Arc::clone(before);
            }
        }
        Arc::new(Snapshot {
            version: mesh.version,
            tenant: id.clone(),
            isolation: tenant.isolation,
            egress: tenant.egress,
            budget: tenant.budget,
            directory: Arc::clone(&self.directory),
            consumer_routes: own,
            policies,
            external,
            source: self.source(mesh, tenant),
        })
    }

    fn consumer_routes(
        &self,
        membership: &BTreeMap<Namespace, TenantId>,
    ) -> HashMap<TenantId, ConsumerRoutes> {
        let mut tenants: HashMap<TenantId, ConsumerRoutes> = HashMap::new();
        for (caller, service, port, table) in self.tables.consumers() {
            let Some(tenant) = membership.get(caller) else { continue };
            let routes = &mut tenants.entry(tenant.clone()).or_default().0;
            let ports = routes.entry(caller.clone()).or_default().entry(service.clone()).or_default();
            ports.insert(port, Arc::clone(table));
        }
        tenants
    }
}

/// Whether two sets of consumer routes hold the very same tables.
fn same_tables(one: &ConsumerRoutes, other: &ConsumerRoutes) -> bool {
    let count = |routes: &ConsumerRoutes| -> usize {
        routes.0.values().flat_map(HashMap::values).map(HashMap::len).sum()
    };
    count(one) == count(other)
        && one.0.iter().all(|(caller, services)| {
            services.iter().all(|(service, ports)| {
                ports.iter().all(|(port, table)| {
                    other.table(caller, service, *port).is_some_and(|there| Arc::ptr_eq(there, table))
                })
            })
        })
}
