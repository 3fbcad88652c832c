//! Which rule is told, whose it is, what was tried before it, and what it does.

use super::*;

/// A route to `shop/cart`, by an owner's namespace, with rules.
fn route(namespace: &str, name: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n\
         \x20 parentRefs: [{{group: '', kind: Service, name: cart, namespace: shop}}]\n  rules:\n{rules}"
    )
}

const BETA: &str = "  - name: beta\n    matches: [{headers: [{name: x-beta, value: 'yes'}]}]\n    backendRefs: [{name: grpc, namespace: shop, port: 80}]\n";
const REST: &str = "  - name: rest\n    backendRefs: [{name: cart, namespace: shop, port: 80, weight: 90}, {name: plain, namespace: shop, port: 80, weight: 10}]\n";

fn beta(from: &str, value: &str) -> Ask {
    Ask { headers: vec![format!("x-beta: {value}")], ..ask(from, "cart.shop:80") }
}

#[test]
fn the_rule_that_is_met_is_told_with_what_it_asks_for_and_those_before_it_with_why_not() {
    let mesh = Mesh::with(&route("shop", "cart", &format!("{BETA}{REST}")));
    let told = mesh.try_tell(&beta("shop/web", "yes")).unwrap();
    let says = said(&told, Name::Route);
    assert!(says.starts_with("rule beta of HTTPRoute shop/cart: header x-beta = yes\n"), "{says}");
    assert!(!says.contains("tried before"), "{says}");
    assert_eq!(objects(&told, Name::Route), ["HTTPRoute shop/cart of shop in more.yaml:2"]);
    for (ask, why) in [
        (ask("shop/web", "cart.shop:80"), "header x-beta = yes is asked for, it is not there"),
        (beta("shop/web", "no"), "header x-beta = yes is asked for, no it is"),
    ] {
        let says = said(&mesh.try_tell(&ask).unwrap(), Name::Route);
        assert!(says.starts_with("rule rest of HTTPRoute shop/cart: it takes every request\n"), "{says}");
        assert!(
            says.contains(&format!("tried before, not met: rule beta of HTTPRoute shop/cart: {why}")),
            "{says}"
        );
    }
}

#[test]
fn every_kind_of_condition_says_why_it_is_not_met() {
    let condition = |text: &str| route("shop", "cart", &format!("  - matches: [{{{text}}}]\n"));
    for (text, expected) in [
        ("path: {type: Exact, value: /x}", "path /x is asked for, /a it is"),
        ("path: {type: PathPrefix, value: /x/}", "path prefix /x is asked for, /a it is"),
        ("path: {type: RegularExpression, value: '/[0-9]+'}", "path like /[0-9]+ is asked for, /a it is"),
        ("method: DELETE", "method DELETE is asked for, GET it is"),
        (
            "headers: [{name: x, type: RegularExpression, value: 'a|b'}]",
            "header x like a|b is asked for, it is not there",
        ),
        ("queryParams: [{name: q, value: '2'}]", "query q = 2 is asked for, the query is q=1"),
    ] {
        let ask = Ask { path: Some("/a?q=1".to_owned()), ..ask("shop/web", "cart:80") };
        let told = Mesh::with(&condition(text)).try_tell(&ask).unwrap();
        assert_eq!(fate(&told), (Outcome::Refused, Some("no_route")), "{text}");
        assert!(said(&told, Name::Route).contains(expected), "{text}: {}", said(&told, Name::Route));
    }
}

#[test]
fn a_consumers_route_decides_for_its_own_callers_and_for_nobody_else() {
    let producer = route("shop", "cart", REST);
    let mesh = Mesh::with(
        &(producer
            + &route(
                "bank",
                "mine",
                "  - name: mine\n    backendRefs: [{name: grpc, namespace: shop, port: 80}]\n",
            )),
    );
    let told = mesh.tell("bank/ledger", "cart.shop:80");
    let says = said(&told, Name::Route);
    assert!(says.starts_with("rule mine of HTTPRoute bank/mine"), "{says}");
    assert!(says.contains("a consumer's: for callers of namespace bank alone"), "{says}");
    assert_eq!(objects(&told, Name::Route)[0], "HTTPRoute bank/mine of ns/bank in more.yaml:11");
    let says = said(&mesh.tell("shop/web", "cart.shop:80"), Name::Route);
    assert!(
        says.starts_with("rule rest of HTTPRoute shop/cart") && says.contains("the producer's"),
        "{says}"
    );
}

#[test]
fn weights_are_told_and_a_share_that_leads_nowhere_is_refused_alone() {
    let told = Mesh::with(&route("shop", "cart", REST)).tell("shop/web", "cart:80");
    assert_eq!(fate(&told), (Outcome::Carried, None));
    let says = said(&told, Name::Backend);
    assert!(says.contains("90 of 100 requests: Service shop/cart port 80"), "{says}");
    assert!(says.contains("10 of 100 requests: Service shop/plain port 80"), "{says}");
    let half = "  - backendRefs: [{name: cart, port: 80}, {name: no-such, port: 80}]\n";
    let told = Mesh::with(&route("shop", "cart", half)).tell("shop/web", "cart:80");
    assert_eq!(fate(&told), (Outcome::Partly, Some("invalid_backend")));
    let says = &told.verdict.says;
    assert!(
        says.starts_with("refused is 1 of 2 requests: rules[0] of HTTPRoute shop/cart leads nowhere"),
        "{says}"
    );
    assert!(says.contains("the rest goes on: 1 of 2 requests: 10.0.0.2:8080 (shop/cart), direct"), "{says}");
}

#[test]
fn a_redirect_is_answered_with_its_place() {
    let rules = "  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: example.test, statusCode: 301}}]\n";
    let ask = Ask { path: Some("/a?b=c".to_owned()), ..ask("shop/web", "cart:80") };
    let told = Mesh::with(&route("shop", "cart", rules)).try_tell(&ask).unwrap();
    assert_eq!(fate(&told), (Outcome::Answered, None));
    assert_eq!(told.verdict.says, "301 to https://example.test/a?b=c, by rules[0] of HTTPRoute shop/cart");
}

#[test]
fn filters_are_told_and_what_the_request_becomes_by_them() {
    let rules = "  - matches: [{path: {type: PathPrefix, value: /api}}]\n    filters:\n\
        \x20   - {type: URLRewrite, urlRewrite: {hostname: inner, path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2}}}\n\
        \x20   - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: s}], add: [{name: x-b, value: t}], remove: [x-c]}}\n\
        \x20   - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-d, value: u}]}}\n\
        \x20   - {type: RequestMirror, requestMirror: {backendRef: {name: grpc, port: 80}, percent: 50}}\n\
        \x20   timeouts: {request: 2s, backendRequest: 1s}\n\
        \x20   backendRefs:\n    - name: cart\n      port: 80\n      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-e]}}]\n";
    let ask = Ask { path: Some("/api/x?q".to_owned()), ..ask("shop/web", "cart:80") };
    let told = Mesh::with(&route("shop", "cart", rules)).try_tell(&ask).unwrap();
    let says = said(&told, Name::Filters);
    for expected in [
        "request header x-a set to s",
        "request header x-b added with t",
        "request header x-c removed",
        "response header x-d set to u",
        "rewritten to host inner and path prefix /v2",
        "50 of 100 copied to Service shop/grpc port 80",
        "answered within 2s",
        "answered by one backend within 1s",
        "the request becomes GET /v2/x?q for host inner",
    ] {
        assert!(says.contains(expected), "{expected}: {says}");
    }
    assert!(said(&told, Name::Backend).contains("of this backend alone: request header x-e removed"));
}

#[test]
fn of_many_matches_that_are_not_met_the_first_are_told_and_the_rest_are_counted() {
    let many = |from: usize| -> String {
        (from..from + 16)
            .map(|at| format!("  - matches: [{{path: {{type: Exact, value: /{at}}}}}]\n"))
            .collect()
    };
    let told = Mesh::with(&(route("shop", "a", &many(0)) + &route("shop", "b", &many(16))))
        .tell("shop/web", "cart:80");
    let says = said(&told, Name::Route);
    assert!(says.contains("none of 32 matches of the routes of Service shop/cart port 80 is met"), "{says}");
    assert_eq!(says.matches("tried before, not met").count(), 20, "{says}");
    assert!(says.contains("and 12 more, not met either"), "{says}");
    let remedy = told.verdict.remedy.unwrap();
    assert_eq!(remedy, "shop would have to have a rule that matches in HTTPRoute shop/a, shop/b");
}

#[test]
fn without_a_route_all_goes_to_the_services_own_endpoints() {
    let told = Mesh::with("").tell("shop/web", "cart:80");
    assert_eq!(said(&told, Name::Route), "no route is attached to port 80 of Service shop/cart");
    assert!(said(&told, Name::Backend).contains("all of it, as no route says otherwise"));
}
