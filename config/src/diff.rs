//! What differs between two states of a configuration, for whom: objects with their fields, workloads, endpoints, routes.
//!
//! Pure. Objects are compared as they were lowered, so that a line that moved, or another way of writing the same, is no
//! difference. What differences do to permissions is not said here: that is decided where connections are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use serde::Serialize;

use crate::{
    finding::ObjectRef,
    lower::Lowered,
    model::{Endpoint, HttpRoute, Mesh, Service, Workload},
    name::{Name, Namespace, PodName, RouteName, ServiceName, TenantId},
    object::Kind,
    store::Basis,
};

pub use self::fields::{FieldChange, Fields};

mod fields;

/// One state of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// What all objects together say.
    pub mesh: &'a Mesh,
    /// The objects.
    pub basis: &'a Basis,
}

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Objects, by kind and name.
    pub objects: Vec<ObjectChange>,
    /// Workloads, by name.
    pub workloads: Vec<WorkloadChange>,
    /// What tenants may, where no object of theirs says so.
    pub terms: Vec<TermsChange>,
    /// Who answers for Service ports that are there before and after.
    pub endpoints: Vec<EndpointsChange>,
    /// By which routes Services are called.
    pub routes: Vec<RoutesChange>,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is new.
    Added,
    /// It is there no more.
    Removed,
    /// It is another than it was.
    Changed,
}

/// An object that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectChange {
    /// Which.
    pub object: ObjectRef,
    /// Whose it is.
    #[serde(skip)]
    pub owner: TenantId,
    /// What became of it.
    pub what: What,
    /// Where it is written; where it was, if it is gone.
    pub file: PathBuf,
    /// The line in that file.
    pub line: u32,
    /// What differs in it, in the words of what it was read as.
    #[serde(flatten)]
    pub fields: Fields,
}

/// A workload that comes, goes, or is no longer who it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkloadChange {
    /// The pod.
    #[serde(serialize_with = "as_text")]
    pub pod: PodName,
    /// Whose it is.
    #[serde(skip)]
    pub owner: TenantId,
    /// Whether it comes, goes, or is planted anew: what it has then ends.
    pub what: What,
}

/// What a tenant may, and how it is kept, where that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TermsChange {
    /// Whose.
    #[serde(skip)]
    pub owner: TenantId,
    /// What differs.
    #[serde(flatten)]
    pub fields: Fields,
}

/// Who answers for a Service port, where that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointsChange {
    /// The Service.
    #[serde(serialize_with = "as_text")]
    pub service: ServiceName,
    /// Whose it is.
    #[serde(skip)]
    pub owner: TenantId,
    /// Its port.
    pub port: u16,
    /// Those that new requests may go to.
    pub added: BTreeSet<SocketAddr>,
    /// Those that they may go to no more.
    pub removed: BTreeSet<SocketAddr>,
}

/// By which routes a Service is called, where that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoutesChange {
    /// The Service.
    #[serde(serialize_with = "as_text")]
    pub service: ServiceName,
    /// Whose routes they are.
    #[serde(skip)]
    pub owner: TenantId,
    /// Callers of which namespace alone (a consumer's routes); all of them where it is none (the producer's).
    pub callers: Option<Namespace>,
    /// The routes that came, went, or say something else.
    #[serde(serialize_with = "as_texts")]
    pub routes: BTreeSet<RouteName>,
}

/// Tells what differs.
pub fn between(before: State<'_>, after: State<'_>) -> Difference {
    let objects = objects(before, after);
    let terms = terms(before.mesh, after.mesh, &objects);
    Difference {
        objects,
        workloads: workloads(before.mesh, after.mesh),
        terms,
        endpoints: endpoints(before.mesh, after.mesh),
        routes: routes(before.mesh, after.mesh),
    }
}

/// The tenant of a namespace; by itself, where the mesh knows nothing of it.
pub fn tenant_of(mesh: &Mesh, namespace: &Namespace) -> TenantId {
    mesh.membership.get(namespace).cloned().unwrap_or_else(|| TenantId::Namespace(namespace.clone()))
}

/// Whose an object is, as it names itself: its namespace's tenant; of a Tenant, that tenant.
pub fn owner_of(mesh: &Mesh, object: &ObjectRef) -> Option<TenantId> {
    let namespace = match Kind::of(object) {
        Some(Kind::Tenant) => return Name::try_from(&*object.name).ok().map(TenantId::Tenant),
        Some(Kind::Namespace) => &object.name,
        _ => object.namespace.as_ref()?,
    };
    Some(tenant_of(mesh, &Namespace::try_from(&**namespace).ok()?))
}

fn objects(before: State<'_>, after: State<'_>) -> Vec<ObjectChange> {
    let (old, new) = (before.basis.objects(), after.basis.objects());
    let names: BTreeSet<&ObjectRef> = old.keys().chain(new.keys()).collect();
    let change = |object: &ObjectRef| {
        let (was, is) = (old.get(object), new.get(object));
        let (what, fields) = compare(was, is)?;
        let (mesh, version) = is.map_or((before.mesh, was), |is| (after.mesh, Some(is)));
        let version = version?;
        Some(ObjectChange {
            object: object.clone(),
            owner: owner_of(mesh, object)?,
            what,
            file: version.file.to_path_buf(),
            line: version.at.line,
            fields,
        })
    };
    names.into_iter().filter_map(change).collect()
}

fn compare(was: Option<&Arc<Lowered>>, is: Option<&Arc<Lowered>>) -> Option<(What, Fields)> {
    match (was, is) {
        (None, Some(_)) => Some((What::Added, Fields::default())),
        (Some(_), None) => Some((What::Removed, Fields::default())),
        (Some(was), Some(is)) if was.draft != is.draft => {
            let fields = fields::of_drafts(&was.draft, &is.draft);
            (!fields.is_empty()).then_some((What::Changed, fields))
        }
        _ => None,
    }
}

/// What has another owner goes from the one, and comes to the other.
fn workloads(before: &Mesh, after: &Mesh) -> Vec<WorkloadChange> {
    let pods: BTreeSet<&PodName> = before.workloads.keys().chain(after.workloads.keys()).collect();
    let mut changes = Vec::new();
    for pod in pods {
        let mut push = |owner: &Workload, what| {
            changes.push(WorkloadChange { pod: pod.clone(), owner: owner.tenant.clone(), what });
        };
        match (before.workloads.get(pod), after.workloads.get(pod)) {
            (Some(was), Some(is)) if was.tenant != is.tenant => {
                push(was, What::Removed);
                push(is, What::Added);
            }
            (Some(was), Some(is)) if !is_same(was, is) => push(is, What::Changed),
            (Some(was), None) => push(was, What::Removed),
            (None, Some(is)) => push(is, What::Added),
            _ => {}
        }
    }
    changes
}

/// Whether a pod stays who and where it is, so that its connections go on.
fn is_same(was: &Workload, is: &Workload) -> bool {
    was.uid == is.uid
        && was.identity == is.identity
        && was.addresses == is.addresses
        && was.netns == is.netns
        && was.meshed == is.meshed
        && was.node == is.node
}

/// A default for namespaces that no Tenant lists is said in one object and is many tenants' terms.
fn terms(before: &Mesh, after: &Mesh, objects: &[ObjectChange]) -> Vec<TermsChange> {
    let said: BTreeSet<&TenantId> = objects
        .iter()
        .filter(|change| Kind::of(&change.object) == Some(Kind::Tenant))
        .map(|change| &change.owner)
        .collect();
    let both = after.tenants.iter().filter_map(|(id, is)| Some((id, before.tenants.get(id)?, is)));
    let unsaid = both.filter(|(id, was, is)| was != is && !said.contains(id));
    let changes = unsaid
        .map(|(id, was, is)| TermsChange { owner: id.clone(), fields: fields::of_values(&**was, &**is) });
    changes.filter(|change| !change.fields.is_empty()).collect()
}

fn endpoints(before: &Mesh, after: &Mesh) -> Vec<EndpointsChange> {
    let mut changes = Vec::new();
    for (name, is) in &after.services {
        let Some(was) = before.services.get(name).filter(|was| *was != is) else { continue };
        for port in &is.ports {
            let (old, new) = (ready(was, port.number), ready(is, port.number));
            let Some(old) = old.filter(|old| new.as_ref() != Some(old)) else { continue };
            let new = new.unwrap_or_default();
            changes.push(EndpointsChange {
                service: name.clone(),
                owner: tenant_of(after, &name.namespace),
                port: port.number,
                added: new.difference(&old).copied().collect(),
                removed: old.difference(&new).copied().collect(),
            });
        }
    }
    changes
}

fn ready(service: &Service, port: u16) -> Option<BTreeSet<SocketAddr>> {
    let port = service.ports.iter().find(|known| known.number == port)?;
    let ready = |endpoint: &&Endpoint| endpoint.ready;
    Some(port.endpoints.iter().filter(ready).map(|endpoint| endpoint.address).collect())
}

/// The routes of a Service, and for whom they are.
type Attached<'a> =
    BTreeMap<(&'a ServiceName, Option<&'a Namespace>), BTreeMap<&'a RouteName, &'a HttpRoute>>;

fn routes(before: &Mesh, after: &Mesh) -> Vec<RoutesChange> {
    let (old, new) = (attached(before), attached(after));
    let none = BTreeMap::new();
    let places: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut changes = Vec::new();
    for place in places {
        let (was, is) = (old.get(place).unwrap_or(&none), new.get(place).unwrap_or(&none));
        let names: BTreeSet<&RouteName> = was.keys().chain(is.keys()).copied().collect();
        let differs = names.into_iter().filter(|name| was.get(name) != is.get(name));
        let routes: BTreeSet<RouteName> = differs.cloned().collect();
        let (service, callers) = *place;
        if !routes.is_empty() {
            let owner = tenant_of(after, callers.unwrap_or(&service.namespace));
            let (service, callers) = (service.clone(), callers.cloned());
            changes.push(RoutesChange { service, owner, callers, routes });
        }
    }
    changes
}

fn attached(mesh: &Mesh) -> Attached<'_> {
    let mut attached = Attached::new();
    for (name, route) in &mesh.routes {
        for parent in &route.parents {
            let consumer = parent.service.namespace != name.namespace;
            let callers = consumer.then_some(&name.namespace);
            attached.entry((&parent.service, callers)).or_default().insert(name, route);
        }
    }
    attached
}

fn as_text<S: serde::Serializer>(name: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name.to_string())
}

fn as_texts<'a, T: ToString + 'a, S: serde::Serializer>(
    names: &'a BTreeSet<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests;
