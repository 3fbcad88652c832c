//! ReferenceGrants that break Gateway API's rules, and what is told of those that do not.

use config::{
    finding::{Reason, Severity},
    model::{BackendTarget, InvalidBackend},
};

use super::{Case, apply, check};

const GRANT: &str =
    "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g}\nspec:\n";

const GRANTS: &[Case] = &[
    Case {
        name: "nobody",
        manifest: "  from: []\n  to: [{group: \"\", kind: Service}]\n",
        at: (5, 9),
        field: "spec.from",
        reason: Reason::InvalidValue,
        says: "1 to 16",
    },
    Case {
        name: "nothing",
        manifest: "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]\n  to: []\n",
        at: (6, 7),
        field: "spec.to",
        reason: Reason::InvalidValue,
        says: "1 to 16",
    },
    Case {
        name: "too many",
        manifest: "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]\n  to: [{group: \"\", kind: Service, name: s0}, {group: \"\", kind: Service, name: s1}, {group: \"\", kind: Service, name: s2}, {group: \"\", kind: Service, name: s3}, {group: \"\", kind: Service, name: s4}, {group: \"\", kind: Service, name: s5}, {group: \"\", kind: Service, name: s6}, {group: \"\", kind: Service, name: s7}, {group: \"\", kind: Service, name: s8}, {group: \"\", kind: Service, name: s9}, {group: \"\", kind: Service, name: s10}, {group: \"\", kind: Service, name: s11}, {group: \"\", kind: Service, name: s12}, {group: \"\", kind: Service, name: s13}, {group: \"\", kind: Service, name: s14}, {group: \"\", kind: Service, name: s15}, {group: \"\", kind: Service, name: s16}]\n",
        at: (6, 7),
        field: "spec.to",
        reason: Reason::InvalidValue,
        says: "has 17 items",
    },
    Case {
        name: "from not said",
        manifest: "  to: [{group: \"\", kind: Service}]\n",
        at: (5, 3),
        field: "spec.from",
        reason: Reason::MissingField,
        says: "from",
    },
    Case {
        name: "group",
        manifest: "  from: [{group: \"A b\", kind: HTTPRoute, namespace: a}]\n  to: [{group: \"\", kind: Service}]\n",
        at: (5, 18),
        field: "spec.from[0].group",
        reason: Reason::InvalidValue,
        says: "API group",
    },
    Case {
        name: "kind",
        manifest: "  from: [{group: \"\", kind: 1a, namespace: a}]\n  to: [{group: \"\", kind: Service}]\n",
        at: (5, 28),
        field: "spec.from[0].kind",
        reason: Reason::InvalidValue,
        says: "as HTTPRoute or Service",
    },
    Case {
        name: "kind with a line at its end",
        manifest: "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]\n  to: [{group: \"\", kind: Service-}]\n",
        at: (6, 26),
        field: "spec.to[0].kind",
        reason: Reason::InvalidValue,
        says: "as HTTPRoute or Service",
    },
    Case {
        name: "namespace",
        manifest: "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a.b}]\n  to: [{group: \"\", kind: Service}]\n",
        at: (5, 73),
        field: "spec.from[0].namespace",
        reason: Reason::InvalidValue,
        says: "lower case",
    },
    Case {
        name: "every namespace",
        manifest: "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute}]\n  to: [{group: \"\", kind: Service}]\n",
        at: (5, 10),
        field: "spec.from[0].namespace",
        reason: Reason::MissingField,
        says: "namespace",
    },
    Case {
        name: "empty name",
        manifest: "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]\n  to: [{group: \"\", kind: Service, name: \"\"}]\n",
        at: (6, 41),
        field: "spec.to[0].name",
        reason: Reason::InvalidValue,
        says: "remove it to grant all",
    },
    Case {
        name: "namespace of a target",
        manifest: "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]\n  to: [{group: \"\", kind: Service, namespace: a}]\n",
        at: (6, 35),
        field: "spec.to[0].namespace",
        reason: Reason::UnknownField,
        says: "unknown field",
    },
];

#[test]
fn grants_are_refused_by_gateway_api_s_rules() {
    check(GRANT, GRANTS);
}

const NAMESPACES: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Namespace\n\
    metadata: {name: bank}\n---\n";

/// A grant of the namespace `bank`.
fn grant(version: &str, from: &str, to: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/{version}\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: bank}}\n\
         spec:\n  from: [{from}]\n  to: [{to}]\n"
    )
}

const ROUTES_OF_SHOP: &str = "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}";

#[test]
fn a_grant_says_that_routes_of_the_mesh_need_none_and_what_is_left_to_others() {
    let gateways = "{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}";
    let (service, secret) = ("{group: '', kind: Service, name: s}", "{group: '', kind: Secret}");
    let (left, without) = (Reason::LeftToOthers, Reason::NotObeyed);
    let cases = [
        (ROUTES_OF_SHOP, service, vec![("spec.to[0]", without, "needs no grant for Services")]),
        (ROUTES_OF_SHOP, secret, vec![("spec.to[0]", without, "only Services can be backends")]),
        (gateways, secret, vec![("spec.from[0]", left, "a Gateway refers to")]),
    ];
    for (from, to, expected) in cases {
        for version in ["v1", "v1beta1"] {
            let outcome = apply(&format!("{NAMESPACES}{}", grant(version, from, to)));
            assert_eq!((outcome.objects, outcome.accepted), (3, 3), "{version}");
            assert!(outcome.findings.iter().all(|finding| finding.severity == Severity::NotObeyed));
            let told: Vec<_> =
                outcome.findings.iter().map(|finding| (&*finding.field, finding.reason)).collect();
            let wanted: Vec<_> = expected.iter().map(|(field, reason, _)| (*field, *reason)).collect();
            assert_eq!(told, wanted, "{from} {to}");
            for (finding, (.., says)) in outcome.findings.iter().zip(&expected) {
                assert!(finding.message.contains(says), "{finding}");
            }
        }
    }
    let old = apply(&grant("v1alpha2", ROUTES_OF_SHOP, service));
    assert!(old.findings[0].message.contains("write gateway.networking.k8s.io/v1"), "{}", old.findings[0]);
}

/// What becomes of a GRPCRoute's backend in `shop` that is this, and what is told of it.
fn backend(reference: &str, grant: &str) -> (BackendTarget, Option<(Reason, String)>) {
    let service = |namespace: &str, host: u8| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\nspec: {{clusterIP: 10.96.0.{host}, \
             ports: [{{port: 80, appProtocol: grpc}}]}}\n---\n"
        )
    };
    let outcome = apply(&format!(
        "{NAMESPACES}{}{}apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r, namespace: shop}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: s}}]\n  rules: [{{backendRefs: [{reference}]}}]\n{grant}",
        service("shop", 1),
        service("bank", 2)
    ));
    let route = outcome.mesh.routes.values().next().expect("the route is attached");
    let mut told = outcome.findings.into_iter().filter(|finding| finding.severity == Severity::Warning);
    (route.rules[0].backends[0].target.clone(), told.next().map(|finding| (finding.reason, finding.message)))
}

#[test]
fn a_service_of_another_namespace_needs_no_grant() {
    let (target, told) = backend("{name: s, namespace: bank, port: 80}", "");
    assert!(matches!(target, BackendTarget::Service { service, .. } if service.to_string() == "bank/s"));
    assert_eq!(told, None);
}

#[test]
fn what_is_no_service_needs_a_grant_of_its_namespace_to_be_named_and_is_no_backend_all_the_same() {
    let there = "{group: a.example, kind: Widget, name: w, namespace: bank}";
    let here = "{group: a.example, kind: Widget, name: w}";
    let granted = grant("v1", ROUTES_OF_SHOP, "{group: a.example, kind: Widget}");
    let other = grant("v1", ROUTES_OF_SHOP, "{group: a.example, kind: Gadget}");
    let refused = (
        InvalidBackend::RefNotPermitted,
        Reason::NotPermitted,
        "RefNotPermitted: no ReferenceGrant in namespace bank lets GRPCRoutes of namespace shop name this Widget",
    );
    let wrong = (InvalidBackend::InvalidKind, Reason::DanglingReference, "InvalidKind: only Services");
    let cases = [
        ("no grant", there, String::new(), &refused),
        ("a grant of something else", there, other, &refused),
        ("a grant that is broken", there, granted.replace("to:", "too:"), &refused),
        ("a grant", there, granted, &wrong),
        ("its own namespace", here, String::new(), &wrong),
    ];
    for (name, reference, grant, (why, reason, says)) in cases {
        let (target, told) = backend(reference, &grant);
        assert_eq!(target, BackendTarget::Invalid(*why), "{name}");
        let (found, message) = told.unwrap();
        assert_eq!(found, *reason, "{name}");
        assert!(message.contains(says) && message.contains("answered UNAVAILABLE"), "{name}: {message}");
    }
}
