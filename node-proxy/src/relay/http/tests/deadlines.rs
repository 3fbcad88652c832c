//! Responses whose client does not take them: a rule's time is over for them, too.

use std::{cell::RefCell, rc::Rc, time::Duration};

use config::model::{AppProtocol, Timeouts};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use super::{
    http2,
    support::{At, Bench, Endpoint1, Log, local, rule, say},
};
use crate::{accept::Protocol, cell::Limits, telemetry::Reason};

const GET: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// An endpoint whose responses have no end.
async fn endless() -> Endpoint1 {
    Endpoint1::scripted(|stream, heard| async move { drop(pour(stream, heard).await) }).await
}

/// Writes for as long as it is let. Notes the end of it.
async fn pour(mut stream: TcpStream, heard: Rc<RefCell<String>>) -> std::io::Result<()> {
    let _request = stream.read(&mut [0; 4096]).await?;
    stream.write_all(HEAD).await?;
    let chunk = [b"4000\r\n", &[b'x'; 0x4000][..], b"\r\n"].concat();
    while stream.write_all(&chunk).await.is_ok() {}
    heard.borrow_mut().push_str("let go");
    Ok(())
}

/// A rule with a time that is soon over, to that endpoint.
fn bench(endpoint: &Endpoint1) -> (Bench, Log) {
    let at = At { address: endpoint.address, protocol: AppProtocol::Http1 };
    let (bench, log) = Bench::logging(&[at], Limits::default());
    let mut short = rule("cart", Vec::new());
    short.timeouts = Timeouts { request: Some(Duration::from_millis(500)), backend_request: None };
    bench.rules(vec![short]);
    bench.publish();
    (bench, log)
}

async fn until_let_go(endpoint: &Endpoint1) {
    while endpoint.heard() != "let go" {
        sleep(Duration::from_millis(5)).await;
    }
}

fn assert_said(bench: &Bench, log: Log) {
    assert_eq!(bench.cell.ledger.refusals(Reason::RequestTimeout), 1);
    assert_eq!(bench.cell.ledger.refusals(Reason::ClientClosed), 0);
    let lines = log.lines(bench);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&line["status"], &line["reason"]), (&200.into(), &"request_timeout".into()), "{line}");
}

#[tokio::test]
async fn a_response_that_an_http1_client_does_not_take_ends_at_its_deadline() {
    local(async {
        let endpoint = endless().await;
        let (bench, log) = bench(&endpoint);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, GET).await;
        until_let_go(&endpoint).await;
        // And a proper end would make it look whole.
        let read = client.read_to_end(&mut Vec::new()).await;
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_said(&bench, log);
    })
    .await;
}

#[tokio::test]
async fn a_response_that_an_http1_client_takes_slowly_ends_at_its_deadline() {
    local(async {
        let endpoint = endless().await;
        let (bench, log) = bench(&endpoint);
        let mut client = bench.connect(Protocol::Http1).await;
        say(&mut client, GET).await;
        let mut buffer = vec![0; 256 * 1024];
        while client.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            sleep(Duration::from_millis(5)).await;
        }
        until_let_go(&endpoint).await;
        assert_said(&bench, log);
    })
    .await;
}

#[tokio::test]
async fn a_response_that_an_http2_client_does_not_take_ends_at_its_deadline_and_its_stream_alone() {
    local(async {
        let endpoint = endless().await;
        let (bench, log) = bench(&endpoint);
        let mut client = http2::client(&bench).await;
        let answer = client.send_request(http2::request("/", http2::empty())).await.unwrap();
        until_let_go(&endpoint).await;
        assert!(answer.into_body().collect().await.is_err(), "a proper end would make it look whole");
        assert_said(&bench, log);
        let again = client.send_request(http2::request("/", http2::empty())).await.unwrap();
        assert_eq!(again.status(), 200, "the connection goes on");
    })
    .await;
}

#[tokio::test]
async fn a_deadline_that_was_kept_ends_nothing_of_the_same_connection() {
    local(async {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let endpoint = Endpoint1::answering(answer).await;
        let (bench, _log) = bench(&endpoint);
        let mut client = bench.connect(Protocol::Http1).await;
        for _ in 0..2 {
            say(&mut client, GET).await;
            assert_eq!(super::support::hear(&mut client).await, answer);
            sleep(Duration::from_millis(600)).await;
        }
        assert_eq!(bench.cell.ledger.refusals(Reason::RequestTimeout), 0);
    })
    .await;
}
