//! Responses whose head says more than one thing of where their body ends.

use config::model::AppProtocol;
use http_body_util::BodyExt;

use super::{
    http2,
    support::{At, Bench, Endpoint1, local},
};
use crate::telemetry::Reason;

const GET: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";

/// Ten bytes in a chunk, and a head that says three.
const TWO_LENGTHS: [&str; 2] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\ncontent-length: 3\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
];

/// The same length, more than once.
const REPEATED: [&str; 2] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
];

#[tokio::test]
async fn a_length_beside_chunks_never_cuts_a_response_short() {
    local(async {
        for response in TWO_LENGTHS {
            let endpoint = Endpoint1::answering(response).await;
            let bench = bench(&endpoint);
            let answer = bench.exchange(&GET.repeat(2)).await.to_lowercase();
            assert_eq!(answer.matches("\r\na\r\n0123456789\r\n0\r\n\r\n").count(), 2, "{answer}");
            assert!(!answer.contains("content-length"), "{answer}");
            let (head, body) = over_http2(&bench, "GET").await;
            assert_eq!(body, Some("0123456789".to_owned()));
            assert!(!head.headers.contains_key("content-length"), "{head:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_old_client_gets_all_chunks_whatever_length_is_said_beside_them() {
    local(async {
        let endpoint = Endpoint1::answering(TWO_LENGTHS[0]).await;
        let bench = bench(&endpoint);
        let answer = bench.exchange("GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\n0123456789<closed>"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_length_that_is_said_more_than_once_is_passed_on_once() {
    local(async {
        for response in REPEATED {
            let endpoint = Endpoint1::answering(response).await;
            let bench = bench(&endpoint);
            let once = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
            assert_eq!(bench.exchange(&GET.repeat(2)).await, once.repeat(2));
            let (head, body) = over_http2(&bench, "GET").await;
            assert_eq!(body, Some("abc".to_owned()));
            let lengths: Vec<_> = head.headers.get_all("content-length").iter().collect();
            assert_eq!(lengths, ["3"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_response_without_a_body_says_one_length_or_none() {
    local(async {
        for (request, response, answered) in [
            (
                HEAD,
                "HTTP/1.1 200 OK\r\ncontent-length: 7, 7\r\n\r\n",
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            ),
            (GET, "HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
        ] {
            let endpoint = Endpoint1::answering(response).await;
            let bench = bench(&endpoint);
            assert_eq!(bench.exchange(&request.repeat(2)).await, answered.repeat(2));
            let (_, body) = over_http2(&bench, request[..4].trim_end()).await;
            assert_eq!(body, Some(String::new()), "{response}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_response_of_which_the_end_cannot_be_told_is_a_502_with_a_reason() {
    local(async {
        for (name, request, response) in [
            (
                "another coding",
                GET,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            ),
            (
                "another coding in a line of its own",
                GET,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            ("another coding alone", GET, "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok"),
            ("two lengths", GET, "HTTP/1.1 200 OK\r\ncontent-length: 3, 4\r\n\r\nabc"),
            ("a signed length", GET, "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc"),
            ("two lengths of no body", HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 3, 4\r\n\r\n"),
            ("a signed length of no body", HEAD, "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\n"),
        ] {
            let endpoint = Endpoint1::answering(response).await;
            let bench = bench(&endpoint);
            let answer = bench.exchange(request).await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{name}: {answer}");
            assert!(answer.contains("canopy-refused: upstream_protocol\r\n"), "{name}: {answer}");
            assert_eq!(bench.cell.ledger.refusals(Reason::UpstreamProtocol), 1, "{name}");
            let method = request.split(' ').next().unwrap();
            let (head, _) = over_http2(&bench, method).await;
            assert_eq!(head.status, 502, "{name}");
            assert_eq!(head.headers["canopy-refused"], "upstream_protocol", "{name}");
            assert_eq!(endpoint.connections(), 2, "{name}: what is left of it is nobody's answer");
        }
    })
    .await;
}

/// Whatever its clients speak, the endpoint speaks HTTP/1.1.
fn bench(endpoint: &Endpoint1) -> Bench {
    Bench::new(&[At { address: endpoint.address, protocol: AppProtocol::Http1 }])
}

/// Head and body, as HTTP/2 brings them; `None` for a body that ended in an error.
async fn over_http2(bench: &Bench, method: &str) -> (http::response::Parts, Option<String>) {
    let mut client = http2::client(bench).await;
    let request = http::Request::builder().method(method).uri("http://cart.shop/").body(http2::empty());
    let (head, body) = client.send_request(request.unwrap()).await.unwrap().into_parts();
    let body = body.collect().await.ok().map(|body| body.to_bytes());
    (head, body.map(|body| String::from_utf8(body.to_vec()).unwrap()))
}
