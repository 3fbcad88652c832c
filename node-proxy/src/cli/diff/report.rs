//! What a change is for each tenant: the same for people and for programs.
//!
//! Here is only put together and sorted by whom it concerns; what differs was found out by `config::diff` and
//! `explain::permissions`. It must never leave a tenant out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use config::{
    diff::{
        self, Difference, EndpointsChange, ObjectChange, RoutesChange, State, TermsChange, What,
        WorkloadChange, owner_of,
    },
    finding::Finding,
    model::Mesh,
    name::{Namespace, ServiceName, TenantId},
};
use serde::Serialize;

use crate::explain::permissions::{self, PermissionChange};

/// What a change is for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// Whether anything differs.
    pub(super) differs: bool,
    /// What it is held against.
    pub(super) before: String,
    /// The directory that it is read as if it stood in.
    pub(super) read_as: String,
    /// The directory that it would become.
    pub(super) after: String,
    /// For whom something changes.
    pub(super) tenants: Vec<ForTenant>,
    /// For whom nothing does.
    pub(super) unaffected: Vec<Unaffected>,
    /// What is said of no object of anybody.
    pub(super) findings: Vec<Finding>,
    /// Decisions about pairs of workloads that were compared.
    pub(super) permissions_compared: usize,
    /// Whether those were all that could differ.
    pub(super) permissions_complete: bool,
}

/// What changes for one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct ForTenant {
    /// Its name, or `ns/NAMESPACE`.
    pub(super) tenant: String,
    /// Its objects.
    pub(super) objects: Vec<ObjectChange>,
    /// Its workloads.
    pub(super) workloads: Vec<WorkloadChange>,
    /// What it may, by others' word.
    pub(super) terms: Vec<TermsChange>,
    /// Its Services' endpoints.
    pub(super) endpoints: Vec<EndpointsChange>,
    /// Its routes.
    pub(super) routes: Vec<RoutesChange>,
    /// Whom its workloads may call, and by whom they may be called.
    pub(super) permissions: Vec<PermissionChange>,
    /// What would be rejected of it, kept as it is, or cannot work as written.
    pub(super) findings: Vec<Finding>,
}

/// A tenant that nothing of its own changes for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Unaffected {
    /// Its name, or `ns/NAMESPACE`.
    pub(super) tenant: String,
    /// Services of others that its calls are routed to in another way, if it calls them.
    pub(super) calls: Vec<String>,
}

impl Report {
    /// Tells what differs, beside what is found in the files of after.
    pub(super) fn between(before: State<'_>, after: State<'_>, findings: Vec<Finding>) -> Self {
        let Difference { objects, workloads, terms, endpoints, routes } = diff::between(before, after);
        let permissions = permissions::between(before.mesh, after.mesh);
        let rerouted: BTreeSet<ServiceName> = routes
            .iter()
            .filter(|change| change.callers.is_none())
            .map(|change| change.service.clone())
            .collect();
        let mut sorted = Sorted::default();
        objects.into_iter().for_each(|change| sorted.of(&change.owner.clone()).objects.push(change));
        workloads.into_iter().for_each(|change| sorted.of(&change.owner.clone()).workloads.push(change));
        terms.into_iter().for_each(|change| sorted.of(&change.owner.clone()).terms.push(change));
        endpoints.into_iter().for_each(|change| sorted.of(&change.owner.clone()).endpoints.push(change));
        routes.into_iter().for_each(|change| sorted.of(&change.owner.clone()).routes.push(change));
        for change in permissions.changes {
            let owners: BTreeSet<TenantId> =
                change.caller_owner.iter().chain([&change.receiver_owner]).cloned().collect();
            owners.iter().for_each(|owner| sorted.of(owner).permissions.push(change.clone()));
        }
        let mut of_nobody = Vec::new();
        for finding in findings {
            match finding.object.as_ref().and_then(|object| owner_of(after.mesh, object)) {
                Some(owner) => sorted.of(&owner).findings.push(finding),
                None => of_nobody.push(finding),
            }
        }
        let all: BTreeSet<&TenantId> = before.mesh.tenants.keys().chain(after.mesh.tenants.keys()).collect();
        let unaffected = all.into_iter().filter(|tenant| !sorted.0.contains_key(*tenant));
        let unaffected = unaffected.map(|tenant| Unaffected {
            tenant: tenant.to_string(),
            calls: rerouted_for(after.mesh, tenant, &rerouted),
        });
        Self {
            unaffected: unaffected.collect(),
            differs: !sorted.0.is_empty() || !of_nobody.is_empty(),
            before: String::new(),
            read_as: String::new(),
            after: String::new(),
            tenants: sorted.0.into_values().collect(),
            findings: of_nobody,
            permissions_compared: permissions.compared,
            permissions_complete: permissions.is_complete,
        }
    }

    /// Says what was compared, and where files are: they were read as if they were in the directory of before.
    pub(super) fn name(&mut self, before: &str, after: &Path, read_as: &Path) {
        (self.before, self.after) = (before.to_owned(), after.display().to_string());
        self.read_as = read_as.display().to_string();
        let truly = |path: &Path| -> Option<PathBuf> { Some(after.join(path.strip_prefix(read_as).ok()?)) };
        let of_tenants = self.tenants.iter_mut().flat_map(|tenant| &mut tenant.findings);
        for finding in of_tenants.chain(&mut self.findings) {
            if let Some(path) = truly(&finding.file) {
                finding.file = path.into();
            }
        }
        let objects = self.tenants.iter_mut().flat_map(|tenant| &mut tenant.objects);
        for object in objects.filter(|object| object.what != What::Removed) {
            if let Some(path) = truly(&object.file) {
                object.file = path;
            }
        }
    }
}

/// What changes, by whom it concerns.
#[derive(Default)]
struct Sorted(BTreeMap<TenantId, ForTenant>);

impl Sorted {
    fn of(&mut self, tenant: &TenantId) -> &mut ForTenant {
        let new = || ForTenant { tenant: tenant.to_string(), ..ForTenant::default() };
        self.0.entry(tenant.clone()).or_insert_with(new)
    }
}

/// Those of some Services that callers of a tenant have no routes of their own for.
fn rerouted_for(mesh: &Mesh, tenant: &TenantId, rerouted: &BTreeSet<ServiceName>) -> Vec<String> {
    let Some(tenant) = mesh.tenants.get(tenant) else { return Vec::new() };
    let has_own = |namespace: &Namespace, service: &ServiceName| {
        let mut routes = mesh.routes.values().filter(|route| route.name.namespace == *namespace);
        routes.any(|route| route.parents.iter().any(|parent| parent.service == *service))
    };
    let concerned =
        |service: &&ServiceName| tenant.namespaces.iter().any(|namespace| !has_own(namespace, service));
    rerouted.iter().filter(concerned).map(ToString::to_string).collect()
}
