//! What becomes of GRPCRoutes: what their ports speak, which calls they match, in which order.

use config::model::{HeaderMatch, RpcMatch, ValueMatch};
use http::Request;

use super::*;
use crate::route::{Decision, decide};

fn exact(text: &str) -> Option<ValueMatch> {
    Some(ValueMatch::Exact(text.into()))
}

fn regex(pattern: &str) -> Option<ValueMatch> {
    Some(ValueMatch::Regex(pattern.into()))
}

fn rpc(service: Option<ValueMatch>, method: Option<ValueMatch>) -> Match {
    Match { path: Some(PathMatch::Rpc(RpcMatch { service, method })), ..Match::default() }
}

fn with_headers(count: usize, one: Match) -> Match {
    let header = |at| HeaderMatch { name: format!("x-{at}"), value: ValueMatch::Exact("1".into()) };
    Match { headers: (0..count).map(header).collect(), ..one }
}

fn named(name: &str, one: Match) -> Rule {
    Rule { name: Some(name.into()), ..rule(vec![one], vec![backend("shop/cart")]) }
}

fn table(mesh: &Mesh, caller: &str) -> Arc<crate::snapshot::RouteTable> {
    entry_of(resolve(mesh, caller, "10.96.0.1:80")).1
}

#[test]
fn a_port_that_declares_nothing_is_http2_for_those_who_have_grpc_routes() {
    let routed = |grpc: &str, http: &str| {
        let mut mesh = mesh();
        add_grpc_route(&mut mesh, grpc, "shop/cart", vec![rule(vec![], vec![])]);
        if !http.is_empty() {
            add_route(&mut mesh, http, "shop/cart", vec![rule(vec![], vec![])]);
        }
        ["shop", "bank"].map(|caller| resolve(&mesh, caller, "10.96.0.1:80").protocol())
    };
    use AppProtocol::{Http1, Http2, Undeclared};
    assert_eq!(routed("shop/producer", ""), [Http2, Http2]);
    assert_eq!(routed("bank/consumer", ""), [Undeclared, Http2]);
    assert_eq!(routed("shop/producer", "bank/consumer"), [Http2, Http1], "each as its own routes have it");
    assert_eq!(routed("bank/consumer", "shop/producer"), [Http1, Http2]);
    let mut empty = mesh();
    add_grpc_route(&mut empty, "shop/no-rules", "shop/cart", vec![]);
    assert_eq!(resolve(&empty, "bank", "10.96.0.1:80").protocol(), Http2);
    add_service(&mut empty, "shop/cart", "10.96.0.1", Http1, &["10.0.0.1:8080"]);
    assert_eq!(resolve(&empty, "bank", "10.96.0.1:80").protocol(), Http1, "what is declared counts");
}

#[test]
fn calls_match_by_service_and_method() {
    let paths =
        ["/a.B/Get", "/a.B/Put", "/a.Bc/Get", "/aXB/Get", "/a.b/Get", "/a.B/Get/x", "/x/a.B/Get", "/a.B/"];
    let cases = [
        ("both", rpc(exact("a.B"), exact("Get")), vec!["/a.B/Get"]),
        ("a service", rpc(exact("a.B"), None), vec!["/a.B/Get", "/a.B/Put", "/a.B/Get/x", "/a.B/"]),
        ("a method", rpc(None, exact("Get")), vec!["/a.B/Get", "/a.Bc/Get", "/aXB/Get", "/a.b/Get"]),
        ("a pattern of services", rpc(regex("a.B"), None), vec!["/a.B/Get", "/a.B/Put", "/aXB/Get"]),
        ("a pattern of methods", rpc(None, regex("P.*|Post")), vec!["/a.B/Put"]),
        (
            "alternatives stay within their part",
            rpc(regex("a[.]B|x"), regex("Put|Get")),
            vec!["/a.B/Get", "/a.B/Put"],
        ),
        ("everything", Match::default(), paths.to_vec()),
    ];
    for (name, one, expected) in cases {
        let mut mesh = mesh();
        add_grpc_route(&mut mesh, "shop/r", "shop/cart", vec![named("only", one)]);
        let table = table(&mesh, "bank");
        let matches = |path: &&str| {
            let (parts, ()) = Request::post(*path).body(()).unwrap().into_parts();
            matches!(decide(&table, &parts, |_| 0), Decision::Forward(_))
        };
        assert_eq!(paths.into_iter().filter(|path| matches(path)).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn matches_are_tried_by_service_then_method_then_headers() {
    // In the order in which they have to be tried; put in from the last to the first.
    let table = [
        ("long service", rpc(exact("shop.v1.Cart"), None)),
        ("service, long method", rpc(exact("shop.Cart"), exact("AddItem"))),
        ("service, short method, header", with_headers(1, rpc(exact("shop.Cart"), exact("Add")))),
        ("service, short method", rpc(exact("shop.Cart"), exact("Add"))),
        ("service, method by pattern", rpc(exact("shop.Cart"), regex("(Add|Remove)Item"))),
        ("service, headers", with_headers(2, rpc(exact("shop.Cart"), None))),
        ("service", rpc(exact("shop.Cart"), None)),
        ("long pattern", rpc(regex("shop[.]v[0-9]+[.]Cart"), None)),
        ("short pattern, method", rpc(regex("shop.*"), exact("Add"))),
        ("short pattern", rpc(regex("shop.*"), None)),
        ("long method", rpc(None, exact("AddItem"))),
        ("short method", rpc(None, exact("Add"))),
        ("headers", with_headers(2, Match::default())),
        ("header", with_headers(1, Match::default())),
        ("all", Match::default()),
    ];
    let mut mesh = mesh();
    let rules = table.iter().rev().map(|(name, one)| named(name, one.clone())).collect();
    add_grpc_route(&mut mesh, "shop/r", "shop/cart", rules);
    let routes = self::table(&mesh, "bank");
    let order: Vec<_> = routes.entries().iter().map(|entry| entry.rule.name.as_str()).collect();
    assert_eq!(order, table.map(|(name, _)| name));
}

#[test]
fn equal_calls_go_by_age_then_by_name_then_by_position() {
    let mut mesh = mesh();
    let rules = || vec![rule(vec![rpc(exact("a.B"), None)], vec![]); 2];
    for (name, created) in
        [("shop/a-young", Some(2000)), ("shop/d-old", Some(1000)), ("shop/c-old", Some(1000))]
    {
        add_route_of_kind(&mut mesh, RouteKind::Grpc, (name, "shop/cart", created), rules());
    }
    let routes = table(&mesh, "bank");
    let name =
        |entry: &&crate::snapshot::routes::Entry| format!("{}.{}", entry.rule.route.name, entry.rule.name);
    let order: Vec<_> = routes.entries().iter().map(name).collect();
    assert_eq!(order, ["c-old.0", "c-old.1", "d-old.0", "d-old.1", "a-young.0", "a-young.1"]);
}

#[test]
fn a_consumers_grpc_route_is_for_its_own_namespace_only_and_replaces_the_producers() {
    let mut mesh = mesh();
    add_grpc_route(&mut mesh, "bank/mine", "shop/cart", vec![rule(vec![], vec![])]);
    assert!(table(&mesh, "shop").default.is_some(), "nobody else's");
    add_grpc_route(&mut mesh, "shop/theirs", "shop/cart", vec![rule(vec![], vec![])]);
    for (caller, route) in [("bank", "bank/mine"), ("shop", "shop/theirs")] {
        let routes = table(&mesh, caller);
        let [entry] = routes.entries()[..] else { panic!("{routes:?}") };
        assert_eq!(entry.rule.route.to_string(), route);
    }
}

#[test]
fn two_routes_of_one_name_and_two_kinds_are_both_there() {
    let mut mesh = mesh();
    add_service(&mut mesh, "shop/web", "10.96.0.2", AppProtocol::Undeclared, &["10.0.0.1:8080"]);
    add_grpc_route(&mut mesh, "shop/same", "shop/cart", vec![rule(vec![], vec![])]);
    add_route(&mut mesh, "shop/same", "shop/web", vec![rule(vec![], vec![])]);
    let kind = |address| {
        let (_, routes) = entry_of(resolve(&mesh, "bank", address));
        routes.entries()[0].rule.route.kind
    };
    assert_eq!(["10.96.0.1:80", "10.96.0.2:80"].map(kind), [RouteKind::Grpc, RouteKind::Http]);
}

#[test]
fn a_call_that_cannot_be_compiled_matches_nothing_and_its_route_still_counts() {
    let table = [
        ("no regex", rpc(regex("a("), None)),
        ("a service that is one only between brackets", rpc(regex("a)|(?:b"), None)),
        ("a method that is one only between brackets", rpc(None, regex("a)|(?:b"))),
        ("too large", rpc(regex(r"(\w{100}){100}"), exact("Get"))),
    ];
    for (name, one) in table {
        let mut mesh = mesh();
        add_grpc_route(&mut mesh, "shop/r", "shop/cart", vec![named("only", one)]);
        let routes = self::table(&mesh, "bank");
        assert!(routes.entries().is_empty() && routes.default.is_none(), "{name}");
    }
}
