//! Routes to Services: parents they attach to, backends they lead to.

use std::sync::Arc;

use super::{Linking, Refusal, tenants};
use crate::{
    finding::{ObjectRef, Reason, Severity},
    lower::{BackendDraft, Draft, FilterDraft, Lowered, ParentDraft, Place, ReferenceDraft, RuleDraft},
    model::{AppProtocol, Backend, BackendTarget, Filter, HttpRoute, InvalidBackend, Mirror, Parent, Rule},
    name::ServiceName,
    object::Kind,
};

/// Puts a route into the mesh if it has a parent there. Never refused: what cannot be resolved is reported,
/// and answered as Gateway API says.
pub(super) fn attach(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    let Draft::HttpRoute(draft) = &lowered.draft else { return Ok(()) };
    let parents: Vec<Parent> =
        draft.parents.iter().filter_map(|parent| resolve_parent(linking, lowered, parent)).collect();
    let rules = draft.rules.iter().map(|rule| resolve_rule(linking, lowered, rule)).collect();
    if parents.is_empty() {
        let message = "attached to no Service, so it does nothing: name one in spec.parentRefs (group: \"\", kind: Service)";
        let place = Place { at: lowered.at, field: "spec.parentRefs".to_owned() };
        linking.dangling(lowered, &place, message.to_owned());
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

fn resolve_parent(linking: &mut Linking, lowered: &Lowered, parent: &ParentDraft) -> Option<Parent> {
    let Some(service) = linking.mesh.services.get(&parent.service) else {
        let message =
            format!("not attached (NoMatchingParent): {}", missing_service(linking, &parent.service));
        linking.dangling(lowered, &parent.place, message);
        return None;
    };
    let wanted = |port: &&crate::model::ServicePort| {
        parent.port.is_none_or(|number| number == port.number)
            && parent.section.as_ref().is_none_or(|section| port.name.as_ref() == Some(section))
    };
    let matching = service.ports.iter().find(wanted).map(|port| port.number);
    let is_for_a_port = parent.port.is_some() || parent.section.is_some();
    if is_for_a_port && matching.is_none() {
        let message = format!("not attached (NoMatchingParent): Service {} has no such port", parent.service);
        linking.dangling(lowered, &parent.place, message);
        return None;
    }
    let of = |protocol: AppProtocol| -> Vec<String> {
        let ports = service.ports.iter().filter(wanted).filter(|port| port.protocol == protocol);
        ports.map(|port| port.number.to_string()).collect()
    };
    // Of a Service with one port, there is no other that the route could have been meant for.
    let is_meant = is_for_a_port || service.ports.len() == 1;
    let (opaque, undeclared) =
        (of(AppProtocol::Tcp), if is_meant { Vec::new() } else { of(AppProtocol::Undeclared) });
    report_opaque(linking, lowered, parent, &opaque);
    report_undeclared(linking, lowered, parent, &undeclared);
    Some(Parent { service: parent.service.clone(), port: matching.filter(|_| is_for_a_port) })
}

/// Nothing is parsed on a port that is TCP by declaration, so no route can be obeyed there.
fn report_opaque(linking: &mut Linking, lowered: &Lowered, parent: &ParentDraft, ports: &[String]) {
    if ports.is_empty() {
        return;
    }
    let message = format!(
        "not obeyed on port {} of Service {}, where bytes are opaque (TCP by appProtocol, name or number): \
         set appProtocol: http there, or name an HTTP port in this parentRef",
        ports.join(", "),
        parent.service
    );
    linking.find(lowered, (Severity::Warning, Reason::NotObeyed), &parent.place, message);
}

/// A route makes a port one of HTTP that says nothing of itself: a protocol in which the server speaks first does not work there any more.
fn report_undeclared(linking: &mut Linking, lowered: &Lowered, parent: &ParentDraft, ports: &[String]) {
    if ports.is_empty() {
        return;
    }
    let message = format!(
        "makes port {} of Service {} one of HTTP alone, which declares no protocol: where that is another, name the HTTP port in this \
         parentRef (port, or sectionName), or set appProtocol: tcp there; where it is HTTP, set appProtocol: http",
        ports.join(", "),
        parent.service
    );
    linking.find(lowered, (Severity::Warning, Reason::NotObeyed), &parent.place, message);
}

fn resolve_rule(linking: &mut Linking, lowered: &Lowered, rule: &RuleDraft) -> Rule {
    Rule {
        name: rule.name.clone(),
        matches: rule.matches.clone(),
        filters: resolve_filters(linking, lowered, &rule.filters),
        backends: rule.backends.iter().map(|backend| resolve_backend(linking, lowered, backend)).collect(),
        timeouts: rule.timeouts,
    }
}

fn resolve_backend(linking: &mut Linking, lowered: &Lowered, backend: &BackendDraft) -> Backend {
    let target = resolve(linking, lowered, &backend.reference, "its share of requests is answered 500");
    let (target, filters) = match &backend.filters {
        Some(filters) => (target, resolve_filters(linking, lowered, filters)),
        None => (BackendTarget::Invalid(InvalidBackend::FilterNotApplied), Vec::new()),
    };
    Backend { weight: backend.weight, target, filters }
}

fn resolve_filters(linking: &mut Linking, lowered: &Lowered, filters: &[FilterDraft]) -> Vec<Filter> {
    let mut filter_of = |filter: &FilterDraft| match filter {
        FilterDraft::Ready(filter) => filter.clone(),
        FilterDraft::Mirror(mirror) => Filter::Mirror(Mirror {
            target: resolve(linking, lowered, &mirror.reference, "nothing is mirrored"),
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
    reference: &ReferenceDraft,
    consequence: &str,
) -> BackendTarget {
    let Some((name, port)) = &reference.target else {
        let message = format!("ResolvedRefs: InvalidKind: only Services can be backends; {consequence}");
        linking.find(lowered, (Severity::Warning, Reason::DanglingReference), &reference.name_place, message);
        return BackendTarget::Invalid(InvalidBackend::InvalidKind);
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
