//! All objects together: who belongs to whom, what is taken twice, what references lead to.
//!
//! An object that clashes with another is refused alone, and its last good version is tried in its place.
//! What is in force comes before what is new (`claims`). Among newcomers the order decides: by the time of
//! creation where it is known, then files by name, then lines; so nodes that start alike decide alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use crate::{
    finding::{Finding, ObjectRef, Position, Reason, Severity},
    lower::{Draft, GrantDraft, Lowered, Place},
    model::Mesh,
    name::{HostName, Namespace, NodeName, PodName, RouteName, ServiceName, TenantId},
    object::Kind,
    options::Options,
};

use self::{findings::Stage, workloads::OfANode};

// In the order in which they run: each needs what those before it settled.
mod claims;

mod quotas;

mod tenants;

mod workloads;

mod services;

mod endpoints;

mod grants;

mod routes;

mod policies;

pub(crate) mod stand_ins;

pub(crate) mod plaintext;

// What they leave behind, and how an edit is made in it.
mod findings;
mod patch;
mod quiet;
mod versions;

pub(crate) use self::{
    findings::Findings,
    patch::{Edit, Patched},
    versions::Versions,
};

/// An object that wants to be in the mesh.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) object: ObjectRef,
    /// As the files have it now; `None` if that was rejected.
    pub(crate) fresh: Option<Arc<Lowered>>,
    /// The version that is in force, the same or another one: the last good one.
    pub(crate) in_force: Option<Arc<Lowered>>,
    /// What stands in for it where neither can be had.
    pub(crate) stand_in: Option<Arc<Lowered>>,
    /// Where it is now, or where the files broke.
    pub(crate) file: Arc<Path>,
    pub(crate) at: Position,
    /// How many objects are before it in its file.
    pub(crate) index: usize,
    /// Its file does not name it any more, and is broken.
    pub(crate) vanished: bool,
    /// Why something would have to stand in for it.
    pub(crate) doubt: Doubt,
}

impl Candidate {
    /// Says something of it as a whole.
    fn finding(&self, (severity, reason): (Severity, Reason), message: String) -> Finding {
        Finding {
            severity,
            reason,
            file: Arc::clone(&self.file),
            position: self.at,
            object: Some(self.object.clone()),
            field: String::new(),
            message,
            excerpt: None,
        }
    }
}

/// Why a security object is in force in no version of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is rejected.
    Unreadable,
    /// Nothing but signs of it can be read.
    Signs,
    /// There are several of its name, which do not mean the same.
    Contradicted,
    /// There are too many objects.
    TooMany,
    /// Its tenant's budget has no room for it.
    OverBudget,
}

impl Candidate {
    /// The last good version, if it is another one.
    fn kept(&self) -> Option<&Arc<Lowered>> {
        self.in_force.as_ref().filter(|good| !claims::is_same(self.fresh.as_ref(), Some(good)))
    }

    /// Sorts the older before the younger, and both before those that do not say.
    fn age(&self) -> (bool, Option<i64>) {
        age(self.fresh.as_ref().or(self.in_force.as_ref()).and_then(|version| version.created))
    }
}

fn age(created: Option<i64>) -> (bool, Option<i64>) {
    (created.is_none(), created)
}

/// Why a version of an object cannot be accepted beside the others.
#[derive(Debug)]
struct Refusal {
    place: Place,
    reason: Reason,
    message: String,
}

/// Makes one mesh of all candidates.
pub(crate) fn link(candidates: &[Candidate], options: &Options) -> Linking {
    let mesh = Mesh { trust_domain: options.trust_domain.clone(), ..Mesh::default() };
    let node = options.node.clone();
    let of_nodes = workloads::all_of_nodes(candidates);
    let reserved = claims::reserve(candidates, node.as_ref(), &of_nodes);
    let own_addresses = options.node_addresses.iter().copied().collect();
    let of_cluster = options.of_cluster;
    let mut linking =
        Linking { mesh, node, of_cluster, of_nodes, own_addresses, reserved, ..Linking::default() };
    let (of, base) = (|kind: Kind| of_kind(candidates, kind), Stage::Base);
    of(Kind::Namespace).for_each(|candidate| linking.settle(base, candidate, tenants::know_namespace));
    of(Kind::ServiceAccount).for_each(|candidate| linking.settle(base, candidate, |_, _| Ok(())));
    by_age(candidates, Kind::Tenant).for_each(|candidate| linking.settle(base, candidate, tenants::claim));
    tenants::namespaces_by_themselves(&mut linking, candidates);
    of(Kind::Tenant).for_each(|candidate| tenants::keep(&mut linking, candidate));
    let namespaces = of(Kind::Namespace).filter_map(|candidate| linking.used.get(&candidate.object).cloned());
    for namespace in namespaces.collect::<Vec<_>>() {
        tenants::check_namespace(&mut linking, &namespace);
    }
    // From here on what tenants have room for.
    let kept = quotas::keep_to(&mut linking, candidates, options);
    linking.place(&kept);
    linking.settle_down(candidates, &kept);
    linking
}

fn of_kind(candidates: &[Candidate], kind: Kind) -> impl Iterator<Item = &Candidate> {
    candidates.iter().filter(move |candidate| &*candidate.object.kind == kind.as_str())
}

fn by_age(candidates: &[Candidate], kind: Kind) -> impl Iterator<Item = &Candidate> {
    let mut sorted: Vec<&Candidate> = of_kind(candidates, kind).collect();
    sorted.sort_by_key(|candidate| candidate.age());
    sorted.into_iter()
}

/// The mesh in the making, and what must be remembered until it is made, or to make an edit in it.
#[derive(Debug, Default)]
pub(crate) struct Linking {
    pub(crate) mesh: Mesh,
    /// The node that reads, if it has a name.
    node: Option<NodeName>,
    /// Network namespaces are the node's word, and no pod's to be taken in by.
    of_cluster: bool,
    pub(crate) findings: Findings,
    /// The version of each object that the mesh is made of.
    pub(crate) used: Arc<Versions>,
    /// What stands in for objects that are not among those.
    pub(crate) stood_in: BTreeMap<ObjectRef, Arc<Lowered>>,
    /// Namespaces that have an object of their own.
    namespaces: BTreeSet<Namespace>,
    /// What namespaces have that no tenant lists.
    default_tenant: Option<Arc<Lowered>>,
    /// Who has an address: pods first, then Services.
    addresses: BTreeMap<IpAddr, Owner>,
    /// What is kept for objects in force.
    reserved: claims::Holders,
    /// What has been given away so far.
    taken: claims::Holders,
    /// Addresses of nodes, by pods' word.
    of_nodes: BTreeSet<OfANode>,
    /// Addresses of the node that reads, by its own.
    own_addresses: BTreeSet<IpAddr>,
    /// The names that each tenant has the node look up.
    hosts: BTreeMap<TenantId, BTreeSet<HostName>>,
    /// The version in force of the object that is looked at.
    before: Option<Arc<Lowered>>,
    /// The drafts of workloads and Services in the mesh, for selectors and targets.
    pods: BTreeMap<PodName, Arc<Lowered>>,
    services: BTreeMap<ServiceName, Arc<Lowered>>,
    slices: BTreeMap<ServiceName, Vec<Arc<Lowered>>>,
    /// What may be named from other namespaces.
    grants: Vec<GrantDraft>,
    /// The ports that have GRPCRoutes, each with these.
    grpc_ports: BTreeMap<routes::Attachment, BTreeSet<RouteName>>,
    /// Namespaces of EndpointSlices of which no version is in force.
    refused_slices: BTreeSet<Arc<str>>,
    /// What is left of the budgets of tenants that are held to theirs; `None` of one whose objects have no room.
    rooms: BTreeMap<TenantId, Option<quotas::Room>>,
    /// What an edit is judged by.
    quiet: quiet::Quiet,
}

/// Who has an address.
#[derive(Debug, Clone)]
enum Owner {
    Pod(PodName),
    Service(ServiceName),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod(pod) => write!(f, "Pod {pod}"),
            Self::Service(service) => write!(f, "Service {service}"),
        }
    }
}

impl Linking {
    /// Everything that tenants have room for, once it is known who they are.
    fn place(&mut self, candidates: &[Candidate]) {
        let of = |kind: Kind| of_kind(candidates, kind);
        let by_age = |kind: Kind| by_age(candidates, kind);
        by_age(Kind::Pod).for_each(|candidate| self.settle(Stage::Placed, candidate, workloads::place));
        by_age(Kind::Service).for_each(|candidate| self.settle(Stage::Placed, candidate, services::place));
        of(Kind::EndpointSlice)
            .for_each(|candidate| self.settle(Stage::Placed, candidate, endpoints::check_slice));
        endpoints::note_refused(self, of(Kind::EndpointSlice));
        for service in self.services.keys().cloned().collect::<Vec<_>>() {
            endpoints::fill(self, &service);
        }
        of(Kind::ReferenceGrant).for_each(|candidate| self.settle(Stage::Placed, candidate, grants::know));
        // In this order: a port that has a GRPCRoute takes no HTTPRoute.
        for kind in [Kind::GrpcRoute, Kind::HttpRoute] {
            of(kind).for_each(|candidate| self.settle(Stage::Placed, candidate, routes::attach));
        }
        for kind in
            [Kind::AuthorizationPolicy, Kind::PeerAuthentication, Kind::NetworkPolicy, Kind::ServiceEntry]
        {
            of(kind).for_each(|candidate| self.settle(Stage::Placed, candidate, policies::place));
        }
        candidates.iter().for_each(|candidate| stand_ins::place(self, candidate));
        plaintext::close(self);
    }

    /// Takes the first version that can be accepted.
    fn settle(
        &mut self,
        stage: Stage,
        candidate: &Candidate,
        accept: impl Fn(&mut Self, &Arc<Lowered>) -> Result<(), Refusal>,
    ) {
        self.findings.begin(stage, &candidate.object);
        self.before = candidate.in_force.clone();
        for version in candidate.fresh.iter().chain(candidate.kept()) {
            match accept(self, version) {
                Ok(()) => {
                    let is_fresh = candidate.fresh.as_ref().is_some_and(|fresh| Arc::ptr_eq(fresh, version));
                    if !is_fresh {
                        self.findings.push(kept(candidate, version));
                    }
                    Arc::make_mut(&mut self.used).insert(candidate.object.clone(), Arc::clone(version));
                    return;
                }
                Err(refusal) => {
                    self.find(version, (Severity::Rejected, refusal.reason), &refusal.place, refusal.message);
                }
            }
        }
    }

    fn find(&mut self, of: &Lowered, why: (Severity, Reason), place: &Place, message: String) {
        let (severity, reason) = why;
        self.findings.push(Finding {
            severity,
            reason,
            file: Arc::clone(&of.file),
            position: place.at,
            object: Some(of.object.clone()),
            field: place.field.clone(),
            message,
            excerpt: None,
        });
    }

    fn dangling(&mut self, of: &Lowered, place: &Place, message: String) {
        self.find(of, (Severity::Warning, Reason::DanglingReference), place, message);
    }
}

fn kept(candidate: &Candidate, version: &Lowered) -> Finding {
    let (file, line) = (version.file.display(), version.at.line);
    let why = if candidate.vanished {
        ", since it is not in this file any more, part of which is rejected"
    } else {
        ""
    };
    let message = format!(
        "kept last good version (from line {line} of {file}){why}: it stays in force until this is mended"
    );
    candidate.finding((Severity::Warning, Reason::KeptLastGood), message)
}

/// The object as a whole.
fn whole(lowered: &Lowered) -> Place {
    Place { at: lowered.at, field: String::new() }
}

fn as_pod(lowered: &Lowered) -> Option<&crate::lower::WorkloadDraft> {
    if let Draft::Pod(pod) = &lowered.draft { pod.workload.as_ref() } else { None }
}

fn as_service(lowered: &Lowered) -> Option<&crate::lower::ServiceDraft> {
    if let Draft::Service(service) = &lowered.draft { service.as_ref() } else { None }
}
