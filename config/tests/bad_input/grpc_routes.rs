//! GRPCRoutes that break Gateway API's rules, and what is told of those that do not and yet say what nothing can obey.

use config::{
    finding::{Reason, Severity},
    model::{BackendTarget, InvalidBackend, PathMatch, RpcMatch, ValueMatch},
    store::Outcome,
};

use super::{Case, apply, check};

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: r}\nspec:\n";

const ROUTES: &[Case] = &[
    Case {
        name: "service with a slash",
        manifest: "  rules:\n  - matches:\n    - method: {service: a/b}\n",
        at: (7, 25),
        field: "spec.rules[0].matches[0].method.service",
        reason: Reason::InvalidValue,
        says: "as shop.v1.Cart",
    },
    Case {
        name: "service with two dots",
        manifest: "  rules:\n  - matches:\n    - method: {service: a..b}\n",
        at: (7, 25),
        field: "spec.rules[0].matches[0].method.service",
        reason: Reason::InvalidValue,
        says: "as shop.v1.Cart",
    },
    Case {
        name: "service of a digit",
        manifest: "  rules:\n  - matches:\n    - method: {service: 1a}\n",
        at: (7, 25),
        field: "spec.rules[0].matches[0].method.service",
        reason: Reason::InvalidValue,
        says: "as shop.v1.Cart",
    },
    Case {
        name: "empty service",
        manifest: "  rules:\n  - matches:\n    - method: {service: \"\", method: m}\n",
        at: (7, 25),
        field: "spec.rules[0].matches[0].method.service",
        reason: Reason::InvalidValue,
        says: "as shop.v1.Cart",
    },
    Case {
        name: "method with a dot",
        manifest: "  rules:\n  - matches:\n    - method: {method: a.b}\n",
        at: (7, 24),
        field: "spec.rules[0].matches[0].method.method",
        reason: Reason::InvalidValue,
        says: "as AddItem",
    },
    Case {
        name: "neither service nor method",
        manifest: "  rules:\n  - matches:\n    - method: {}\n",
        at: (7, 15),
        field: "spec.rules[0].matches[0].method",
        reason: Reason::InvalidValue,
        says: "neither service nor method",
    },
    Case {
        name: "neither in a regex",
        manifest: "  rules:\n  - matches:\n    - method: {type: RegularExpression, service: \"\", method: \"\"}\n",
        at: (7, 15),
        field: "spec.rules[0].matches[0].method",
        reason: Reason::InvalidValue,
        says: "neither service nor method",
    },
    Case {
        name: "type of method",
        manifest: "  rules:\n  - matches:\n    - method: {type: Prefix, service: a}\n",
        at: (7, 22),
        field: "spec.rules[0].matches[0].method.type",
        reason: Reason::InvalidValue,
        says: "Exact or RegularExpression",
    },
    Case {
        name: "regex of a service",
        manifest: "  rules:\n  - matches:\n    - method: {type: RegularExpression, service: \"a)(\"}\n",
        at: (7, 50),
        field: "spec.rules[0].matches[0].method.service",
        reason: Reason::InvalidValue,
        says: "regular expression",
    },
    Case {
        name: "regex of a method",
        manifest: "  rules:\n  - matches:\n    - method: {type: RegularExpression, method: \"[\"}\n",
        at: (7, 49),
        field: "spec.rules[0].matches[0].method.method",
        reason: Reason::InvalidValue,
        says: "regular expression",
    },
    Case {
        name: "two regexes of which each is small",
        manifest: "  rules:\n  - matches:\n    - method: {type: RegularExpression, service: \"\\\\pL{2}\", method: \"\\\\pL{2}\"}\n",
        at: (7, 15),
        field: "spec.rules[0].matches[0].method",
        reason: Reason::InvalidValue,
        says: "make it simpler",
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
        name: "header without a value",
        manifest: "  rules:\n  - matches:\n    - headers: [{name: a}]\n",
        at: (7, 17),
        field: "spec.rules[0].matches[0].headers[0].value",
        reason: Reason::MissingField,
        says: "value",
    },
    Case {
        name: "type of header",
        manifest: "  rules:\n  - matches:\n    - headers: [{name: a, value: b, type: Prefix}]\n",
        at: (7, 43),
        field: "spec.rules[0].matches[0].headers[0].type",
        reason: Reason::InvalidValue,
        says: "Exact or RegularExpression",
    },
    Case {
        name: "path",
        manifest: "  rules:\n  - matches:\n    - path: {value: /a}\n",
        at: (7, 7),
        field: "spec.rules[0].matches[0].path",
        reason: Reason::UnknownField,
        says: "known here: headers, method",
    },
    Case {
        name: "filter of HTTP",
        manifest: "  rules:\n  - filters: [{type: URLRewrite}]\n",
        at: (6, 22),
        field: "spec.rules[0].filters[0].type",
        reason: Reason::InvalidValue,
        says: "RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, ExtensionRef, not",
    },
    Case {
        name: "redirect of a backend",
        manifest: "  rules:\n  - backendRefs: [{name: a, port: 1, filters: [{type: RequestRedirect}]}]\n",
        at: (6, 55),
        field: "spec.rules[0].backendRefs[0].filters[0].type",
        reason: Reason::InvalidValue,
        says: "ExtensionRef, not",
    },
    Case {
        name: "filter twice",
        manifest: "  rules:\n  - filters:\n    - {type: RequestHeaderModifier, requestHeaderModifier: {}}\n    - {type: RequestHeaderModifier, requestHeaderModifier: {}}\n",
        at: (8, 14),
        field: "spec.rules[0].filters[1].type",
        reason: Reason::Duplicate,
        says: "merge the two",
    },
    Case {
        name: "settings of another type",
        manifest: "  rules:\n  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}, responseHeaderModifier: {}}]\n",
        at: (6, 96),
        field: "spec.rules[0].filters[0].responseHeaderModifier",
        reason: Reason::InvalidValue,
        says: "does not belong",
    },
    Case {
        name: "settings that are not there",
        manifest: "  rules:\n  - filters: [{type: RequestMirror}]\n",
        at: (6, 15),
        field: "spec.rules[0].filters[0].requestMirror",
        reason: Reason::MissingField,
        says: "required by type",
    },
    Case {
        name: "framing header",
        manifest: "  rules:\n  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [Te]}}]\n",
        at: (6, 80),
        field: "spec.rules[0].filters[0].responseHeaderModifier.remove[0]",
        reason: Reason::InvalidValue,
        says: "frames the message",
    },
    Case {
        name: "mirror's share",
        manifest: "  rules:\n  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 101}}]\n",
        at: (6, 94),
        field: "spec.rules[0].filters[0].requestMirror.percent",
        reason: Reason::InvalidValue,
        says: "from 0 to 100",
    },
    Case {
        name: "port of backend",
        manifest: "  rules:\n  - backendRefs: [{name: a}]\n",
        at: (6, 19),
        field: "spec.rules[0].backendRefs[0].port",
        reason: Reason::MissingField,
        says: "which port",
    },
    Case {
        name: "weight",
        manifest: "  rules:\n  - backendRefs: [{name: a, port: 1, weight: 1000001}]\n",
        at: (6, 46),
        field: "spec.rules[0].backendRefs[0].weight",
        reason: Reason::InvalidValue,
        says: "0 to 1000000",
    },
    Case {
        name: "namespace of another kind",
        manifest: "  rules:\n  - backendRefs: [{kind: Widget, name: a, namespace: A_b}]\n",
        at: (6, 54),
        field: "spec.rules[0].backendRefs[0].namespace",
        reason: Reason::InvalidValue,
        says: "lower case",
    },
    Case {
        name: "name of a rule",
        manifest: "  rules:\n  - name: A\n",
        at: (6, 11),
        field: "spec.rules[0].name",
        reason: Reason::InvalidValue,
        says: "lower case",
    },
    Case {
        name: "name of two rules",
        manifest: "  rules: [{name: a}, {name: a}]\n",
        at: (5, 29),
        field: "spec.rules[1].name",
        reason: Reason::Duplicate,
        says: "another rule",
    },
    Case {
        name: "timeouts",
        manifest: "  rules:\n  - timeouts: {request: 1s}\n",
        at: (6, 5),
        field: "spec.rules[0].timeouts",
        reason: Reason::UnknownField,
        says: "unknown field",
    },
    Case {
        name: "parent twice",
        manifest: "  parentRefs:\n  - {group: \"\", kind: Service, name: s}\n  - {group: \"\", kind: Service, name: s}\n",
        at: (7, 5),
        field: "spec.parentRefs[1]",
        reason: Reason::Duplicate,
        says: "same parent",
    },
    Case {
        name: "port of a parent",
        manifest: "  parentRefs: [{group: \"\", kind: Service, name: s, port: 0}]\n",
        at: (5, 58),
        field: "spec.parentRefs[0].port",
        reason: Reason::InvalidValue,
        says: "between 1 and 65535",
    },
];

#[test]
fn grpc_routes_are_refused_by_gateway_api_s_rules() {
    check(ROUTE, ROUTES);
}

#[test]
fn what_is_longer_than_gateway_api_lets_it_be_is_refused() {
    let many = |count: usize, item: &str| vec![item; count].join(", ");
    let matching = |count: usize| format!("{{matches: [{}]}}", many(count, "{}"));
    let backends = |count| format!("{{backendRefs: [{}]}}", many(count, "{name: s, port: 80}"));
    let headers = |count: usize| {
        let headers: Vec<String> = (0..count).map(|at| format!("{{name: h{at}, value: x}}")).collect();
        format!("{{matches: [{{headers: [{}]}}]}}", headers.join(", "))
    };
    let service = |count| format!("{{matches: [{{method: {{service: {}}}}}]}}", "a".repeat(count));
    let regex = |count| {
        format!("{{matches: [{{method: {{type: RegularExpression, method: {}}}}}]}}", "a".repeat(count))
    };
    let cases = [
        ("spec.rules", many(16, "{}"), many(17, "{}")),
        ("spec.rules", many(2, &matching(64)), format!("{}, {}", many(2, &matching(64)), matching(1))),
        ("spec.rules[0].matches", matching(64), matching(65)),
        ("spec.rules[0].backendRefs", backends(16), backends(17)),
        ("spec.rules[0].matches[0].headers", headers(16), headers(17)),
        ("spec.rules[0].matches[0].method.service", service(1024), service(1025)),
        ("spec.rules[0].matches[0].method.method", regex(1024), regex(1025)),
    ];
    for (field, most, more) in cases {
        let rejected = |rules: &str| -> Vec<String> {
            let outcome = of_a_service(rules);
            let rejected =
                outcome.findings.into_iter().filter(|finding| finding.severity == Severity::Rejected);
            rejected.map(|finding| finding.field).collect()
        };
        assert_eq!(rejected(&most), [""; 0], "{field}");
        assert_eq!(rejected(&more), [field]);
    }
}

#[test]
fn a_method_is_taken_as_it_is_written() {
    let exact = |text: &str| Some(ValueMatch::Exact(text.into()));
    let regex = |text: &str| Some(ValueMatch::Regex(text.into()));
    let cases = [
        ("{service: shop.v1.Cart, method: Add_1}", exact("shop.v1.Cart"), exact("Add_1")),
        ("{service: _a._B}", exact("_a._B"), None),
        ("{type: Exact, method: Add}", None, exact("Add")),
        (
            "{type: RegularExpression, service: 'shop[.].*', method: Add|Remove}",
            regex("shop[.].*"),
            regex("Add|Remove"),
        ),
        ("{type: RegularExpression, service: '', method: A.*}", None, regex("A.*")),
    ];
    for (said, service, method) in cases {
        let outcome =
            of_a_service(&format!("{{matches: [{{method: {said}}}], backendRefs: [{{name: s, port: 80}}]}}"));
        assert!(outcome.findings.is_empty(), "{said}: {:#?}", outcome.findings);
        let route = outcome.mesh.routes.values().next().unwrap();
        assert_eq!(
            route.rules[0].matches[0].path,
            Some(PathMatch::Rpc(RpcMatch { service, method })),
            "{said}"
        );
    }
    let outcome = of_a_service("{matches: [{headers: [{name: X-A, value: b}]}]}");
    let route = outcome.mesh.routes.values().next().unwrap();
    let only = &route.rules[0].matches[0];
    assert_eq!((&only.path, &*only.headers[0].name), (&None, "x-a"), "every call with this header");
}

#[test]
fn what_no_call_can_match_is_told() {
    let outcome = of_a_service("{matches: [{method: {service: .shop.Cart}}]}");
    let told: Vec<_> = outcome.findings.iter().map(|finding| (finding.severity, &*finding.field)).collect();
    assert_eq!(told, [(Severity::NotObeyed, "spec.rules[0].matches[0].method.service")]);
    assert!(outcome.findings[0].message.contains("remove the dot"), "{}", outcome.findings[0]);

    let outcome = of_a_service("");
    let told: Vec<_> = outcome.findings.iter().map(|finding| (finding.severity, &*finding.field)).collect();
    assert_eq!(told, [(Severity::Warning, "spec")]);
    assert!(outcome.findings[0].message.contains("UNIMPLEMENTED"), "{}", outcome.findings[0]);
    assert!(
        outcome.mesh.routes.values().all(|route| route.rules.is_empty()) && outcome.mesh.routes.len() == 1
    );
}

#[test]
fn hosts_and_sessions_are_known_and_not_obeyed() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80, appProtocol: grpc}]}\n---\n";
    let rules = "[{sessionPersistence: {sessionName: a}, backendRefs: [{name: s, port: 80}]}]";
    let outcome = apply(&format!(
        "{service}{ROUTE}  hostnames: [a.example]\n  parentRefs: [{{group: \"\", kind: Service, name: s}}]\n  rules: {rules}\n"
    ));
    let told: Vec<_> = outcome.findings.iter().map(|finding| (finding.severity, &*finding.field)).collect();
    let expected =
        ["spec.hostnames", "spec.rules[0].sessionPersistence"].map(|field| (Severity::NotObeyed, field));
    assert_eq!(told, expected, "{:#?}", outcome.findings);
    assert_eq!(outcome.mesh.routes.len(), 1);
}

#[test]
fn what_a_filter_is_for_that_cannot_be_applied_is_answered_unavailable() {
    let filter = "{type: ExtensionRef, extensionRef: {group: a.example, kind: Filter, name: f}}";
    let to_s = "{name: s, port: 80";
    let outcome = of_a_service(&format!(
        "{{filters: [{filter}], backendRefs: [{to_s}}}]}}, {{backendRefs: [{to_s}, filters: [{filter}]}}]}}"
    ));
    let warnings: Vec<_> =
        outcome.findings.iter().filter(|finding| finding.severity == Severity::Warning).collect();
    let fields: Vec<_> = warnings.iter().map(|finding| &*finding.field).collect();
    assert_eq!(fields, ["spec.rules[0].filters[0].type", "spec.rules[1].backendRefs[0].filters[0].type"]);
    for finding in &warnings {
        assert_eq!(finding.reason, Reason::NotObeyed);
        assert!(finding.message.contains("answered UNAVAILABLE"), "{finding}");
    }
    let route = outcome.mesh.routes.values().next().unwrap();
    assert!(route.rules[0].backends.is_empty() && route.rules[0].filters.is_empty(), "{route:?}");
    let target = &route.rules[1].backends[0].target;
    assert_eq!(*target, BackendTarget::Invalid(InvalidBackend::FilterNotApplied));
}

/// A route with these rules, of a Service that is there.
fn of_a_service(rules: &str) -> Outcome {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  clusterIP: 10.96.0.1\n  \
        ports: [{name: grpc, port: 80}]\n---\n";
    let parents = "[{group: \"\", kind: Service, name: s}]";
    apply(&format!("{service}{ROUTE}  parentRefs: {parents}\n  rules: [{rules}]\n"))
}
