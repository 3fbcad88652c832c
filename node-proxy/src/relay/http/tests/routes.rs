//! What HTTPRoutes do to requests, and what changes of the configuration do to connections.

use std::time::Duration;

use config::model::{
    BackendTarget, Egress, Filter, HeaderEdit, Match, Mirror, PathEdit, PathMatch, Redirect, Rewrite,
    Timeouts,
};

use super::support::{Bench, Endpoint1, VIP, hear, local, rule, say, service_name};
use crate::accept::Protocol;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";

#[tokio::test]
async fn headers_and_paths_are_changed_as_the_rule_says() {
    local(async {
        let endpoint =
            Endpoint1::answering("HTTP/1.1 200 OK\r\nserver: app\r\ncontent-length: 0\r\n\r\n").await;
        let bench = Bench::new(&[endpoint.at()]);
        let edit = |name: &str, remove: &str| HeaderEdit {
            set: vec![(name.to_owned(), "1".to_owned())],
            add: Vec::new(),
            remove: vec![remove.to_owned()],
        };
        let rewrite =
            Rewrite { hostname: Some("new".to_owned()), path: Some(PathEdit::Prefix("/v2".to_owned())) };
        let mut changed = rule(
            "cart",
            vec![
                Filter::RequestHeaders(edit("x-set", "x-gone")),
                Filter::ResponseHeaders(edit("x-answer", "server")),
                Filter::Rewrite(rewrite),
            ],
        );
        changed.matches = vec![Match { path: Some(PathMatch::Prefix("/v1".to_owned())), ..Match::default() }];
        bench.rules(vec![changed]);
        bench.publish();
        let answer = bench.exchange("GET /v1/a?b HTTP/1.1\r\nhost: old\r\nx-gone: 1\r\n\r\n").await;
        assert_eq!(endpoint.heard(), "GET /v2/a?b HTTP/1.1\r\nhost: new\r\nx-set: 1\r\n\r\n");
        assert!(answer.contains("x-answer: 1\r\n") && !answer.contains("server"), "{answer}");
        let answer = bench.exchange("GET /v3 HTTP/1.1\r\nhost: old\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains("canopy-refused: no_route"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_cannot_take_away_what_a_rule_says_by_naming_it_as_its_connection_s() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let edit = HeaderEdit {
            set: vec![("x-tenant".to_owned(), "shop".to_owned())],
            add: vec![("x-hop".to_owned(), "1".to_owned())],
            remove: Vec::new(),
        };
        bench.rules(vec![rule("cart", vec![Filter::RequestHeaders(edit)])]);
        bench.publish();
        bench
            .exchange(
                "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-tenant, x-hop\r\nx-tenant: bank\r\nx-hop: 0\r\n\r\n",
            )
            .await;
        assert_eq!(endpoint.heard(), "GET / HTTP/1.1\r\nhost: a\r\nx-tenant: shop\r\nx-hop: 1\r\n\r\n");
    })
    .await;
}

#[tokio::test]
async fn redirects_are_answered_here() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let redirect = Redirect {
            scheme: None,
            hostname: Some("other.example".to_owned()),
            port: None,
            path: None,
            status: 301,
        };
        let mut redirecting = rule("cart", vec![Filter::Redirect(redirect)]);
        redirecting.backends.clear();
        bench.rules(vec![redirecting]);
        bench.publish();
        let answer = bench.exchange("GET /a HTTP/1.1\r\nhost: cart.shop\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 301") && answer.contains("location: http://other.example/a"),
            "{answer}"
        );
        assert_eq!(endpoint.heard(), "");
    })
    .await;
}

#[tokio::test]
async fn an_invalid_backend_is_a_500() {
    local(async {
        let bench = Bench::new(&[]);
        let mut broken = rule("cart", Vec::new());
        broken.backends[0].target = BackendTarget::Invalid(config::model::InvalidBackend::BackendNotFound);
        bench.rules(vec![broken]);
        bench.publish();
        let answer = bench.exchange(GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 500") && answer.contains("canopy-refused: invalid_backend"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_504_with_the_rule_s_reason() {
    local(async {
        let silent = Endpoint1::scripted(|stream, _| async move {
            let _open = stream;
            std::future::pending().await
        })
        .await;
        let bench = Bench::new(&[silent.at()]);
        let (short, long) = (Some(Duration::from_millis(40)), Some(Duration::from_secs(5)));
        for (timeouts, reason) in [
            (Timeouts { request: short, backend_request: None }, "request_timeout"),
            (Timeouts { request: long, backend_request: short }, "backend_timeout"),
        ] {
            let mut slow = rule("cart", Vec::new());
            slow.timeouts = timeouts;
            bench.rules(vec![slow]);
            bench.publish();
            let answer = bench.exchange(GET).await;
            assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
            assert!(answer.contains(&format!("canopy-refused: {reason}")), "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_mirror_gets_a_copy_and_cannot_slow_the_request() {
    local(async {
        let (endpoint, copy) = (
            Endpoint1::answering(OK).await,
            Endpoint1::scripted(|mut stream, heard| async move {
                let mut buffer = vec![0; 4096];
                while let Ok(read @ 1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await {
                    heard.borrow_mut().push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
            })
            .await,
        );
        let bench = Bench::new(&[endpoint.at()]);
        bench.service("copy", "10.0.0.2:80", &[copy.at()]);
        let target = BackendTarget::Service { service: service_name("copy"), port: 80 };
        let mirror = Mirror { target, numerator: 1, denominator: 1 };
        bench.rules(vec![rule("cart", vec![Filter::Mirror(mirror)])]);
        bench.publish();
        let request = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
        assert_eq!(bench.exchange(request).await, OK);
        assert_eq!(copy.heard(), request);
        assert_eq!(bench.exchange(GET).await, OK);
        assert_eq!(copy.heard(), format!("{request}{GET}"));
        // A copy without its end would be one that was cut off.
        let chunked =
            "POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert!(bench.exchange(chunked).await.starts_with(OK));
        while !copy.heard().ends_with("\r\n0\r\n\r\n") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_backend_s_mirror_gets_a_copy_of_what_that_backend_gets() {
    local(async {
        let (one, other, copy) =
            (Endpoint1::answering(OK).await, Endpoint1::answering(OK).await, Endpoint1::answering(OK).await);
        let bench = Bench::new(&[one.at()]);
        bench.service("other", "10.0.0.2:80", &[other.at()]);
        bench.service("copy", "10.0.0.3:80", &[copy.at()]);
        let target = BackendTarget::Service { service: service_name("copy"), port: 80 };
        let mut split = rule("cart", Vec::new());
        split.backends.extend(rule("other", Vec::new()).backends);
        split.backends[1].filters.push(Filter::Mirror(Mirror { target, numerator: 1, denominator: 1 }));
        for (weights, served, copied) in [([1, 0], &one, ""), ([0, 1], &other, GET)] {
            let mut split = split.clone();
            split.backends.iter_mut().zip(weights).for_each(|(backend, weight)| backend.weight = weight);
            bench.rules(vec![split]);
            bench.publish();
            assert_eq!(bench.exchange(GET).await, OK);
            assert_eq!((served.heard().as_str(), copy.heard().as_str()), (GET, copied));
        }
    })
    .await;
}

#[tokio::test]
async fn a_live_edit_moves_the_next_request_of_an_open_connection() {
    local(async {
        let (old, new) = (Endpoint1::answering(OK).await, Endpoint1::answering(OK).await);
        let bench = Bench::new(&[old.at()]);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, GET).await;
        assert_eq!(hear(&mut client).await, OK);
        bench.service("cart", VIP, &[new.at()]);
        bench.publish();
        say(&mut client, GET).await;
        assert_eq!(hear(&mut client).await, OK);
        assert_eq!((old.heard().as_str(), new.heard().as_str()), (GET, GET));
    })
    .await;
}

#[tokio::test]
async fn a_request_on_a_permission_taken_away_is_told_why() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, GET).await;
        assert_eq!(hear(&mut client).await, OK);
        bench.remove_service("cart");
        bench.egress(Egress::Mesh);
        // The connection itself is ended at once (`endings`); a request that was read before that is refused.
        bench.cell.swap(bench.compiled());
        say(&mut client, GET).await;
        let answer = hear(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("egress_forbidden"), "{answer}");
        assert!(answer.ends_with("<closed>"), "{answer}");
        assert_eq!(endpoint.heard(), GET);
    })
    .await;
}
