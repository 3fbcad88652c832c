//! HTTPRoutes that break Gateway API's rules.

use config::{
    finding::{Reason, Severity},
    model::{BackendTarget, Filter, InvalidBackend},
    store::Outcome,
};

use super::{Case, apply, check};

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n";

const ROUTES: &[Case] = &[
    Case {
        name: "path",
        manifest: "  rules:\n  - matches:\n    - path: {value: a}\n",
        at: (7, 21),
        field: "spec.rules[0].matches[0].path.value",
        reason: Reason::InvalidValue,
        says: "start with '/'",
    },
    Case {
        name: "regex",
        manifest: "  rules:\n  - matches:\n    - path: {type: RegularExpression, value: \"a)(\"}\n",
        at: (7, 46),
        field: "spec.rules[0].matches[0].path.value",
        reason: Reason::InvalidValue,
        says: "regular expression",
    },
    Case {
        name: "port of backend",
        manifest: "  rules:\n  - backendRefs:\n    - name: a\n",
        at: (7, 7),
        field: "spec.rules[0].backendRefs[0].port",
        reason: Reason::MissingField,
        says: "which port",
    },
    Case {
        name: "deep type",
        manifest: "  rules:\n  - backendRefs:\n    - {name: a, port: 80}\n    - {name: b, port: x}\n",
        at: (8, 23),
        field: "spec.rules[0].backendRefs[1].port",
        reason: Reason::WrongType,
        says: "whole number",
    },
    Case {
        name: "weight",
        manifest: "  rules: [{backendRefs: [{name: a, port: 1, weight: -1}]}]\n",
        at: (5, 53),
        field: "spec.rules[0].backendRefs[0].weight",
        reason: Reason::InvalidValue,
        says: "0 to 1000000",
    },
    Case {
        name: "method",
        manifest: "  rules: [{matches: [{method: get}]}]\n",
        at: (5, 31),
        field: "spec.rules[0].matches[0].method",
        reason: Reason::InvalidValue,
        says: "GET",
    },
    Case {
        name: "header twice",
        manifest: "  rules:\n  - matches:\n    - headers:\n      - {name: a, value: x}\n      - {name: a, value: y}\n",
        at: (9, 16),
        field: "spec.rules[0].matches[0].headers[1].name",
        reason: Reason::Duplicate,
        says: "twice",
    },
    Case {
        name: "stray settings",
        manifest: "  rules:\n  - filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier: {}\n      urlRewrite: {}\n",
        at: (9, 19),
        field: "spec.rules[0].filters[0].urlRewrite",
        reason: Reason::InvalidValue,
        says: "does not belong",
    },
    Case {
        name: "prefix rewrite",
        manifest: "  rules:\n  - matches: [{path: {type: Exact, value: /a}}]\n    filters:\n    - type: URLRewrite\n      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}\n",
        at: (9, 33),
        field: "spec.rules[0].filters[0].urlRewrite.path.type",
        reason: Reason::InvalidValue,
        says: "PathPrefix",
    },
    Case {
        name: "framing header",
        manifest: "  rules:\n  - filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier: {remove: [Content-Length]}\n",
        at: (8, 40),
        field: "spec.rules[0].filters[0].requestHeaderModifier.remove[0]",
        reason: Reason::InvalidValue,
        says: "frames the message",
    },
    Case {
        name: "field of the connection",
        manifest: "  rules:\n  - filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier: {set: [{name: Proxy-Connection, value: a}]}\n",
        at: (8, 44),
        field: "spec.rules[0].filters[0].requestHeaderModifier.set[0].name",
        reason: Reason::InvalidValue,
        says: "frames the message",
    },
    Case {
        name: "host removed",
        manifest: "  rules:\n  - filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier: {remove: [host]}\n",
        at: (8, 40),
        field: "spec.rules[0].filters[0].requestHeaderModifier.remove[0]",
        reason: Reason::InvalidValue,
        says: "set it",
    },
    Case {
        name: "host added",
        manifest: "  rules:\n  - filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier: {add: [{name: Host, value: a}]}\n",
        at: (8, 44),
        field: "spec.rules[0].filters[0].requestHeaderModifier.add[0].name",
        reason: Reason::InvalidValue,
        says: "set it",
    },
    Case {
        name: "host that is none",
        manifest: "  rules:\n  - filters:\n    - type: RequestHeaderModifier\n      requestHeaderModifier: {set: [{name: host, value: a b/c}]}\n",
        at: (8, 57),
        field: "spec.rules[0].filters[0].requestHeaderModifier.set[0].value",
        reason: Reason::InvalidValue,
        says: "must be a host",
    },
    Case {
        name: "redirect with backend",
        manifest: "  rules:\n  - filters: [{type: RequestRedirect, requestRedirect: {}}]\n    backendRefs: [{name: a, port: 1}]\n",
        at: (7, 18),
        field: "spec.rules[0].backendRefs",
        reason: Reason::InvalidValue,
        says: "no backends",
    },
    Case {
        name: "redirect of a backend",
        manifest: "  rules:\n  - backendRefs:\n    - name: a\n      port: 1\n      filters:\n      - {type: RequestRedirect, requestRedirect: {}}\n",
        at: (10, 16),
        field: "spec.rules[0].backendRefs[0].filters[0].type",
        reason: Reason::NotObeyed,
        says: "give the rule this filter",
    },
    Case {
        name: "duration",
        manifest: "  rules: [{timeouts: {request: 1.5s}}]\n",
        at: (5, 32),
        field: "spec.rules[0].timeouts.request",
        reason: Reason::InvalidValue,
        says: "1m30s",
    },
    Case {
        name: "timeouts",
        manifest: "  rules: [{timeouts: {request: 1s, backendRequest: 2s}}]\n",
        at: (5, 52),
        field: "spec.rules[0].timeouts.backendRequest",
        reason: Reason::InvalidValue,
        says: "longer",
    },
    Case {
        name: "unknown",
        manifest: "  rules: [{backendrefs: []}]\n",
        at: (5, 12),
        field: "spec.rules[0].backendrefs",
        reason: Reason::UnknownField,
        says: "did you mean backendRefs?",
    },
];

#[test]
fn routes_are_refused_by_gateway_api_s_rules() {
    check(ROUTE, ROUTES);
}

#[test]
fn what_no_request_can_match_is_told_and_matches_nothing_else() {
    let outcome = of_a_service("{matches: [{method: CONNECT}]}");
    let told: Vec<_> = outcome.findings.iter().map(|finding| (finding.severity, &*finding.field)).collect();
    assert!(
        told.contains(&(Severity::NotObeyed, "spec.rules[0].matches[0].method")),
        "{:#?}",
        outcome.findings
    );
    let route = outcome.mesh.routes.values().next().unwrap();
    assert_eq!(route.rules[0].matches[0].method.as_deref(), Some("CONNECT"), "not a match of everything");
}

#[test]
fn a_host_may_be_set_with_a_port() {
    let filter =
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: \"a:80\"}]}}";
    let outcome = of_a_service(&format!("{{filters: [{filter}]}}"));
    assert!(!outcome.findings.iter().any(|finding| finding.severity == Severity::Rejected));
    let route = outcome.mesh.routes.values().next().unwrap();
    let [Filter::RequestHeaders(edit)] = &route.rules[0].filters[..] else { panic!("{route:?}") };
    assert_eq!(edit.set, [("host".to_owned(), "a:80".to_owned())]);
}

#[test]
fn route_on_a_port_of_opaque_bytes_is_taken_with_a_warning() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  \
        - {name: web, port: 80, appProtocol: http}\n  - {name: raw, port: 81, appProtocol: tcp}\n---\n";
    let on = |port: &str| {
        apply(&format!("{service}{ROUTE}  parentRefs: [{{group: \"\", kind: Service, name: s{port}}}]\n"))
    };
    for port in ["", ", port: 81", ", sectionName: raw"] {
        let outcome = on(port);
        let [finding] = &outcome.findings[..] else { panic!("{port}: {:#?}", outcome.findings) };
        assert_eq!((finding.severity, finding.reason), (Severity::Warning, Reason::NotObeyed), "{finding}");
        assert_eq!((finding.position.line, finding.position.column), (14, 49), "{finding}");
        assert_eq!(finding.field, "spec.parentRefs[0].name");
        assert!(finding.message.contains("port 81 of Service default/s"), "{finding}");
        assert_eq!(outcome.mesh.routes.len(), 1, "taken all the same");
    }
    assert!(on(", port: 80").findings.is_empty());
}

#[test]
fn a_route_that_makes_http_of_a_port_that_may_be_something_else_is_taken_with_a_warning() {
    let service = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  \
             - {{name: data, port: 7000}}\n{more}---\n"
        )
    };
    let both = service("  - {name: http, port: 80}\n");
    let on = |service: &str, port: &str| {
        apply(&format!("{service}{ROUTE}  parentRefs: [{{group: \"\", kind: Service, name: s{port}}}]\n"))
    };
    let outcome = on(&both, "");
    let [finding] = &outcome.findings[..] else { panic!("{:#?}", outcome.findings) };
    assert_eq!((finding.severity, finding.reason), (Severity::Warning, Reason::NotObeyed), "{finding}");
    assert!(finding.message.contains("makes port 7000 of Service default/s one of HTTP alone"), "{finding}");
    assert_eq!(outcome.mesh.routes.len(), 1, "taken all the same");
    for meant in [", port: 80", ", port: 7000", ", sectionName: data"] {
        assert!(on(&both, meant).findings.is_empty(), "{meant}");
    }
    assert!(on(&service(""), "").findings.is_empty(), "the only one");
}

#[test]
fn what_a_filter_is_for_that_cannot_be_applied_has_no_backend_and_the_rest_of_its_route_is_in_force() {
    for (kind, settings) in [
        ("CORS", "cors: {}"),
        ("ExternalAuth", "externalAuth: {protocol: HTTP, backendRef: {name: s, port: 80}}"),
        ("ExtensionRef", "extensionRef: {group: a.example, kind: Filter, name: f}"),
    ] {
        let filter = format!("{{type: {kind}, {settings}}}");
        let told = |outcome: &Outcome, field: &str| {
            let about = |finding: &&config::finding::Finding| {
                finding.reason == Reason::NotObeyed && finding.severity == Severity::Warning
            };
            let told: Vec<_> = outcome.findings.iter().filter(about).collect();
            let [finding] = &told[..] else { panic!("{:#?}", outcome.findings) };
            assert_eq!((finding.severity, &*finding.field), (Severity::Warning, field), "{finding}");
            assert!(finding.message.contains("answered 500"), "{finding}");
        };
        let header = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}";
        let to_s = "backendRefs: [{name: s, port: 80}]";
        let outcome = of_a_service(&format!("{{filters: [{header}, {filter}], {to_s}}}, {{{to_s}}}"));
        told(&outcome, "spec.rules[0].filters[1].type");
        let route = outcome.mesh.routes.values().next().unwrap();
        assert!(route.rules[0].backends.is_empty() && route.rules[0].filters.is_empty(), "{kind}: {route:?}");
        assert!(
            matches!(route.rules[1].backends[0].target, BackendTarget::Service { .. }),
            "{kind}: {route:?}"
        );

        let backends =
            format!("backendRefs: [{{name: s, port: 80}}, {{name: s, port: 80, filters: [{filter}]}}]");
        let outcome = of_a_service(&format!("{{{backends}}}"));
        told(&outcome, "spec.rules[0].backendRefs[1].filters[0].type");
        let route = outcome.mesh.routes.values().next().unwrap();
        let targets = [0, 1].map(|backend| route.rules[0].backends[backend].target.clone());
        assert!(matches!(targets[0], BackendTarget::Service { .. }), "{kind}: {route:?}");
        assert_eq!(targets[1], BackendTarget::Invalid(InvalidBackend::FilterNotApplied), "{kind}");
    }
}

#[test]
fn a_backend_s_mirror_is_taken_and_one_to_nowhere_is_told() {
    let mirroring = |to: &str| {
        let filter =
            format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {to}, port: 80}}}}}}");
        let backend = format!("{{name: s, port: 80, filters: [{filter}]}}");
        of_a_service(&format!("{{backendRefs: [{backend}]}}"))
    };
    let outcome = mirroring("s");
    assert!(outcome.findings.is_empty(), "{:#?}", outcome.findings);
    let route = outcome.mesh.routes.values().next().unwrap();
    assert!(matches!(route.rules[0].backends[0].filters[..], [Filter::Mirror(_)]), "{route:?}");
    let outcome = mirroring("nobody");
    let [finding] = &outcome.findings[..] else { panic!("{:#?}", outcome.findings) };
    assert_eq!(
        (finding.severity, finding.reason),
        (Severity::Warning, Reason::DanglingReference),
        "{finding}"
    );
    assert!(finding.message.contains("nothing is mirrored"), "{finding}");
}

#[test]
fn more_matches_than_gateway_api_allows_in_all_rules_are_refused() {
    let matching = |count: usize| {
        let paths: Vec<String> = (0..count).map(|at| format!("{{path: {{value: /{at}}}}}")).collect();
        format!("{{matches: [{}]}}", paths.join(", "))
    };
    let rejected = |rules: &[String]| -> Vec<String> {
        let findings = of_a_service(&rules.join(", ")).findings;
        findings.into_iter().filter(|one| one.severity == Severity::Rejected).map(|one| one.field).collect()
    };
    assert_eq!(rejected(&[matching(64), matching(64)]), [""; 0]);
    assert_eq!(rejected(&[matching(64), matching(64), matching(1)]), ["spec.rules"]);
    assert_eq!(rejected(&[matching(65)]), ["spec.rules[0].matches"]);
}

/// A route with this rule, of a Service that is there.
fn of_a_service(rule: &str) -> Outcome {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  clusterIP: 10.96.0.1\n  \
        ports: [{name: web, port: 80, appProtocol: http}]\n---\n";
    let parents = "[{group: \"\", kind: Service, name: s}]";
    apply(&format!("{service}{ROUTE}  parentRefs: {parents}\n  rules: [{rule}]\n"))
}
