//! HTTP/1.1 by its bytes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Bench, Endpoint1, hear, is_silent, local, say};
use crate::{accept::Protocol, cell::Limits, telemetry::Reason};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";

#[tokio::test]
async fn requests_of_one_client_share_one_upstream_connection() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = bench.connect(Protocol::Http1).await;
        for _ in 0..3 {
            say(&mut client, GET).await;
            assert_eq!(hear(&mut client).await, OK);
        }
        assert_eq!(endpoint.connections(), 1);
        assert_eq!(endpoint.heard(), GET.repeat(3), "nothing is added to a request");
    })
    .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        assert_eq!(bench.exchange(&GET.repeat(4)).await, OK.repeat(4));
    })
    .await;
}

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    local(async {
        let response = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                        2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        let endpoint = Endpoint1::answering(response).await;
        let bench = Bench::new(&[endpoint.at()]);
        let request = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\ntrailer: x-in\r\n\
                       transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-in: 9\r\n\r\n";
        let answer = bench.exchange(request).await;
        assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
        assert!(answer.ends_with("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
        let heard = endpoint.heard();
        assert!(heard.ends_with("3\r\nabc\r\n0\r\nx-in: 9\r\n\r\n"), "{heard}");
    })
    .await;
}

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_it() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let request = "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        bench.exchange(request).await;
        assert!(endpoint.heard().ends_with("3\r\nabc\r\n0\r\n\r\n"), "{}", endpoint.heard());
    })
    .await;
}

#[tokio::test]
async fn the_endpoint_decides_when_100_continue_is_sent() {
    local(async {
        let endpoint = Endpoint1::scripted(|mut stream, heard| async move {
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            heard.borrow_mut().push_str(&String::from_utf8_lossy(&buffer[..read]));
            tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            let read = stream.read(&mut buffer).await.unwrap();
            heard.borrow_mut().push_str(&String::from_utf8_lossy(&buffer[..read]));
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
            .await;
        assert!(is_silent(&mut client).await, "not before the endpoint says so");
        assert_eq!(hear(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
        say(&mut client, "abc").await;
        assert_eq!(hear(&mut client).await, OK);
        assert!(endpoint.heard().ends_with("\r\n\r\nabc"), "{}", endpoint.heard());
    })
    .await;
}

#[tokio::test]
async fn a_refused_expectation_ends_without_the_body() {
    local(async {
        let no = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n";
        let endpoint = Endpoint1::answering(no).await;
        let bench = Bench::new(&[endpoint.at()]);
        let request = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
        let answer = bench.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 417"), "{answer}");
        assert!(!answer.contains("100 Continue"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_with_half_close() {
    local(async {
        let endpoint = Endpoint1::scripted(|mut stream, heard| async move {
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            heard.borrow_mut().push_str(&String::from_utf8_lossy(&buffer[..read]));
            let switch =
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nhello";
            stream.write_all(switch.as_bytes()).await.unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            stream.write_all(format!("got {rest}").as_bytes()).await.unwrap();
        })
        .await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = bench.connect(Protocol::Http1).await;
        say(
            &mut client,
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: echo\r\n\r\n",
        )
        .await;
        let answer = hear(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("upgrade: echo\r\n") && answer.ends_with("hello"), "{answer}");
        say(&mut client, "ping").await;
        client.shutdown().await.unwrap();
        assert_eq!(hear(&mut client).await, "got ping<closed>");
        assert!(endpoint.heard().contains("connection: upgrade\r\n"), "{}", endpoint.heard());
    })
    .await;
}

#[tokio::test]
async fn responses_without_a_body_end_at_their_head() {
    local(async {
        for (request, response) in [
            ("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"),
            (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
            (GET, "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n"),
        ] {
            let endpoint = Endpoint1::answering(response).await;
            let bench = Bench::new(&[endpoint.at()]);
            assert_eq!(bench.exchange(&request.repeat(2)).await, response.repeat(2));
            assert_eq!(endpoint.connections(), 1, "{response}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_old_client_gets_a_body_that_ends_with_the_connection() {
    local(async {
        let endpoint =
            Endpoint1::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
                .await;
        let bench = Bench::new(&[endpoint.at()]);
        let answer = bench.exchange("GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nok<closed>"), "{answer}");
        assert!(!answer.contains("chunked"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_never_reaches_an_endpoint() {
    local(async {
        for (name, request) in [
            ("two lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
            ("a list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\nab"),
            ("a signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na"),
            (
                "chunked not last",
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            ),
            ("chunked in 1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            (
                "another coding",
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            ),
            (
                "chunked twice",
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            ),
            ("a space before the colon", "GET / HTTP/1.1\r\nhost: a\r\ncontent-length : 0\r\n\r\n"),
            ("a folded field", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n b\r\n\r\n"),
            ("a nul", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\0b\r\n\r\n"),
            ("a bare CR", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\rb\r\n\r\n"),
            ("no host", "GET / HTTP/1.1\r\n\r\n"),
            ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
            ("a host with a space", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
            ("a version of its own", "GET / HTTP/1.7\r\nhost: a\r\n\r\n"),
            ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n"),
        ] {
            let endpoint = Endpoint1::answering(OK).await;
            let bench = Bench::new(&[endpoint.at()]);
            let answer = bench.exchange(request).await;
            let status = answer.get(..12).unwrap_or_default();
            assert!(
                ["HTTP/1.1 400", "HTTP/1.1 501", "HTTP/1.1 405", "HTTP/1.0 400"].contains(&status),
                "{name}: {answer}"
            );
            assert!(answer.contains("canopy-refused: "), "{name}: {answer}");
            assert_eq!(endpoint.heard(), "", "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_length_beside_chunks_is_dropped_and_the_connection_closed() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                       0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = bench.exchange(request).await;
        assert!(answer.ends_with("<closed>"), "{answer}");
        let heard = endpoint.heard();
        assert!(!heard.contains("content-length") && !heard.contains("smuggled"), "{heard}");
    })
    .await;
}

#[tokio::test]
async fn fields_that_concern_one_connection_stay_on_it() {
    local(async {
        let endpoint = Endpoint1::answering(
            "HTTP/1.1 200 OK\r\nconnection: x-b\r\nx-b: 1\r\nkeep-alive: timeout=5\r\nserver: app\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
        let bench = Bench::new(&[endpoint.at()]);
        let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-a, host, close\r\nx-a: 1\r\nkeep-alive: 5\r\n\
                       proxy-connection: keep-alive\r\nte: gzip\r\nupgrade: h2c\r\nx-kept: 1\r\n\r\n";
        let answer = bench.exchange(request).await;
        assert_eq!(endpoint.heard(), "GET / HTTP/1.1\r\nhost: a\r\nx-kept: 1\r\n\r\n");
        assert!(answer.contains("server: app\r\n") && !answer.contains("x-b"), "{answer}");
        assert!(!answer.contains("keep-alive") && !answer.contains("date"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::with_limits(&[endpoint.at()], Limits { head_bytes: 8192, ..Limits::default() });
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n\r\n", "a".repeat(20_000));
        let answer = bench.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert_eq!(bench.cell.ledger.refusals(Reason::HeadTooLarge), 1);
    })
    .await;
}

#[tokio::test]
async fn a_slow_head_is_answered_408_but_an_idle_connection_is_left_alone() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let head = std::time::Duration::from_millis(100);
        let bench = Bench::with_limits(&[endpoint.at()], Limits { head, ..Limits::default() });
        let mut idle = bench.connect(Protocol::Http1).await;
        say(&mut idle, GET).await;
        assert_eq!(hear(&mut idle).await, OK);
        let answer = bench.exchange("GET / HTTP/1.1\r\nhos").await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.ends_with("<closed>"), "{answer}");
        say(&mut idle, GET).await;
        assert_eq!(hear(&mut idle).await, OK);
    })
    .await;
}

#[tokio::test]
async fn a_kept_connection_that_closes_in_the_race_costs_no_request() {
    local(async {
        // Answers one request per connection and closes only when the second has arrived.
        let endpoint = Endpoint1::scripted(|mut stream, _| async move {
            let mut buffer = vec![0; 4096];
            if stream.read(&mut buffer).await.unwrap() > 0 {
                stream.write_all(OK.as_bytes()).await.unwrap();
                let _second = stream.read(&mut buffer).await.unwrap();
            }
        })
        .await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = bench.connect(Protocol::Http1).await;
        for _ in 0..3 {
            say(&mut client, GET).await;
            assert_eq!(hear(&mut client).await, OK);
        }
        assert_eq!(endpoint.connections(), 3);
        say(&mut client, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
        let answer = hear(&mut client).await;
        assert!(
            answer.starts_with("HTTP/1.1 502"),
            "what the endpoint may have acted on is not repeated: {answer}"
        );
        assert!(answer.contains("canopy-refused: upstream_reset"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_told_as_such() {
    local(async {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = super::support::At { address: gone, protocol: config::model::AppProtocol::Undeclared };
        let bench = Bench::new(&[at]);
        let answer = bench.exchange(GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("canopy-refused: connect_refused"),
            "{answer}"
        );
        let none = Bench::new(&[]);
        let answer = none.exchange(GET).await;
        assert!(answer.contains("canopy-refused: no_endpoint"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn draining_closes_after_the_request_in_flight() {
    local(async {
        let endpoint = Endpoint1::scripted(|mut stream, _| async move {
            let mut buffer = vec![0; 4096];
            let _request = stream.read(&mut buffer).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut idle = bench.connect(Protocol::Http1).await;
        let mut busy = bench.connect(Protocol::Http1).await;
        say(&mut busy, GET).await;
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        bench.cell.drain();
        let answer = hear(&mut busy).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok<closed>"), "{answer}");
        assert_eq!(hear(&mut idle).await, "<closed>");
    })
    .await;
}
