//! Who depends on what an edit has changed: found by looking at what all others of a kind name, without making anything of them.
//!
//! It must never miss one: where an object names a thing, it depends on it.

use std::{collections::BTreeSet, ops::Bound, sync::Arc};

use super::{
    Candidate, Dirty, Draft, Kind, Linking, Lowered, ObjectRef, ServiceName, as_service, endpoints, targets,
};
use crate::lower::{
    BackendDraft, FilterDraft, ReferenceDraft, RouteDraft, RuleDraft, TargetDraft, WorkloadDraft,
};

impl Linking {
    /// The candidates of a kind, or those of one namespace, in the order of their names.
    pub(super) fn candidates_of<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a Arc<str>>,
    ) -> impl Iterator<Item = &'a Candidate> {
        let from = ObjectRef { kind: kind.as_str().into(), namespace: namespace.cloned(), name: "".into() };
        let all = self.quiet.candidates.range((Bound::Included(from), Bound::Unbounded));
        let is_in = move |object: &ObjectRef| {
            &*object.kind == kind.as_str()
                && namespace.is_none_or(|namespace| object.namespace.as_ref() == Some(namespace))
        };
        all.take_while(move |(object, _)| is_in(object)).map(|(_, candidate)| candidate)
    }

    /// Services that choose a pod by its labels.
    pub(super) fn services_selecting(&self, pod: &WorkloadDraft) -> Vec<ServiceName> {
        let namespace: Arc<str> = Arc::from(pod.workload.pod.namespace.as_str());
        let all = self.candidates_of(Kind::Service, Some(&namespace));
        let drafts = all.filter_map(|candidate| as_service(self.used.get(&candidate.object)?));
        let selecting = drafts.filter(|draft| !draft.selector.is_empty() && endpoints::selects(draft, pod));
        selecting.map(|draft| draft.name.clone()).collect()
    }

    /// Slices that name an address which has another owner, or a Service that has come or gone.
    pub(super) fn slices_naming(&self, dirty: &Dirty) -> Vec<ObjectRef> {
        if dirty.addresses.is_empty() && dirty.there.is_empty() {
            return Vec::new();
        }
        let names = |version: &Arc<Lowered>| {
            let Draft::EndpointSlice(slice) = &version.draft else { return false };
            let is_of = |service: &ServiceName| dirty.there.contains(service);
            slice.service.as_ref().is_some_and(is_of)
                || slice.endpoints.iter().any(|endpoint| dirty.addresses.contains(&endpoint.address))
        };
        let all = self.candidates_of(Kind::EndpointSlice, None);
        let naming = all.filter(|slice| slice.fresh.iter().chain(&slice.in_force).any(names));
        naming.map(|slice| slice.object.clone()).collect()
    }

    /// Routes that name one of these Services.
    pub(super) fn routes_naming(&self, kind: Kind, services: &BTreeSet<ServiceName>) -> Vec<ObjectRef> {
        if services.is_empty() {
            return Vec::new();
        }
        let all = self.candidates_of(kind, None).filter_map(|candidate| self.used.get(&candidate.object));
        let naming = all.filter(|version| match &version.draft {
            Draft::Route(route) => named(route).any(|service| services.contains(service)),
            _ => false,
        });
        naming.map(|version| version.object.clone()).collect()
    }

    /// Policies about pods behind one of these Services.
    pub(super) fn policies_naming(&self, services: &BTreeSet<ServiceName>) -> Vec<ObjectRef> {
        if services.is_empty() {
            return Vec::new();
        }
        let all = self.candidates_of(Kind::AuthorizationPolicy, None);
        let used = all.filter_map(|candidate| self.used.get(&candidate.object));
        let is_about = |version: &&Arc<Lowered>| {
            targets(version).is_some_and(|targets| targets.iter().any(|service| services.contains(service)))
        };
        used.filter(is_about).map(|version| version.object.clone()).collect()
    }
}

/// All Services that a route names: parents, backends, and where requests are mirrored.
fn named(route: &RouteDraft) -> impl Iterator<Item = &ServiceName> {
    let parents = route.parents.iter().map(|parent| &parent.service);
    parents.chain(route.rules.iter().flat_map(named_by_rule))
}

fn named_by_rule(rule: &RuleDraft) -> impl Iterator<Item = &ServiceName> {
    let mirrors = rule.filters.iter().filter_map(mirrored).filter_map(service);
    mirrors.chain(rule.backends.iter().flat_map(named_by_backend))
}

fn named_by_backend(backend: &BackendDraft) -> impl Iterator<Item = &ServiceName> {
    let mirrors = backend.filters.iter().flatten().filter_map(mirrored);
    std::iter::once(&backend.reference).chain(mirrors).filter_map(service)
}

fn mirrored(filter: &FilterDraft) -> Option<&ReferenceDraft> {
    if let FilterDraft::Mirror(mirror) = filter { Some(&mirror.reference) } else { None }
}

fn service(reference: &ReferenceDraft) -> Option<&ServiceName> {
    if let TargetDraft::Service(name, _) = &reference.target { Some(name) } else { None }
}
