//! An edit made in a mesh that is linked: only what is edited, and what depends on it, is placed again.
//!
//! What comes of it must never differ from linking everything: an edit of which that cannot be shown is not made here (`quiet`).
//! The order is that of linking, since each step needs what those before it settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Candidate, Linking, Refusal, Stage, as_pod, as_service, endpoints, plaintext, policies,
    quiet::namespace_of, routes, services, workloads,
};
use crate::{
    finding::ObjectRef,
    lower::{Draft, Lowered},
    model::{AppProtocol, Scope, Service},
    name::{Name, PodName, PolicyName, PortName, RouteKind, RouteName, ServiceName},
    object::Kind,
};

mod dependents;

/// What became of one object in the files: `None` if it is gone.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) object: ObjectRef,
    pub(crate) new: Option<Candidate>,
}

/// What may be otherwise than before the edits.
#[derive(Debug, Default)]
pub(crate) struct Patched {
    pub(crate) workloads: BTreeSet<PodName>,
    pub(crate) services: BTreeSet<ServiceName>,
    pub(crate) routes: BTreeSet<RouteName>,
    pub(crate) authorization: BTreeSet<PolicyName>,
    pub(crate) network_policies: BTreeSet<PolicyName>,
    /// Objects of which something else is to be said, or that are in another version, or none.
    pub(crate) objects: BTreeSet<ObjectRef>,
}

/// What of the mesh has changed, for what depends on it.
#[derive(Debug, Default)]
struct Dirty {
    /// Addresses that have another owner, or one of another age.
    addresses: BTreeSet<IpAddr>,
    /// Services that have come or gone.
    there: BTreeSet<ServiceName>,
    /// Services of which a route sees something else.
    shapes: BTreeSet<ServiceName>,
    /// Services of which a policy sees something else.
    members: BTreeSet<ServiceName>,
    out: Patched,
}

impl Linking {
    /// What there is to link of an object, as of the last edit.
    pub(crate) fn candidate(&self, object: &ObjectRef) -> Option<&Candidate> {
        self.quiet.candidates.get(object)
    }

    /// Makes edits. `None` if they concern more than can be told: then everything has to be linked, and this is of no use any more.
    pub(crate) fn patch(&mut self, edits: &[Edit]) -> Option<Patched> {
        if !self.are_quiet(edits) {
            return None;
        }
        let mut dirty = Dirty::default();
        let of = |kind: Kind| edits.iter().filter(move |edit| &*edit.object.kind == kind.as_str());
        let objects = |kind: Kind| of(kind).map(|edit| edit.object.clone()).collect::<BTreeSet<_>>();
        for edit in of(Kind::Pod) {
            self.edit_pod(edit, &mut dirty)?;
        }
        for edit in of(Kind::Service) {
            self.edit_service(edit, &mut dirty)?;
        }
        let mut slices = objects(Kind::EndpointSlice);
        slices.extend(self.slices_naming(&dirty));
        self.place_slices(&slices, &mut dirty);
        self.fill(&mut dirty);
        self.place_routes([objects(Kind::GrpcRoute), objects(Kind::HttpRoute)], &mut dirty);
        let mut policies = objects(Kind::AuthorizationPolicy);
        policies.extend(objects(Kind::NetworkPolicy));
        self.place_policies(policies, &mut dirty)?;
        let pods: Vec<PodName> = dirty.out.workloads.iter().cloned().collect();
        plaintext::close_of(self, &pods);
        dirty.out.objects.extend(edits.iter().map(|edit| edit.object.clone()).chain(slices));
        dirty.out.objects.extend(self.findings.take_told());
        for object in &dirty.out.objects {
            self.come_into_force(object);
        }
        Some(dirty.out)
    }

    /// Takes an object out, with what was said of it; gives the version that was in force.
    fn take_out(&mut self, object: &ObjectRef) -> Option<Arc<Lowered>> {
        self.findings.withdraw(Stage::Placed, object);
        let version = self.used.get(object).cloned();
        if version.is_some() {
            Arc::make_mut(&mut self.used).remove(object);
        }
        version
    }

    /// Puts an object in as the files have it now; gives the version that is in force.
    fn put_in(
        &mut self,
        object: &ObjectRef,
        accept: impl Fn(&mut Self, &Arc<Lowered>) -> Result<(), Refusal>,
    ) -> Option<Arc<Lowered>> {
        let candidate = self.quiet.candidates.get(object).cloned()?;
        self.settle(Stage::Placed, &candidate, accept);
        self.used.get(object).cloned()
    }

    /// The same of one that nobody has anything against.
    fn put_in_as_edited(
        &mut self,
        edit: &Edit,
        accept: impl Fn(&mut Self, &Arc<Lowered>) -> Result<(), Refusal>,
    ) -> Option<Option<Arc<Lowered>>> {
        let used = self.put_in(&edit.object, accept);
        let wanted = edit.new.as_ref().and_then(|new| new.fresh.as_ref());
        let is_it = match (&used, wanted) {
            (Some(used), Some(wanted)) => Arc::ptr_eq(used, wanted),
            (None, None) => true,
            _ => false,
        };
        is_it.then_some(used)
    }

    fn edit_pod(&mut self, edit: &Edit, dirty: &mut Dirty) -> Option<()> {
        let old = self.take_out(&edit.object);
        self.findings.withdraw(Stage::Plaintext, &edit.object);
        let old = old.as_deref().and_then(as_pod);
        let mut addresses = BTreeSet::new();
        if let Some(old) = old {
            self.pods.remove(&old.workload.pod);
            self.mesh.workloads.remove(&old.workload.pod);
            dirty.out.workloads.insert(old.workload.pod.clone());
            addresses.extend(old.workload.addresses.iter().copied());
            addresses.iter().for_each(|address| drop(self.addresses.remove(address)));
        }
        let new = self.put_in_as_edited(edit, workloads::place)?;
        let new = new.as_deref().and_then(as_pod);
        let now: BTreeSet<IpAddr> =
            new.into_iter().flat_map(|new| &new.workload.addresses).copied().collect();
        dirty.out.workloads.extend(new.map(|new| new.workload.pod.clone()));
        dirty.addresses.extend(addresses.symmetric_difference(&now));
        for pod in [old, new].into_iter().flatten() {
            dirty.out.services.extend(self.services_selecting(pod));
        }
        Some(())
    }

    fn edit_service(&mut self, edit: &Edit, dirty: &mut Dirty) -> Option<()> {
        let old = self.take_out(&edit.object);
        let name = service_of(&edit.object)?;
        if let Some(old) = old.as_deref().and_then(as_service) {
            self.services.remove(&name);
            old.vips.iter().for_each(|vip| drop(self.addresses.remove(vip)));
        }
        let new = self.put_in_as_edited(edit, services::place)?;
        let vips = |version: &Option<Arc<Lowered>>| -> BTreeSet<(IpAddr, Option<i64>)> {
            let created = version.as_ref().and_then(|version| version.created);
            let service = version.as_deref().and_then(as_service);
            service.into_iter().flat_map(|service| &service.vips).map(|vip| (*vip, created)).collect()
        };
        let changed = vips(&old).symmetric_difference(&vips(&new)).map(|(vip, _)| *vip).collect::<Vec<_>>();
        dirty.addresses.extend(changed);
        let has_traffic =
            |version: &Option<Arc<Lowered>>| version.as_deref().map(|version| as_service(version).is_some());
        if has_traffic(&old) != has_traffic(&new) {
            dirty.there.insert(name.clone());
            dirty.shapes.insert(name.clone());
            dirty.members.insert(name.clone());
        }
        dirty.out.services.insert(name);
        Some(())
    }

    fn place_slices(&mut self, slices: &BTreeSet<ObjectRef>, dirty: &mut Dirty) {
        for object in slices {
            let service = self.take_out(object).as_deref().and_then(service_named).cloned();
            if let Some(service) = service {
                if let Some(of_service) = self.slices.get_mut(&service) {
                    of_service.retain(|slice| slice.object != *object);
                }
                dirty.out.services.insert(service);
            }
            let service =
                self.put_in(object, endpoints::check_slice).as_deref().and_then(service_named).cloned();
            if let Some(service) = service {
                self.sort_slices(&service);
                dirty.out.services.insert(service);
            }
        }
        let namespaces: BTreeSet<&Arc<str>> =
            slices.iter().filter_map(|slice| slice.namespace.as_ref()).collect();
        for namespace in namespaces {
            let is_refused = self
                .candidates_of(Kind::EndpointSlice, Some(namespace))
                .any(|slice| !self.used.contains_key(&slice.object));
            if is_refused == self.refused_slices.contains(namespace) {
                continue;
            }
            if is_refused {
                self.refused_slices.insert(Arc::clone(namespace));
            } else {
                self.refused_slices.remove(namespace);
            }
            let of_namespace = self.services.keys().filter(|name| name.namespace.as_str() == &**namespace);
            dirty.out.services.extend(of_namespace.cloned());
        }
    }

    /// Puts the slices of a Service into the order in which linking meets them.
    fn sort_slices(&mut self, service: &ServiceName) {
        let Some(mut slices) = self.slices.remove(service) else { return };
        let order = |slice: &Arc<Lowered>| self.quiet.candidates.get(&slice.object).map(Candidate::order);
        slices.sort_by(|one, other| order(one).cmp(&order(other)));
        self.slices.insert(service.clone(), slices);
    }

    fn fill(&mut self, dirty: &mut Dirty) {
        for name in &dirty.out.services {
            let before = self.mesh.services.get(name).cloned();
            if self.services.contains_key(name) {
                endpoints::fill(self, name);
            } else {
                self.findings.withdraw(Stage::Filled, &object_of(name));
                self.mesh.services.remove(name);
            }
            let after = self.mesh.services.get(name);
            if before.as_deref().map(shape) != after.map(|after| shape(after)) {
                dirty.shapes.insert(name.clone());
            }
            let members = |service: &Service| (service.members.known, service.members.named.is_empty());
            if before.as_deref().map(members) != after.map(|after| members(after)) {
                dirty.members.insert(name.clone());
            }
        }
    }

    /// GRPCRoutes first: a port that has one takes no HTTPRoute.
    fn place_routes(&mut self, [mut grpc, mut http]: [BTreeSet<ObjectRef>; 2], dirty: &mut Dirty) {
        grpc.extend(self.routes_naming(Kind::GrpcRoute, &dirty.shapes));
        http.extend(self.routes_naming(Kind::HttpRoute, &dirty.shapes));
        if !grpc.is_empty() {
            let before = self.first_of_ports();
            grpc.iter().for_each(|route| self.place_route(route, dirty));
            let after = self.first_of_ports();
            let is_other = |port: &&routes::Attachment| before.get(*port) != after.get(*port);
            let services =
                before.keys().chain(after.keys()).filter(is_other).map(|port| port.service.clone());
            http.extend(self.routes_naming(Kind::HttpRoute, &services.collect()));
        }
        http.iter().for_each(|route| self.place_route(route, dirty));
    }

    fn place_route(&mut self, object: &ObjectRef, dirty: &mut Dirty) {
        let old = self.take_out(object);
        if let Some(Draft::Route(old)) = old.as_deref().map(|old| &old.draft) {
            self.mesh.routes.remove(&old.name);
            if old.name.kind == RouteKind::Grpc {
                self.grpc_ports.retain(|_, routes| {
                    routes.remove(&old.name);
                    !routes.is_empty()
                });
            }
            dirty.out.routes.insert(old.name.clone());
        }
        let new = self.put_in(object, routes::attach);
        if let Some(Draft::Route(new)) = new.as_deref().map(|new| &new.draft) {
            dirty.out.routes.insert(new.name.clone());
        }
        dirty.out.objects.insert(object.clone());
    }

    fn first_of_ports(&self) -> BTreeMap<routes::Attachment, RouteName> {
        let first = |(port, routes): (&routes::Attachment, &BTreeSet<RouteName>)| {
            Some((port.clone(), routes.first()?.clone()))
        };
        self.grpc_ports.iter().filter_map(first).collect()
    }

    fn place_policies(&mut self, mut policies: BTreeSet<ObjectRef>, dirty: &mut Dirty) -> Option<()> {
        let stands_in = |version: &Arc<Lowered>| targets(version).is_some();
        if !dirty.members.is_empty() && self.stood_in.values().any(stands_in) {
            return None;
        }
        policies.extend(self.policies_naming(&dirty.members));
        for object in &policies {
            let old = self.take_out(object);
            match old.as_deref().map(|old| &old.draft) {
                Some(Draft::Authorization(old)) => {
                    if let Some(policy) = &old.policy {
                        self.mesh.authorization.remove(&policy.name);
                        dirty.out.authorization.insert(policy.name.clone());
                    }
                }
                Some(Draft::Network(old)) => {
                    self.mesh.network_policies.remove(&old.name);
                    dirty.out.network_policies.insert(old.name.clone());
                }
                _ => {}
            }
            let new = self.put_in(object, policies::place);
            match new.as_deref().map(|new| &new.draft) {
                Some(Draft::Authorization(new)) => {
                    dirty.out.authorization.extend(new.policy.iter().map(|policy| policy.name.clone()));
                }
                Some(Draft::Network(new)) => drop(dirty.out.network_policies.insert(new.name.clone())),
                _ => {}
            }
        }
        Some(())
    }
}

/// The Service that a slice is of.
fn service_named(slice: &Lowered) -> Option<&ServiceName> {
    if let Draft::EndpointSlice(slice) = &slice.draft { slice.service.as_ref() } else { None }
}

/// The Services whose pods a policy is about.
fn targets(version: &Lowered) -> Option<&[ServiceName]> {
    let Draft::Authorization(draft) = &version.draft else { return None };
    match &draft.policy.as_ref()?.scope {
        Scope::Services(services) => Some(services),
        _ => None,
    }
}

/// What routes see of a Service: its ports.
fn shape(service: &Service) -> Vec<(u16, Option<&PortName>, AppProtocol)> {
    service.ports.iter().map(|port| (port.number, port.name.as_ref(), port.protocol)).collect()
}

fn service_of(object: &ObjectRef) -> Option<ServiceName> {
    Some(ServiceName::new(namespace_of(object)?, Name::try_from(&*object.name).ok()?))
}

fn object_of(service: &ServiceName) -> ObjectRef {
    ObjectRef::new(Kind::Service.as_str(), Some(service.namespace.as_str()), service.name.as_str())
}
