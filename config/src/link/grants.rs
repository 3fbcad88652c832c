//! ReferenceGrants: which references across namespaces are permitted.
//!
//! Needed for whatever is no Service: a route of the mesh opens no way to a Service that its callers do not have without it (GEP-1294).
//! It must never permit what no grant says.

use std::sync::Arc;

use super::{Linking, Refusal};
use crate::{
    lower::{Draft, FromDraft, GATEWAY, GrantDraft, Lowered, ToDraft},
    name::{Namespace, RouteName},
};

/// Remembers a grant for the routes that are looked at afterwards. Never refused.
pub(super) fn know(linking: &mut Linking, lowered: &Arc<Lowered>) -> Result<(), Refusal> {
    if let Draft::ReferenceGrant(grant) = &lowered.draft {
        linking.grants.push(grant.clone());
    }
    Ok(())
}

/// Whether a route may name an object: one of its own namespace always.
pub(super) fn permit(
    grants: &[GrantDraft],
    route: &RouteName,
    (group, kind, namespace, name): (&str, &str, &Namespace, &str),
) -> bool {
    let is_from = |from: &FromDraft| {
        from.group == GATEWAY && from.kind == route.kind.as_str() && from.namespace == route.namespace
    };
    let is_to = |to: &ToDraft| {
        to.group == group && to.kind == kind && to.name.as_ref().is_none_or(|granted| granted == name)
    };
    let mut of_namespace = grants.iter().filter(|grant| grant.namespace == *namespace);
    route.namespace == *namespace
        || of_namespace.any(|grant| grant.from.iter().any(is_from) && grant.to.iter().any(is_to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{Name, RouteKind};

    fn namespace(name: &str) -> Namespace {
        Namespace::try_from(name).unwrap()
    }

    fn route(kind: RouteKind, of: &str) -> RouteName {
        RouteName::new(kind, namespace(of), Name::try_from("r").unwrap())
    }

    fn grant(from: (&str, &str, &str), to: (&str, &str, Option<&str>)) -> Vec<GrantDraft> {
        let from = FromDraft { group: from.0.into(), kind: from.1.into(), namespace: namespace(from.2) };
        let to = ToDraft { group: to.0.into(), kind: to.1.into(), name: to.2.map(str::to_owned) };
        vec![GrantDraft { namespace: namespace("bank"), from: vec![from], to: vec![to] }]
    }

    #[test]
    fn a_reference_is_permitted_where_a_grant_names_both_ends_of_it() {
        let (routes, widgets) = ((GATEWAY, "GRPCRoute", "shop"), ("a.example", "Widget", None));
        let cases = [
            ("both ends", grant(routes, widgets), true),
            ("this one by name", grant(routes, ("a.example", "Widget", Some("w"))), true),
            ("another by name", grant(routes, ("a.example", "Widget", Some("v"))), false),
            ("another kind of thing", grant(routes, ("a.example", "Gadget", None)), false),
            ("another group of thing", grant(routes, ("b.example", "Widget", None)), false),
            ("another namespace's routes", grant((GATEWAY, "GRPCRoute", "evil"), widgets), false),
            ("another kind of route", grant((GATEWAY, "HTTPRoute", "shop"), widgets), false),
            ("another group's GRPCRoute", grant(("", "GRPCRoute", "shop"), widgets), false),
            ("no grant", Vec::new(), false),
        ];
        let there = namespace("bank");
        for (name, grants, permitted) in cases {
            let reference = ("a.example", "Widget", &there, "w");
            assert_eq!(permit(&grants, &route(RouteKind::Grpc, "shop"), reference), permitted, "{name}");
        }
    }

    #[test]
    fn a_grant_is_for_its_own_namespace_and_that_needs_none_for_itself() {
        let grants = grant((GATEWAY, "GRPCRoute", "shop"), ("a.example", "Widget", None));
        let reference = |to: &str| {
            let (there, route) = (namespace(to), route(RouteKind::Grpc, "shop"));
            permit(&grants, &route, ("a.example", "Widget", &there, "w"))
        };
        assert_eq!(["bank", "vault", "shop"].map(reference), [true, false, true]);
    }
}
