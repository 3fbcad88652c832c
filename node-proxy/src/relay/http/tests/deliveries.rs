//! What the log says of how a request was to be sent on, also where it was not.

use std::{net::TcpStream, time::Duration};

use config::model::{AppProtocol, Egress};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    http2::{client, empty, request},
    support::{At, Bench, hear, local, say},
};
use crate::{accept::Protocol, cell::Limits};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn way(line: &Value) -> [&str; 3] {
    ["delivery", "delivery_why", "reason"].map(|field| line[field].as_str().unwrap_or("-"))
}

fn at(address: std::net::SocketAddr) -> At {
    At { address, protocol: AppProtocol::Undeclared }
}

/// An endpoint where nobody listens; another address than that of the pod of these tests.
pub(super) fn nobody(last: u8) -> At {
    let address = std::net::SocketAddr::from(([127, 0, 0, last], 0));
    at(std::net::TcpListener::bind(address).unwrap().local_addr().unwrap())
}

/// One that answers a single request with these bytes, and listens no longer.
async fn once(answer: &'static [u8]) -> At {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let _request = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(answer).await.unwrap();
    });
    at(address)
}

/// One that cannot be connected to and does not say so: its queue is full. It is so as long as what else is given lives.
fn full() -> (At, Socket, Vec<TcpStream>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let patience = Duration::from_millis(200);
    let connect = || TcpStream::connect_timeout(&address, patience).ok();
    let queued = std::iter::from_fn(connect).collect();
    (at(address), listener, queued)
}

#[tokio::test]
async fn a_refused_request_s_line_says_by_which_delivery_and_why() {
    local(async {
        for (egress, reason) in [(Egress::Any, "connect_refused"), (Egress::Mesh, "egress_forbidden")] {
            let (bench, log) = Bench::logging(&[nobody(2)], Limits::default());
            bench.egress(egress);
            bench.publish();
            let answer = bench.exchange(GET).await;
            assert!(answer.contains(reason), "{answer}");
            let lines = log.lines(&bench);
            assert_eq!(way(&lines[0]), ["network", "not_meshed", reason], "{lines:#?}");
        }
    })
    .await;
}

#[tokio::test]
async fn it_says_so_too_where_an_earlier_request_of_the_connection_had_found_the_way() {
    local(async {
        // Answers one request, and is not there for a second.
        let endpoint = once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let (bench, log) = Bench::logging(&[endpoint], Limits::default());
        let mut client = bench.connect(Protocol::Http1).await;
        for status in ["200", "503"] {
            say(&mut client, GET).await;
            let answer = hear(&mut client).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        drop(client);
        let lines = log.lines(&bench);
        let ways: Vec<_> = lines.iter().map(way).collect();
        let way = ["network", "not_meshed"];
        assert_eq!(ways, [[way[0], way[1], "-"], [way[0], way[1], "connect_refused"]], "{lines:#?}");
    })
    .await;
}

#[tokio::test]
async fn it_says_so_of_each_request_that_waited_for_the_connection_that_one_of_them_was_making() {
    local(async {
        let (endpoint, _listener, _queued) = full();
        let limits = Limits { connect: Duration::from_millis(200), ..Limits::default() };
        let (bench, log) = Bench::logging(&[endpoint], limits);
        let mut client = client(&bench).await;
        let mut ask = || client.send_request(request("/", empty()));
        for answer in futures_util::future::join_all([ask(), ask()]).await {
            answer.unwrap();
        }
        let lines = log.lines(&bench);
        let ways: Vec<_> = lines.iter().map(|line| [&line["delivery"], &line["delivery_why"]]).collect();
        assert_eq!(ways, [["network", "not_meshed"]; 2], "{lines:#?}");
    })
    .await;
}
