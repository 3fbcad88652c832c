//! Requests beyond their tenant's budget: answered early, with a reason and when to come back, and let in again when there is room.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use config::model::Budget;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep},
};

use super::{
    http2::{client, empty, request},
    support::{At, Bench, Endpoint1, hear, is_silent, local, say},
};
use crate::{accept::Protocol, cell::Limits, telemetry::Reason, tenancy::memory::Pressure};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";

async fn answering() -> (Endpoint1, Bench) {
    let endpoint = Endpoint1::answering(OK).await;
    let bench = Bench::new(&[endpoint.at()]);
    (endpoint, bench)
}

/// An endpoint that never answers.
async fn silent() -> (Endpoint1, Bench) {
    let endpoint = Endpoint1::scripted(|mut stream, _| async move {
        let mut read = vec![0; 64 * 1024];
        while stream.read(&mut read).await.is_ok_and(|read| read > 0) {}
    });
    let endpoint = endpoint.await;
    let bench = Bench::new(&[endpoint.at()]);
    (endpoint, bench)
}

#[tokio::test]
async fn a_request_beyond_the_rate_is_answered_429_and_when_it_may_come_again_it_is_served() {
    local(async {
        let (endpoint, bench) = answering().await;
        bench.budget(Budget { requests_per_second: Some(1), ..Budget::default() });
        let mut stream = bench.connect(Protocol::Http1).await;
        say(&mut stream, GET).await;
        assert!(hear(&mut stream).await.ends_with("ok"));
        say(&mut stream, GET).await;
        let refused = hear(&mut stream).await;
        assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
        assert!(refused.contains("\r\ncanopy-refused: request_rate\r\n"), "{refused}");
        assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
        assert_eq!((bench.cell.ledger.refusals(Reason::RequestRate), endpoint.connections()), (1, 1));
        sleep(Duration::from_secs(1)).await;
        say(&mut stream, GET).await;
        assert!(hear(&mut stream).await.ends_with("ok"), "on the same connection");
    })
    .await;
}

#[tokio::test]
async fn a_request_beyond_those_in_flight_is_answered_503_at_once_and_room_comes_back() {
    local(async {
        let (_endpoint, bench) = silent().await;
        bench.budget(Budget { requests_in_flight: Some(1), ..Budget::default() });
        let mut first = bench.connect(Protocol::Http1).await;
        say(&mut first, GET).await;
        assert!(is_silent(&mut first).await);
        let refused = bench.exchange(GET).await;
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains("\r\ncanopy-refused: request_limit\r\n"), "{refused}");
        assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
        assert_eq!(bench.cell.permits.requests(), 1);
        drop(first);
        while bench.cell.permits.requests() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let mut next = bench.connect(Protocol::Http1).await;
        say(&mut next, GET).await;
        assert!(is_silent(&mut next).await);
    })
    .await;
}

#[tokio::test]
async fn each_stream_of_a_connection_counts_and_grpc_is_told_in_its_own_words() {
    local(async {
        let (_endpoint, bench) = silent().await;
        bench.budget(Budget { requests_in_flight: Some(2), ..Budget::default() });
        let send = client(&bench).await;
        let held: Vec<_> = (0..2).map(|_| send.clone().send_request(request("/", empty()))).collect();
        let held: Vec<_> = held.into_iter().map(tokio::task::spawn_local).collect();
        while bench.cell.permits.requests() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        let refused = send.clone().send_request(request("/", empty())).await.unwrap();
        assert_eq!(refused.status(), StatusCode::OK);
        assert_eq!(said(refused.headers()), ["14", "request_limit"]);
        assert!(refused.into_body().collect().await.unwrap().to_bytes().is_empty());
        bench.budget(Budget { requests_per_second: Some(1), ..Budget::default() });
        let _last = tokio::task::spawn_local(send.clone().send_request(request("/", empty())));
        while bench.cell.permits.requests() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        let refused = send.clone().send_request(request("/", empty())).await.unwrap();
        assert_eq!(said(refused.headers()), ["8", "request_rate"]);
        let when =
            ["retry-after", "grpc-retry-pushback-ms"].map(|name| refused.headers()[name].to_str().unwrap());
        assert_eq!(when, ["1", "1000"]);
        held.iter().for_each(tokio::task::JoinHandle::abort);
    })
    .await;
}

fn said(answer: &http::HeaderMap) -> [&str; 2] {
    ["grpc-status", "canopy-refused"].map(|name| answer[name].to_str().unwrap())
}

#[tokio::test]
async fn a_budget_that_changes_counts_for_the_next_request_of_a_connection_that_is_there() {
    local(async {
        let (_endpoint, bench) = answering().await;
        let mut stream = bench.connect(Protocol::Http1).await;
        for (rate, expected) in [(None, "200"), (Some(1), "200"), (Some(1), "429"), (None, "200")] {
            bench.budget(Budget { requests_per_second: rate, ..Budget::default() });
            say(&mut stream, GET).await;
            let answer = hear(&mut stream).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{rate:?}: {answer}");
        }
        assert_eq!(bench.cell.ledger.requests.load(Relaxed), 4);
        assert_eq!(bench.cell.permits.requests(), 0);
    })
    .await;
}

#[tokio::test]
async fn half_way_to_the_hard_limit_requests_on_connections_that_are_there_are_answered_503_until_there_is_room()
 {
    local(async {
        let (endpoint, bench) = answering().await;
        let mut stream = bench.connect(Protocol::Http1).await;
        for (pressure, expected) in [
            (Pressure::Soft, "200"),
            (Pressure::Full, "503"),
            (Pressure::Hard, "503"),
            (Pressure::None, "200"),
        ] {
            bench.cell.permits.press(pressure);
            say(&mut stream, GET).await;
            let answer = hear(&mut stream).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{pressure:?}: {answer}");
            let is_told = answer.contains("\r\ncanopy-refused: memory_limit\r\n")
                && answer.contains("\r\nretry-after: 1\r\n");
            assert_eq!(is_told, expected == "503", "{answer}");
        }
        assert_eq!((bench.cell.ledger.refusals(Reason::MemoryLimit), endpoint.connections()), (2, 1));
        let send = client(&bench).await;
        bench.cell.permits.press(Pressure::Full);
        let refused = send.clone().send_request(request("/", empty())).await.unwrap();
        assert_eq!(said(refused.headers()), ["14", "memory_limit"]);
        assert_eq!(bench.cell.permits.requests(), 0, "what is refused holds nothing");
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_is_logged_with_its_reason() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let at: At = endpoint.at();
        let (bench, log) = Bench::logging(&[at], Limits::default());
        bench.budget(Budget { requests_per_second: Some(1), ..Budget::default() });
        for _ in 0..2 {
            bench.exchange(GET).await;
        }
        let lines = log.lines(&bench);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!((&lines[1]["status"], &lines[1]["reason"]), (&429.into(), &"request_rate".into()));
        assert!(lines[0]["reason"].is_null(), "{lines:?}");
    })
    .await;
}

#[tokio::test]
async fn bodies_go_no_faster_than_the_tenants_bytes_a_second_either_way() {
    const BODY: usize = 150_000;
    local(async {
        let big: &'static str = Box::leak(
            format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n{}", "x".repeat(BODY)).into_boxed_str(),
        );
        let endpoint = Endpoint1::answering(big).await;
        let bench = Bench::new(&[endpoint.at()]);
        let slow = Some(50_000);
        let took = |budget: Budget| {
            bench.budget(budget);
            let bench = &bench;
            async move {
                let begun = Instant::now();
                let mut stream = bench.connect(Protocol::Http1).await;
                say(&mut stream, GET).await;
                let mut heard = 0;
                let mut buffer = vec![0; 64 * 1024];
                while heard < BODY {
                    heard += stream.read(&mut buffer).await.unwrap();
                }
                begun.elapsed()
            }
        };
        // Three seconds' worth, less what goes at once and what the last piece need not wait for.
        let least = Duration::from_millis(900);
        let inward = took(Budget { bytes_per_second_in: slow, ..Budget::default() }).await;
        assert!(inward > least, "{inward:?}");
        let outward = took(Budget { bytes_per_second_out: slow, ..Budget::default() }).await;
        assert!(outward < inward / 2, "a response goes to the workload: {outward:?} and {inward:?}");
    })
    .await;
}
