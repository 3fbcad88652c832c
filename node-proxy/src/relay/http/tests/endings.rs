//! How connections end that nobody has broken off: revoked, uprooted, refused while being read, upgraded; and what the log says.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use config::model::Egress;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::support::{Bench, Endpoint1, hear, is_silent, local, say};
use crate::{accept::Protocol, cell::Limits, telemetry::Reason};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n";

/// Takes away what every connection to `cart` was permitted by.
fn revoke(bench: &Bench) {
    bench.remove_service("cart");
    bench.egress(Egress::Mesh);
    bench.publish();
}

/// Answers the first request with the beginning of a body that never ends.
async fn endless() -> Endpoint1 {
    Endpoint1::scripted(|mut stream, _| async move {
        let mut buffer = vec![0; 4096];
        let _request = stream.read(&mut buffer).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
        let _until_closed = stream.read(&mut buffer).await;
    })
    .await
}

/// Answers a 101, then gives back what it gets.
async fn echoing() -> Endpoint1 {
    Endpoint1::scripted(|mut stream, _| async move {
        let mut buffer = vec![0; 4096];
        let _request = stream.read(&mut buffer).await.unwrap();
        stream.write_all(SWITCH).await.unwrap();
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..read]).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_cannot_be_read_has_its_line_in_the_log() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let limits = Limits { head_bytes: 8192, head: Duration::from_millis(100), ..Limits::default() };
        let (bench, log) = Bench::logging(&[endpoint.at()], limits);
        let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n\r\n", "a".repeat(20_000));
        let mixed = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
        for request in [&large, "GET /\0 HTTP/1.1\r\n\r\n", mixed, "GET / HTTP/1.1\r\nhos"] {
            let mut client = bench.connect(Protocol::Http1).await;
            say(&mut client, request).await;
            // To its end, however long that takes to come; the line is written before.
            let _end = client.read_to_end(&mut Vec::new()).await;
        }
        let lines = log.lines(&bench);
        let said: Vec<_> =
            lines.iter().map(|line| (line["status"].as_u64(), line["reason"].as_str())).collect();
        let expected = [
            (Some(431), Some("head_too_large")),
            (Some(400), Some("protocol_error")),
            (Some(400), Some("ambiguous_framing")),
            (Some(408), Some("head_timeout")),
        ];
        assert_eq!(said, expected, "{lines:#?}");
        for line in &lines {
            assert_eq!(
                (&line["workload"], &line["src.addr"]),
                (&"shop/web".into(), &"127.0.0.1:40000".into())
            );
            assert_eq!(line["src.principal"], bench.tree.workload.identity.to_string());
        }
        assert!(lines[3]["duration_ms"].as_f64().unwrap() >= 100.0, "{:#?}", lines[3]);
    })
    .await;
}

#[tokio::test]
async fn a_permission_taken_away_ends_the_idle_connection_it_allowed() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, GET).await;
        assert_eq!(hear(&mut client).await, OK);
        bench.publish();
        assert!(is_silent(&mut client).await, "a change that concerns nobody ends nothing");
        revoke(&bench);
        assert_eq!(hear(&mut client).await, "<closed>");
    })
    .await;
}

#[tokio::test]
async fn a_permission_taken_away_ends_a_response_that_has_begun_and_the_log_says_why() {
    local(async {
        let endpoint = endless().await;
        let (bench, log) = Bench::logging(&[endpoint.at()], Limits::default());
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, GET).await;
        assert!(hear(&mut client).await.ends_with("3\r\nabc\r\n"));
        revoke(&bench);
        assert_eq!(hear(&mut client).await, "<reset>", "cut off, without the last chunk");
        assert_eq!(bench.cell.ledger.requests_in_flight.load(Relaxed), 0);
        let lines = log.lines(&bench);
        assert_eq!(lines[0]["reason"], "egress_forbidden", "{lines:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_closes_its_sending_side_is_taken_for_gone_and_its_request_cancelled() {
    local(async {
        let endpoint = Endpoint1::scripted(|mut stream, heard| async move {
            let mut buffer = vec![0; 4096];
            let _request = stream.read(&mut buffer).await.unwrap();
            heard.borrow_mut().push_str("asked, ");
            let cancelled = matches!(stream.read(&mut buffer).await, Ok(0) | Err(_));
            heard.borrow_mut().push_str(if cancelled { "cancelled" } else { "more" });
        })
        .await;
        let (bench, log) = Bench::logging(&[endpoint.at()], Limits::default());
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, GET).await;
        while endpoint.heard().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        client.shutdown().await.unwrap();
        assert_eq!(hear(&mut client).await, "<reset>", "no answer");
        while endpoint.heard() == "asked, " {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(endpoint.heard(), "asked, cancelled");
        let lines = log.lines(&bench);
        assert_eq!(lines[0]["reason"], "client_closed", "{lines:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_leaves_finishes_its_requests_and_no_more() {
    local(async {
        let endpoint = Endpoint1::scripted(|mut stream, _| async move {
            let mut buffer = vec![0; 4096];
            let _request = stream.read(&mut buffer).await.unwrap();
            sleep(Duration::from_millis(1000)).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut idle = bench.connect(Protocol::Http1).await;
        let mut busy = bench.connect(Protocol::Http1).await;
        say(&mut busy, GET).await;
        sleep(Duration::from_millis(30)).await;
        bench.cell.live.finish_tree(bench.tree.id + 1);
        assert_eq!(bench.cell.live.len(), 2, "another pod's");
        bench.cell.live.finish_tree(bench.tree.id);
        let answer = hear(&mut busy).await;
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok<closed>"), "{answer}");
        assert_eq!(hear(&mut idle).await, "<closed>");
    })
    .await;
}

#[tokio::test]
async fn bytes_after_an_upgrade_are_counted_while_they_flow_and_once() {
    local(async {
        let endpoint = echoing().await;
        let (bench, log) = Bench::logging(&[endpoint.at()], Limits::default());
        let mut client = bench.connect(Protocol::Http1).await;
        // The first bytes of the tunnel come with the request.
        say(&mut client, &format!("{UPGRADE}ping")).await;
        assert!(hear(&mut client).await.ends_with("\r\n\r\nping"));
        let ledger = &bench.cell.ledger;
        let carried = || (ledger.bytes_received.load(Relaxed), ledger.bytes_sent.load(Relaxed));
        assert_eq!(carried(), (4, 4), "while the tunnel stands");
        say(&mut client, "again").await;
        client.shutdown().await.unwrap();
        assert_eq!(hear(&mut client).await, "again<closed>");
        assert_eq!(carried(), (9, 9));
        let lines = log.lines(&bench);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!((&lines[0]["bytes_received"], &lines[0]["bytes_sent"]), (&9.into(), &9.into()));
        assert_eq!((&lines[0]["status"], lines[0].get("reason")), (&101.into(), None));
    })
    .await;
}

#[tokio::test]
async fn a_silent_tunnel_ends_after_the_idle_time_out() {
    local(async {
        let endpoint = echoing().await;
        let limits = Limits { idle: Some(Duration::from_secs(2)), ..Limits::default() };
        let (bench, log) = Bench::logging(&[endpoint.at()], limits);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, UPGRADE).await;
        assert!(hear(&mut client).await.starts_with("HTTP/1.1 101"));
        assert!(client.read(&mut [0; 8]).await.is_err(), "reset: what was cut short must not look complete");
        assert_eq!(bench.cell.ledger.refusals(Reason::IdleTimeout), 1);
        assert_eq!(log.lines(&bench)[0]["reason"], "idle_timeout");
    })
    .await;
}
