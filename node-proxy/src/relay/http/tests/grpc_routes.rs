//! What GRPCRoutes do to calls: where they go, and what gRPC clients are told where they go nowhere.

use config::{
    model::{
        AppProtocol, BackendTarget, Filter, HeaderEdit, InvalidBackend, Match, PathMatch, RpcMatch, Rule,
        ValueMatch,
    },
    name::RouteKind,
};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;

use super::{
    http2::{client, empty, request, server},
    support::{At, Bench, hear, local, rule, say},
};
use crate::{accept::Protocol, cell::Limits};

/// A rule for the calls of a method of the service `a.B`.
fn of_method(method: &str, rule: Rule) -> Rule {
    let exact = |text: &str| Some(ValueMatch::Exact(text.to_owned()));
    let rpc = RpcMatch { service: exact("a.B"), method: exact(method) };
    let matches = vec![Match { path: Some(PathMatch::Rpc(rpc)), ..Match::default() }];
    Rule { name: Some(method.to_lowercase()), matches, ..rule }
}

fn invalid() -> Rule {
    let mut rule = rule("cart", Vec::new());
    rule.backends[0].target = BackendTarget::Invalid(InvalidBackend::BackendNotFound);
    rule
}

#[tokio::test]
async fn calls_go_by_their_method_and_the_log_names_the_grpc_route() {
    local(async {
        let [cart, other] = [server().await, server().await];
        let at = |address| At { address, protocol: AppProtocol::Undeclared };
        let (bench, log) = Bench::logging(&[at(cart)], Limits::default());
        bench.service("other", "10.0.0.2:80", &[at(other)]);
        let edit = HeaderEdit { set: vec![("x-by".into(), "route".into())], ..HeaderEdit::default() };
        let edited = rule("other", vec![Filter::ResponseHeaders(edit)]);
        let rules = vec![of_method("Get", rule("cart", Vec::new())), of_method("Put", edited)];
        bench.rules_of(RouteKind::Grpc, rules);
        bench.publish();
        let mut send = client(&bench).await;
        for (path, by) in [("/a.B/Get", None), ("/a.B/Put", Some("route"))] {
            let response = send.send_request(request(path, empty())).await.unwrap();
            assert_eq!(response.headers().get("x-by").map(|by| by.to_str().unwrap()), by, "{path}");
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0", "{path}");
        }
        drop(send);
        let lines = log.lines(&bench);
        let told = |line: &serde_json::Value| {
            ["endpoint", "route", "route_kind", "rule"]
                .map(|field| line[field].as_str().unwrap_or_default().to_owned())
        };
        let route = |endpoint: std::net::SocketAddr, rule: &str| {
            [&*endpoint.to_string(), "shop/cart", "GRPCRoute", rule].map(str::to_owned)
        };
        assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), [route(cart, "get"), route(other, "put")]);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_no_rule_matches_is_unimplemented_and_one_without_a_backend_is_unavailable() {
    local(async {
        let bench = Bench::new(&[]);
        let mut none = rule("cart", Vec::new());
        none.backends.clear();
        let rules = vec![of_method("Get", invalid()), of_method("Put", none)];
        bench.rules_of(RouteKind::Grpc, rules);
        bench.publish();
        let mut send = client(&bench).await;
        let word = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
        for (path, status, reason) in [
            ("/a.B/Delete", "12", "no_route"),
            ("/a.C/Get", "12", "no_route"),
            ("/a.B/Get", "14", "invalid_backend"),
            ("/a.B/Put", "14", "invalid_backend"),
        ] {
            let response = send.send_request(request(path, empty())).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}: gRPC's own status counts");
            let headers = response.headers();
            assert_eq!(
                (word(headers, "grpc-status"), word(headers, "grpc-message")),
                (status.into(), reason.into())
            );
            assert_eq!(word(headers, "content-type"), "application/grpc", "{path}");
        }
        let mut plain = bench.connect(Protocol::Http1).await;
        say(&mut plain, "GET /a.B/Delete HTTP/1.1\r\nhost: cart.shop\r\n\r\n").await;
        let answer = hear(&mut plain).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "who speaks no gRPC is told in HTTP: {answer}");
    })
    .await;
}
