//! Clients that keep a connection and do not let go of it when they are asked to.

use std::time::Duration;

use config::model::{AppProtocol, Filter, Redirect};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::support::{At, Bench, Endpoint1, hear, local, rule, say};
use crate::{accept::Protocol, cell::Limits, telemetry::Reason};

const FAREWELL: Duration = Duration::from_millis(150);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// What an HTTP/2 client says first: its preface and SETTINGS of nothing.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn limits() -> Limits {
    Limits { farewell: FAREWELL, ..Limits::default() }
}

#[tokio::test]
async fn a_kept_http1_connection_is_closed_when_all_are_to_end_though_its_client_never_closes() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = kept(&bench).await;
        bench.cell.live.finish_tree(bench.tree.id);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        gone(&bench).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_uses_its_http1_connection_hears_of_the_end_in_an_answer_and_loses_no_request() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::new(&[endpoint.at()]);
        let mut client = kept(&bench).await;
        bench.cell.live.finish_tree(bench.tree.id);
        sleep(Duration::from_millis(50)).await;
        say(&mut client, "GET / HTTP/1.1\r\nhost: cart\r\n\r\n").await;
        let heard = hear(&mut client).await;
        let is_last = heard.contains("connection: close\r\n") && heard.ends_with("ok<closed>");
        assert!(heard.starts_with("HTTP/1.1 200 OK") && is_last, "{heard}");
        gone(&bench).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_answered_at_once_says_that_it_is_the_last_where_all_are_to_end() {
    local(async {
        let bench = Bench::new(&[]);
        let hostname = Some("elsewhere".to_owned());
        let redirect = Redirect { scheme: None, hostname, port: None, path: None, status: 302 };
        bench.rules(vec![rule("cart", vec![Filter::Redirect(redirect)])]);
        bench.publish();
        let mut client = bench.connect(Protocol::Http1).await;
        for is_last in [false, true] {
            say(&mut client, "GET / HTTP/1.1\r\nhost: cart\r\n\r\n").await;
            let heard = hear(&mut client).await;
            assert!(heard.starts_with("HTTP/1.1 302 "), "{heard}");
            assert_eq!(heard.contains("connection: close\r\n"), is_last, "{heard}");
            bench.cell.live.finish_tree(bench.tree.id);
        }
        gone(&bench).await;
    })
    .await;
}

/// A client whose connection was kept after a request.
async fn kept(bench: &Bench) -> TcpStream {
    let mut client = bench.connect(Protocol::Http1).await;
    say(&mut client, "GET / HTTP/1.1\r\nhost: cart\r\n\r\n").await;
    assert!(hear(&mut client).await.ends_with("ok"), "it is kept");
    client
}

/// A client whose connection is fresh, and one whose connection was kept after a request.
async fn clients(bench: &Bench) -> [(&'static str, TcpStream); 2] {
    [("fresh", bench.connect(Protocol::Http1).await), ("kept", kept(bench).await)]
}

#[tokio::test]
async fn a_head_that_has_begun_and_stands_still_is_not_waited_for_when_all_are_to_end() {
    local(async {
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::with_limits(&[endpoint.at()], limits());
        let mut clients = clients(&bench).await;
        for (_, client) in &mut clients {
            say(client, "GET / HTTP/1.1\r\nho").await;
        }
        sleep(2 * FAREWELL).await;
        let asked = Instant::now();
        bench.cell.live.finish_tree(bench.tree.id);
        for (which, mut client) in clients {
            let heard = hear(&mut client).await;
            let is_told = heard.contains("canopy-refused: head_timeout") && heard.ends_with("<closed>");
            assert!(heard.starts_with("HTTP/1.1 408 ") && is_told, "{which}: {heard}");
        }
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        gone(&bench).await;
        assert_eq!(bench.cell.ledger.refusals(Reason::HeadTimeout), 2);
    })
    .await;
}

#[tokio::test]
async fn a_head_of_which_more_comes_is_served_when_all_are_to_end_and_its_connection_closed() {
    local(async {
        let farewell = Duration::from_secs(1);
        let endpoint = Endpoint1::answering(OK).await;
        let bench = Bench::with_limits(&[endpoint.at()], Limits { farewell, ..Limits::default() });
        let mut clients = clients(&bench).await;
        for (_, client) in &mut clients {
            say(client, "GET / HT").await;
        }
        sleep(farewell / 10).await;
        bench.cell.live.finish_tree(bench.tree.id);
        for piece in ["TP/1.1\r\n", "hos", "t: cart\r\n", "\r\n"] {
            sleep(farewell * 2 / 5).await;
            for (_, client) in &mut clients {
                say(client, piece).await;
            }
        }
        for (which, mut client) in clients {
            let heard = hear(&mut client).await;
            assert!(
                heard.starts_with("HTTP/1.1 200 OK") && heard.ends_with("ok<closed>"),
                "{which}: {heard}"
            );
        }
        gone(&bench).await;
    })
    .await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_when_all_are_to_end_though_its_client_says_nothing() {
    local(async {
        let bench = Bench::with_limits(&[], limits());
        let mut client = bench.connect(Protocol::Http2).await;
        client.write_all(HELLO).await.unwrap();
        sleep(2 * FAREWELL).await;
        assert_eq!(bench.cell.live.len(), 1, "it is kept until it is to end");
        bench.cell.live.finish_tree(bench.tree.id);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        gone(&bench).await;
    })
    .await;
}

#[tokio::test]
async fn an_http2_client_that_talks_and_never_says_that_it_has_heard_is_not_waited_for_much_longer() {
    local(async {
        let bench = Bench::with_limits(&[], Limits { head: 4 * FAREWELL, ..limits() });
        let mut client = bench.connect(Protocol::Http2).await;
        client.write_all(HELLO).await.unwrap();
        sleep(FAREWELL).await;
        bench.cell.live.finish_tree(bench.tree.id);
        let asked = Instant::now();
        let talk = async {
            // A little more of the connection's window, each time.
            while client.write_all(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01").await.is_ok() {
                sleep(FAREWELL / 5).await;
            }
        };
        tokio::join!(gone(&bench), timeout(Duration::from_secs(8), talk)).1.unwrap();
        assert!(asked.elapsed() >= 4 * FAREWELL, "what it says may be a request's beginning");
    })
    .await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_however_silent_its_http2_client_is() {
    local(async {
        let (asked, answers) = (Notify::new(), Notify::new());
        let told = std::rc::Rc::new((asked, answers));
        let its = std::rc::Rc::clone(&told);
        let endpoint = Endpoint1::scripted(move |mut stream, _| {
            let told = std::rc::Rc::clone(&its);
            async move {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                told.0.notify_one();
                told.1.notified().await;
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let at = At { address: endpoint.address, protocol: AppProtocol::Http1 };
        let bench = Bench::with_limits(&[at], limits());
        let stream = bench.connect(Protocol::Http2).await;
        let (mut send, mut connection) = h2::client::handshake(stream).await.unwrap();
        let request = Request::get("http://cart.shop/").body(()).unwrap();
        let (response, _body) = send.send_request(request, true).unwrap();
        tokio::select! {
            () = told.0.notified() => {}
            ended = &mut connection => panic!("it ended: {ended:?}"),
        }
        bench.cell.live.finish_tree(bench.tree.id);
        sleep(5 * FAREWELL).await;
        assert_eq!(bench.cell.live.len(), 1, "nobody polls its client");
        told.1.notify_one();
        let answer = async {
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "ok");
        };
        let (ended, ()) = tokio::join!(&mut connection, answer);
        ended.unwrap();
        gone(&bench).await;
    })
    .await;
}

async fn gone(bench: &Bench) {
    let gone = async {
        while !bench.cell.live.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(8), gone).await.expect("it ends");
}
