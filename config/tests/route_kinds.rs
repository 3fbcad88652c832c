//! HTTPRoutes and GRPCRoutes beside each other: who has a port, for whom, and what is told.

use std::{collections::BTreeMap, path::PathBuf};

use config::{
    finding::{Finding, Reason, Severity},
    model::Mesh,
    name::RouteKind,
    store::{FileText, Options, Outcome, Store},
};

fn apply(text: &str) -> Outcome {
    let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text))]);
    Store::new(Options::default()).apply(&files)
}

/// The Service `shop/s`, with these ports, and the namespaces of all who are here.
fn service(ports: &str) -> String {
    let namespaces = ["shop", "bank", "evil"]
        .map(|name| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n"));
    let namespaces = namespaces.concat();
    format!(
        "{namespaces}apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: shop}}\nspec: {{clusterIP: 10.96.0.1, ports: [{ports}]}}\n"
    )
}

/// A route to `shop/s`, created on this day of 2026, of this part of it.
fn route(kind: &str, name: &str, day: u8, part: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("a namespace and a name");
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"2026-01-{day:02}T00:00:00Z\"}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: s, namespace: shop{part}}}]\n  \
         rules: [{{backendRefs: [{{name: s, namespace: shop, port: 80}}]}}]\n"
    )
}

/// `KIND NAMESPACE/NAME PORT` of each parent, in order; a star for all ports.
fn attached(mesh: &Mesh) -> Vec<String> {
    let routes = mesh.routes.values().flat_map(|route| {
        route.parents.iter().map(|parent| {
            let port = parent.port.map_or("*".to_owned(), |port| port.to_string());
            format!("{} {} {port}", route.name.kind, route.name)
        })
    });
    routes.collect()
}

fn conflicts(outcome: &Outcome) -> Vec<&Finding> {
    outcome.findings.iter().filter(|finding| finding.reason == Reason::Conflict).collect()
}

const TWO_PORTS: &str = "{name: http, port: 80}, {name: grpc, port: 90}";

#[test]
fn a_port_has_routes_of_one_kind_and_a_grpc_route_comes_first_whatever_its_age_and_name() {
    for (grpc, http) in [(("shop/z", 9), ("shop/a", 1)), (("shop/a", 1), ("shop/z", 9))] {
        let one = route("GRPCRoute", grpc.0, grpc.1, "");
        let other = route("HTTPRoute", http.0, http.1, "");
        for both in [format!("{one}{other}"), format!("{other}{one}")] {
            let outcome = apply(&format!("{}{both}", service(TWO_PORTS)));
            assert_eq!(attached(&outcome.mesh), [format!("GRPCRoute {} *", grpc.0)]);
            let found = conflicts(&outcome);
            let [at_80, at_90] = &found[..] else { panic!("{:#?}", outcome.findings) };
            for (finding, port) in [(at_80, 80), (at_90, 90)] {
                assert_eq!(finding.severity, Severity::Warning);
                assert_eq!(finding.object.as_ref().unwrap().to_string(), format!("HTTPRoute {}", http.0));
                assert_eq!(finding.field, "spec.parentRefs[0].name");
                let said = format!(
                    "not attached to port {port} of Service shop/s (Conflicted): GRPCRoute {} is attached there",
                    grpc.0
                );
                assert!(finding.message.contains(&said), "{finding}");
            }
            let is_said =
                outcome.findings.iter().any(|finding| finding.message.contains("attached to no Service"));
            assert!(!is_said, "once is enough: {:#?}", outcome.findings);
        }
    }
}

#[test]
fn what_a_grpc_route_leaves_is_the_http_route_s() {
    for part in [", port: 90", ", sectionName: grpc"] {
        let outcome = apply(&format!(
            "{}{}{}",
            service(TWO_PORTS),
            route("HTTPRoute", "shop/web", 1, ""),
            route("GRPCRoute", "shop/calls", 2, part)
        ));
        assert_eq!(attached(&outcome.mesh), ["GRPCRoute shop/calls 90", "HTTPRoute shop/web 80"]);
        assert_eq!(conflicts(&outcome).len(), 1, "{:#?}", outcome.findings);
    }
    let apart = apply(&format!(
        "{}{}{}",
        service(TWO_PORTS),
        route("HTTPRoute", "shop/same", 1, ", port: 80"),
        route("GRPCRoute", "shop/same", 1, ", port: 90")
    ));
    assert_eq!(
        attached(&apart.mesh),
        ["HTTPRoute shop/same 80", "GRPCRoute shop/same 90"],
        "two of one name"
    );
    assert!(apart.findings.is_empty(), "{:#?}", apart.findings);
}

#[test]
fn nobody_s_grpc_route_takes_a_port_from_another_namespace_s_routes() {
    let cases = [
        ("a consumer's does not take the producer's", "bank/c", "shop/p"),
        ("nor does the producer's take a consumer's", "shop/p", "bank/c"),
        ("nor one consumer's another's", "evil/c", "bank/c"),
    ];
    for (name, grpc, http) in cases {
        let outcome = apply(&format!(
            "{}{}{}",
            service(TWO_PORTS),
            route("GRPCRoute", grpc, 1, ", port: 90"),
            route("HTTPRoute", http, 2, ", port: 90")
        ));
        assert_eq!(conflicts(&outcome).len(), 0, "{name}: {:#?}", outcome.findings);
        let mut expected = [format!("GRPCRoute {grpc} 90"), format!("HTTPRoute {http} 90")];
        expected.sort_by_key(|line| line.split_once(' ').unwrap().1.to_owned());
        assert_eq!(attached(&outcome.mesh), expected, "{name}");
    }
    let own = apply(&format!(
        "{}{}{}",
        service(TWO_PORTS),
        route("GRPCRoute", "bank/g", 1, ", port: 90"),
        route("HTTPRoute", "bank/h", 2, ", port: 90")
    ));
    assert_eq!(attached(&own.mesh), ["GRPCRoute bank/g 90"]);
    assert_eq!(conflicts(&own).len(), 1);
}

#[test]
fn a_port_goes_back_when_the_grpc_route_goes() {
    let (http, grpc) = (route("HTTPRoute", "shop/h", 1, ""), route("GRPCRoute", "shop/g", 2, ""));
    let mut store = Store::new(Options::default());
    let mut kinds = |text: String| -> Vec<RouteKind> {
        let files = BTreeMap::from([(PathBuf::from("a.yaml"), FileText::from(text.as_str()))]);
        store.apply(&files).mesh.routes.keys().map(|name| name.kind).collect()
    };
    let service = service(TWO_PORTS);
    assert_eq!(kinds(format!("{service}{http}")), [RouteKind::Http]);
    assert_eq!(kinds(format!("{service}{http}{grpc}")), [RouteKind::Grpc]);
    assert_eq!(kinds(format!("{service}{http}")), [RouteKind::Http]);
}

#[test]
fn on_a_port_of_opaque_bytes_no_route_is_obeyed_and_none_is_in_another_s_way() {
    let outcome = apply(&format!(
        "{}{}{}",
        service("{name: raw, port: 81, appProtocol: tcp}"),
        route("GRPCRoute", "shop/g", 1, ""),
        route("HTTPRoute", "shop/h", 2, "")
    ));
    assert_eq!(conflicts(&outcome).len(), 0);
    let told: Vec<_> =
        outcome.findings.iter().filter(|finding| finding.message.contains("not obeyed on port 81")).collect();
    let [of_grpc, of_http] = &told[..] else { panic!("{:#?}", outcome.findings) };
    assert!(of_grpc.message.contains("set appProtocol: kubernetes.io/h2c there"), "{of_grpc}");
    assert!(of_http.message.contains("set appProtocol: http there"), "{of_http}");
}

#[test]
fn a_grpc_route_that_makes_http2_of_a_port_that_may_be_something_else_says_so() {
    let ports = "{name: data, port: 7000}, {name: grpc, port: 80}";
    let on = |part: &str| apply(&format!("{}{}", service(ports), route("GRPCRoute", "shop/g", 1, part)));
    let outcome = on("");
    let [finding] = &outcome.findings[..] else { panic!("{:#?}", outcome.findings) };
    assert_eq!((finding.severity, finding.reason), (Severity::Warning, Reason::NotObeyed), "{finding}");
    assert!(finding.message.contains("makes port 7000 of Service shop/s one of HTTP/2 alone"), "{finding}");
    assert!(finding.message.contains("set appProtocol: kubernetes.io/h2c"), "{finding}");
    for meant in [", port: 80", ", port: 7000", ", sectionName: data"] {
        assert!(on(meant).findings.is_empty(), "{meant}");
    }
}

#[test]
fn a_grpc_route_without_a_service_or_with_a_backend_that_is_not_there_says_so() {
    let lost = apply(&route("GRPCRoute", "shop/g", 1, ""));
    assert!(lost.mesh.routes.is_empty());
    assert!(lost.findings.iter().any(|finding| finding.message.contains("NoMatchingParent")), "{lost:#?}");
    let text = route("GRPCRoute", "shop/g", 1, "").replace("port: 80}]", "port: 99}]");
    let outcome = apply(&format!("{}{text}", service("{name: grpc, port: 80}")));
    let [finding] = &outcome.findings[..] else { panic!("{:#?}", outcome.findings) };
    assert_eq!(finding.reason, Reason::DanglingReference);
    assert!(
        finding.message.contains("BackendNotFound") && finding.message.contains("UNAVAILABLE"),
        "{finding}"
    );
    assert_eq!(attached(&outcome.mesh), ["GRPCRoute shop/g *"]);
}
