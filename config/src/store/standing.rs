//! What became of every object that the files name, or that is in force though they name it no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Store;
use crate::{
    condition::{InForce, RouteFacts, Standing, conditions},
    finding::{Finding, ObjectRef},
    lower::{Draft, Lowered},
    model::{BackendTarget, HttpRoute, Mesh},
    name::{Name, Namespace, RouteKind, RouteName, TenantId},
};

impl Store {
    /// By object, in the order of kinds and names.
    pub(super) fn standings(
        &self,
        findings: &[Finding],
        put_off: &BTreeSet<ObjectRef>,
    ) -> Vec<Arc<Standing>> {
        let mut found: BTreeMap<&ObjectRef, Vec<&Finding>> = BTreeMap::new();
        for finding in findings {
            if let Some(object) = &finding.object {
                found.entry(object).or_default().push(finding);
            }
        }
        let mut all: BTreeMap<&ObjectRef, (InForce, Option<u64>)> = BTreeMap::new();
        for object in self.files.values().flat_map(|read| &read.objects) {
            let in_force = self.version_in_force(&object.name, object.lowered.as_ref());
            // Of several of a name, the one that is in force is spoken of.
            let known = all.entry(&object.name).or_insert((in_force, object.generation));
            if in_force == InForce::This {
                *known = (in_force, object.generation);
            }
        }
        for object in self.basis.good.keys() {
            all.entry(object).or_insert((InForce::Earlier, None));
        }
        for object in self.basis.stood_in.keys() {
            let standing = all.entry(object).or_insert((InForce::StandIn, None));
            standing.0 = InForce::StandIn;
        }
        // One that is new is in no file as that is taken up.
        for object in put_off {
            all.entry(object).or_insert((InForce::Nothing, None));
        }
        let standing = |(object, of): (&ObjectRef, (InForce, Option<u64>))| {
            let found = found.get(object).map_or(&[][..], Vec::as_slice);
            Arc::new(self.standing(object, of, found))
        };
        let is_for_canopy = |(object, _): &(&ObjectRef, _)| !self.is_for_others(object);
        all.into_iter().filter(is_for_canopy).map(standing).collect()
    }

    /// Which version of an object is in force, of which the files have this one.
    pub(super) fn version_in_force(&self, object: &ObjectRef, fresh: Option<&Arc<Lowered>>) -> InForce {
        match (self.basis.good.get(object), fresh) {
            (Some(good), Some(fresh)) if Arc::ptr_eq(good, fresh) => InForce::This,
            (Some(_), _) => InForce::Earlier,
            (None, _) => InForce::Nothing,
        }
    }

    /// What became of one object, of which this was found.
    pub(super) fn standing(
        &self,
        object: &ObjectRef,
        (in_force, generation): (InForce, Option<u64>),
        found: &[&Finding],
    ) -> Standing {
        Standing {
            tenant: owner(&self.mesh, object),
            observed_generation: generation,
            conditions: conditions(&object.kind, in_force, found, route(&self.mesh, object)),
            object: object.clone(),
        }
    }

    /// Whether it is a route in force that names no Service as its parent: a gateway's, of which Canopy has nothing to say.
    pub(super) fn is_for_others(&self, object: &ObjectRef) -> bool {
        let draft = self.basis.good.get(object).map(|good| &good.draft);
        matches!(draft, Some(Draft::Route(route)) if route.parents.is_empty())
    }
}

/// The tenant that an object's namespace belongs to.
pub(crate) fn owner(mesh: &Mesh, object: &ObjectRef) -> Option<TenantId> {
    let namespace = Namespace::try_from(&**object.namespace.as_ref()?).ok()?;
    let known = mesh.membership.get(&namespace).cloned();
    Some(known.unwrap_or(TenantId::Namespace(namespace)))
}

pub(crate) fn route(mesh: &Mesh, object: &ObjectRef) -> Option<RouteFacts> {
    let kind = [RouteKind::Http, RouteKind::Grpc].into_iter().find(|kind| kind.as_str() == &*object.kind)?;
    let namespace = Namespace::try_from(&**object.namespace.as_ref()?).ok()?;
    let name = RouteName::new(kind, namespace, Name::try_from(&*object.name).ok()?);
    let Some(route) = mesh.routes.get(&name) else { return Some(RouteFacts::default()) };
    Some(RouteFacts { attached: true, unresolved: unresolved(route) })
}

fn unresolved(route: &HttpRoute) -> Option<crate::model::InvalidBackend> {
    let targets = route.rules.iter().flat_map(|rule| &rule.backends).map(|backend| &backend.target);
    targets.into_iter().find_map(|target| match target {
        BackendTarget::Invalid(invalid) => Some(*invalid),
        BackendTarget::Service { .. } => None,
    })
}
