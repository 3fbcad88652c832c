//! Calls of gRPC: which rule of a GRPCRoute is told, and what a call that meets none is told.

use super::*;

/// A GRPCRoute to `shop/grpc`, by an owner's namespace, with rules.
fn route(namespace: &str, name: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n\
         \x20 parentRefs: [{{group: '', kind: Service, name: grpc, namespace: shop}}]\n  rules:\n{rules}"
    )
}

const RULES: &str = "  - name: add\n    matches: [{method: {service: shop.v1.Cart, method: Add}}]\n    backendRefs: [{name: grpc, port: 80}]\n\
    \x20 - name: any-of-cart\n    matches: [{method: {service: shop.v1.Cart}, headers: [{name: x-beta, value: 'yes'}]}]\n    backendRefs: [{name: cart, port: 80}]\n\
    \x20 - name: some\n    matches: [{method: {type: RegularExpression, method: 'Get.*'}}]\n    backendRefs: [{name: plain, port: 80}]\n";

fn call(call: &str, headers: &[&str]) -> Ask {
    let headers = headers.iter().map(|header| (*header).to_owned());
    Ask::of_call("shop/web".to_owned(), "grpc.shop:80".to_owned(), call, headers)
}

#[test]
fn the_rule_of_a_calls_service_and_method_is_told_in_grpcs_words() {
    let mesh = Mesh::with(&route("shop", "calls", RULES));
    for (ask, expected) in [
        (
            call("shop.v1.Cart/Add", &[]),
            "rule add of GRPCRoute shop/calls: method Add of gRPC service shop.v1.Cart\n",
        ),
        (
            call("shop.v1.Cart/Remove", &["x-beta: yes"]),
            "rule any-of-cart of GRPCRoute shop/calls: gRPC service shop.v1.Cart, header x-beta = yes\n",
        ),
        (
            call("other.Any/GetAll", &[]),
            "rule some of GRPCRoute shop/calls: gRPC call like /[^/]+/(?:Get.*)\n",
        ),
    ] {
        let told = mesh.try_tell(&ask).unwrap();
        let says = said(&told, Name::Route);
        assert!(says.starts_with(expected), "{says}");
        assert!(!says.contains("--grpc"), "{says}");
        assert_eq!(fate(&told), (Outcome::Carried, None), "{}", told.verdict.says);
        assert_eq!(objects(&told, Name::Route)[0], "GRPCRoute shop/calls of shop in more.yaml:2");
        assert!(said(&told, Name::Protocol).starts_with("HTTP/2: "));
    }
}

#[test]
fn a_call_that_meets_no_rule_is_told_why_of_each() {
    let told =
        Mesh::with(&route("shop", "calls", RULES)).try_tell(&call("shop.v1.Cart/Remove", &[])).unwrap();
    assert_eq!(fate(&told), (Outcome::Refused, Some("no_route")));
    let says = said(&told, Name::Route);
    for why in [
        "rule add of GRPCRoute shop/calls: method Add of gRPC service shop.v1.Cart is asked for, /shop.v1.Cart/Remove it is",
        "rule any-of-cart of GRPCRoute shop/calls: header x-beta = yes is asked for, it is not there",
        "rule some of GRPCRoute shop/calls: gRPC call like /[^/]+/(?:Get.*) is asked for, /shop.v1.Cart/Remove it is",
    ] {
        assert!(says.contains(why), "{says}");
    }
    let remedy = told.verdict.remedy.unwrap();
    assert!(remedy.contains("a rule that matches in GRPCRoute shop/calls"), "{remedy}");
}

#[test]
fn a_consumers_grpc_route_decides_for_its_own_callers_and_what_is_no_call_is_told_how_to_ask() {
    let mine = "  - name: mine\n    backendRefs: [{name: grpc, namespace: shop, port: 80}]\n";
    let mesh = Mesh::with(&(route("shop", "calls", RULES) + &route("bank", "mine", mine)));
    let told = mesh.tell("bank/ledger", "grpc.shop:80");
    let says = said(&told, Name::Route);
    assert!(says.starts_with("rule mine of GRPCRoute bank/mine: it takes every request"), "{says}");
    assert!(says.contains("a call of which is a POST to /SERVICE/METHOD: ask with --grpc"), "{says}");
    let told = mesh.tell("shop/web", "grpc.shop:80");
    assert!(said(&told, Name::Route).contains("ask with --grpc"));
}
