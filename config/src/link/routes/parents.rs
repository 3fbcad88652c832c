//! Parents of routes: which ports of which Services a route is attached to, and which kind of route has a port.
//!
//! It must never take a port from a route that is for other callers.

use std::collections::BTreeSet;

use super::missing_service;
use crate::{
    finding::{Reason, Severity},
    link::Linking,
    lower::{Lowered, ParentDraft, RouteDraft},
    model::{AppProtocol, Parent, ServicePort},
    name::{Namespace, RouteKind, RouteName, ServiceName},
};

/// A port, as all callers meet it (`None`) or those of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::link) struct Attachment {
    caller: Option<Namespace>,
    pub(in crate::link) service: ServiceName,
    port: u16,
}

impl Attachment {
    fn of(route: &RouteName, service: &ServiceName, port: u16) -> Self {
        let is_consumer = route.namespace != service.namespace;
        Self { caller: is_consumer.then(|| route.namespace.clone()), service: service.clone(), port }
    }
}

/// The ports that a route is attached to by one of its parentRefs; `None` (with a finding) where there is no such Service or port.
pub(super) fn resolve(
    linking: &mut Linking,
    lowered: &Lowered,
    route: &RouteDraft,
    parent: &ParentDraft,
) -> Option<Vec<Parent>> {
    let Some(service) = linking.mesh.services.get(&parent.service) else {
        let message =
            format!("not attached (NoMatchingParent): {}", missing_service(linking, &parent.service));
        linking.dangling(lowered, &parent.place, message);
        return None;
    };
    let wanted = |port: &&ServicePort| {
        parent.port.is_none_or(|number| number == port.number)
            && parent.section.as_ref().is_none_or(|section| port.name.as_ref() == Some(section))
    };
    let ports: Vec<(u16, AppProtocol)> =
        service.ports.iter().filter(wanted).map(|port| (port.number, port.protocol)).collect();
    let is_for_a_port = parent.port.is_some() || parent.section.is_some();
    if is_for_a_port && ports.is_empty() {
        let message = format!("not attached (NoMatchingParent): Service {} has no such port", parent.service);
        linking.dangling(lowered, &parent.place, message);
        return None;
    }
    // Of a Service with one port, there is no other that the route could have been meant for.
    let is_meant = is_for_a_port || service.ports.len() == 1;
    let left = settle_kinds(linking, lowered, route, (parent, &ports));
    let of = |protocol: AppProtocol| -> Vec<String> {
        let ports = left.iter().filter(|(_, spoken)| *spoken == protocol);
        ports.map(|(port, _)| port.to_string()).collect()
    };
    let (opaque, undeclared) =
        (of(AppProtocol::Tcp), if is_meant { Vec::new() } else { of(AppProtocol::Undeclared) });
    report_opaque(linking, lowered, (route.name.kind, parent), &opaque);
    report_undeclared(linking, lowered, (route.name.kind, parent), &undeclared);
    let service = &parent.service;
    if left.len() == ports.len() && !is_for_a_port {
        return Some(vec![Parent { service: service.clone(), port: None }]);
    }
    Some(left.into_iter().map(|(port, _)| Parent { service: service.clone(), port: Some(port) }).collect())
}

/// The ports that are left to a route. A port has routes of one kind, and GRPCRoutes come before HTTPRoutes (GEP-1294); but a
/// consumer's takes nothing from the producer's, nor from another consumer's.
fn settle_kinds(
    linking: &mut Linking,
    lowered: &Lowered,
    route: &RouteDraft,
    (parent, ports): (&ParentDraft, &[(u16, AppProtocol)]),
) -> Vec<(u16, AppProtocol)> {
    let mut left = Vec::with_capacity(ports.len());
    for (port, protocol) in ports.iter().copied() {
        let attachment = Attachment::of(&route.name, &parent.service, port);
        let first = linking.grpc_ports.get(&attachment).and_then(BTreeSet::first);
        match (route.name.kind, first) {
            // No route is obeyed there.
            (..) if protocol == AppProtocol::Tcp => {}
            (RouteKind::Grpc, _) => {
                linking.grpc_ports.entry(attachment).or_default().insert(route.name.clone());
            }
            (RouteKind::Http, None) => {}
            (RouteKind::Http, Some(first)) => {
                let message = format!(
                    "not attached to port {port} of Service {} (Conflicted): {} {first} is attached there, and a port has routes \
                     of one kind, GRPCRoutes before HTTPRoutes: remove one of the two, or name another port in its parentRef",
                    parent.service, first.kind
                );
                linking.find(lowered, (Severity::Warning, Reason::Conflict), &parent.place, message);
                continue;
            }
        }
        left.push((port, protocol));
    }
    left
}

/// Nothing is parsed on a port that is TCP by declaration, so no route can be obeyed there.
fn report_opaque(
    linking: &mut Linking,
    lowered: &Lowered,
    (kind, parent): (RouteKind, &ParentDraft),
    ports: &[String],
) {
    if ports.is_empty() {
        return;
    }
    let remedy = match kind {
        RouteKind::Http => "set appProtocol: http there, or name an HTTP port in this parentRef",
        RouteKind::Grpc => "set appProtocol: kubernetes.io/h2c there, or name a gRPC port in this parentRef",
    };
    let message = format!(
        "not obeyed on port {} of Service {}, where bytes are opaque (TCP by appProtocol, name or number): {remedy}",
        ports.join(", "),
        parent.service
    );
    linking.find(lowered, (Severity::Warning, Reason::NotObeyed), &parent.place, message);
}

/// A route makes a port one of HTTP that says nothing of itself: a protocol in which the server speaks first does not work there any more.
fn report_undeclared(
    linking: &mut Linking,
    lowered: &Lowered,
    (kind, parent): (RouteKind, &ParentDraft),
    ports: &[String],
) {
    if ports.is_empty() {
        return;
    }
    let (spoken, meant, word) = match kind {
        RouteKind::Http => ("HTTP", "HTTP", "http"),
        RouteKind::Grpc => ("HTTP/2", "gRPC", "kubernetes.io/h2c"),
    };
    let message = format!(
        "makes port {} of Service {} one of {spoken} alone, which declares no protocol: where that is another, name the {meant} port in \
         this parentRef (port, or sectionName), or set appProtocol: tcp there; where it is {meant}, set appProtocol: {word}",
        ports.join(", "),
        parent.service
    );
    linking.find(lowered, (Severity::Warning, Reason::NotObeyed), &parent.place, message);
}
