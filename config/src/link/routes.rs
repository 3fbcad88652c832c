//! Routes to Services: put together of the parents they attach to and the backends they lead to.

use std::sync::Arc;

use super::{Linking, Refusal, grants, tenants};
use crate::{
    finding::{ObjectRef, Reason, Severity},
    lower::{
        BackendDraft, Draft, FilterDraft, Lowered, Place, ReferenceDraft, RuleDraft, TargetDraft, failure,
    },
    model::{Backend, BackendTarget, Filter, HttpRoute, InvalidBackend, Mirror, Parent, Rule},
    name::{RouteName, ServiceName},
    object::Kind,
};

pub(super) use self::parents::Attachment;

mod parents;

/// Puts a route into the mesh if it has a parent there. Never refused: what cannot be resolved is reported,
/// and answered as Gateway API says. GRPCRoutes have to be attached before HTTPRoutes.
pub(super) fn attach(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Draft::Route(draft) = &lowered.draft else { return Ok(()) };
    let resolved: Vec<Vec<Parent>> =
        draft.parents.iter().filter_map(|parent| parents::resolve(linking, lowered, draft, parent)).collect();
    let rules = draft.rules.iter().map(|rule| resolve_rule(linking, lowered, &draft.name, rule)).collect();
    if resolved.is_empty() {
        let message = "attached to no Service, so it does nothing: name one in spec.parentRefs (group: \"\", kind: Service)";
        let place = Place { at: lowered.at, field: "spec.parentRefs".to_owned() };
        linking.dangling(lowered, &place, message.to_owned());
        return Ok(());
    }
    let parents = resolved.concat();
    if parents.is_empty() {
        // To each of them, routes of another kind are attached, which has been said.
        return Ok(());
    }
    let route = HttpRoute {
        name: draft.name.clone(),
        tenant: tenants::of(linking, &draft.name.namespace),
        created: draft.created,
        parents,
        rules,
    };
    linking.mesh.routes.insert(draft.name.clone(), Arc::new(route));
    Ok(())
}

fn resolve_rule(linking: &mut Linking, lowered: &Lowered, route: &RouteName, rule: &RuleDraft) -> Rule {
    let backends = rule.backends.iter().map(|backend| resolve_backend(linking, lowered, route, backend));
    let backends = backends.collect();
    Rule {
        name: rule.name.clone(),
        matches: rule.matches.clone(),
        filters: resolve_filters(linking, lowered, route, &rule.filters),
        backends,
        timeouts: rule.timeouts,
    }
}

fn resolve_backend(
    linking: &mut Linking,
    lowered: &Lowered,
    route: &RouteName,
    backend: &BackendDraft,
) -> Backend {
    let consequence = format!("its share of requests is answered {}", failure(route.kind));
    let target = resolve(linking, lowered, route, (&backend.reference, &consequence));
    let (target, filters) = match &backend.filters {
        Some(filters) => (target, resolve_filters(linking, lowered, route, filters)),
        None => (BackendTarget::Invalid(InvalidBackend::FilterNotApplied), Vec::new()),
    };
    Backend { weight: backend.weight, target, filters }
}

fn resolve_filters(
    linking: &mut Linking,
    lowered: &Lowered,
    route: &RouteName,
    filters: &[FilterDraft],
) -> Vec<Filter> {
    let mut filter_of = |filter: &FilterDraft| match filter {
        FilterDraft::Ready(filter) => filter.clone(),
        FilterDraft::Mirror(mirror) => Filter::Mirror(Mirror {
            target: resolve(linking, lowered, route, (&mirror.reference, "nothing is mirrored")),
            numerator: mirror.numerator,
            denominator: mirror.denominator,
        }),
    };
    filters.iter().map(&mut filter_of).collect()
}

/// Follows a reference; one that leads nowhere is kept as such, with its reason and consequence reported.
fn resolve(
    linking: &mut Linking,
    lowered: &Lowered,
    route: &RouteName,
    (reference, consequence): (&ReferenceDraft, &str),
) -> BackendTarget {
    let (name, port) = match &reference.target {
        TargetDraft::Service(name, port) => (name, port),
        TargetDraft::Other { group, kind, namespace, name } => {
            let is_permitted = grants::permit(&linking.grants, route, (group, kind, namespace, name));
            let (why, reason, complaint) = if is_permitted {
                (InvalidBackend::InvalidKind, Reason::DanglingReference, "InvalidKind:".to_owned())
            } else {
                let complaint = format!(
                    "RefNotPermitted: no ReferenceGrant in namespace {namespace} lets {}s of namespace {} name this {kind}, and",
                    route.kind, route.namespace
                );
                (InvalidBackend::RefNotPermitted, Reason::NotPermitted, complaint)
            };
            let message = format!("ResolvedRefs: {complaint} only Services can be backends; {consequence}");
            linking.find(lowered, (Severity::Warning, reason), &reference.name_place, message);
            return BackendTarget::Invalid(why);
        }
    };
    let complaint = match linking.mesh.services.get(name) {
        Some(service) if service.ports.iter().any(|known| known.number == *port) => {
            return BackendTarget::Service { service: name.clone(), port: *port };
        }
        Some(service) => {
            let ports: Vec<String> = service.ports.iter().map(|port| port.number.to_string()).collect();
            (
                &reference.port_place,
                format!("Service {name} has no port {port} (it has: {})", ports.join(", ")),
            )
        }
        None => (&reference.name_place, missing_service(linking, name)),
    };
    let (place, complaint) = complaint;
    linking.dangling(lowered, place, format!("ResolvedRefs: BackendNotFound: {complaint}; {consequence}"));
    BackendTarget::Invalid(InvalidBackend::BackendNotFound)
}

fn missing_service(linking: &Linking, name: &ServiceName) -> String {
    let object = ObjectRef {
        kind: Arc::from(Kind::Service.as_str()),
        namespace: Some(Arc::from(name.namespace.as_str())),
        name: Arc::from(name.name.as_str()),
    };
    if linking.used.contains_key(&object) {
        return format!("Service {name} is an ExternalName: it is never parent or backend");
    }
    format!("there is no Service {name}: add it, or correct the name")
}
