//! How many sockets to endpoints a cell has, whatever its clients' connections carry.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use config::model::{AppProtocol, BackendTarget, Filter, Mirror};
use http::Request;
use http_body_util::Empty;
use tokio::{
    io::AsyncReadExt,
    sync::Notify,
    time::{sleep, timeout},
};

use super::support::{At, Bench, Endpoint1, local, rule, service_name};
use crate::{
    accept::Protocol, cell::Limits, sys::hyper_io::HyperIo, telemetry::Reason, upstream::rt::LocalExecutor,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: cart.shop\r\n\r\n";

fn bounded(connections: usize, endpoints: &[&Endpoint1]) -> Bench {
    let at = |endpoint: &&Endpoint1| At { address: endpoint.address, protocol: AppProtocol::Http1 };
    let endpoints: Vec<At> = endpoints.iter().map(at).collect();
    Bench::with_limits(&endpoints, Limits { connections, ..Limits::default() })
}

/// An endpoint that answers nothing until it is told to let go of its connections.
async fn silent_until(end: &Rc<Notify>) -> Endpoint1 {
    let end = Rc::clone(end);
    Endpoint1::scripted(move |mut stream, _| {
        let end = Rc::clone(&end);
        async move {
            let _request = stream.read(&mut [0; 4096]).await;
            end.notified().await;
        }
    })
    .await
}

/// Waits until everything that was counted has been given back, but for so many idle connections.
async fn balanced(bench: &Bench, idle: usize) {
    let share = &bench.cell.share;
    while (share.sockets(), share.mirrors()) != (idle, 0) {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn streams_of_one_connection_take_no_more_sockets_than_their_cell_may_have() {
    local(async {
        let end = Rc::<Notify>::default();
        let endpoint = silent_until(&end).await;
        let bench = bounded(8, &[&endpoint]);
        let stream = bench.connect(Protocol::Http2).await;
        let builder = hyper::client::conn::http2::Builder::new(LocalExecutor);
        let (send, connection) = builder.handshake(HyperIo(stream)).await.unwrap();
        let driver = tokio::task::spawn_local(connection);
        let mut answers = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let request = Request::get("http://cart.shop/").body(Empty::<Bytes>::new()).unwrap();
            answers.spawn_local(send.clone().send_request(request));
        }
        for _ in 0..200 - 8 {
            let answer = answers.join_next().await.unwrap().unwrap().unwrap();
            assert_eq!(
                (answer.status(), &answer.headers()["canopy-refused"]),
                (http::StatusCode::SERVICE_UNAVAILABLE, &http::HeaderValue::from_static("connection_limit"),)
            );
        }
        let more = timeout(Duration::from_millis(100), answers.join_next()).await;
        assert!(more.is_err(), "the other eight wait for their endpoint: {more:?}");
        assert_eq!((endpoint.connections(), bench.cell.share.sockets()), (8, 8));
        assert_eq!(bench.cell.ledger.refusals(Reason::ConnectionLimit), 200 - 8);
        answers.shutdown().await;
        drop(send);
        driver.abort();
        balanced(&bench, 0).await;
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_gives_way_to_one_that_is_needed() {
    local(async {
        let endpoints = (Endpoint1::answering(OK).await, Endpoint1::answering(OK).await);
        let bench = bounded(1, &[&endpoints.0, &endpoints.1]);
        for request in 0..12 {
            assert_eq!(bench.exchange(GET).await, OK, "request {request}");
            assert_eq!(bench.cell.share.sockets(), 1);
        }
        let made = (endpoints.0.connections(), endpoints.1.connections());
        assert!(made.0 > 0 && made.1 > 0, "{made:?}");
        bench.cell.pool.close();
        balanced(&bench, 0).await;
    })
    .await;
}

#[tokio::test]
async fn mirrors_take_a_quarter_of_the_sockets_and_more_are_dropped_and_counted() {
    local(async {
        let end = Rc::<Notify>::default();
        let (endpoint, copy) = (Endpoint1::answering(OK).await, silent_until(&end).await);
        let bench = bounded(8, &[&endpoint]);
        bench.service("copy", "10.0.0.2:80", &[copy.at()]);
        let target = BackendTarget::Service { service: service_name("copy"), port: 80 };
        let mirror = Mirror { target, numerator: 1, denominator: 1 };
        bench.rules(vec![rule("cart", vec![Filter::Mirror(mirror)])]);
        bench.publish();
        for _ in 0..6 {
            assert_eq!(bench.exchange(GET).await, OK);
        }
        let share = &bench.cell.share;
        assert_eq!((copy.connections(), share.mirrors(), share.sockets()), (2, 2, 3));
        let dropped = &bench.cell.ledger.mirrors_dropped;
        assert_eq!(dropped.load(std::sync::atomic::Ordering::Relaxed), 4);
        end.notify_waiters();
        balanced(&bench, 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_share_that_shrinks_lets_go_of_what_is_idle_and_ends_nothing_that_is_used() {
    local(async {
        let end = Rc::<Notify>::default();
        let (busy, idle) = (silent_until(&end).await, Endpoint1::answering(OK).await);
        let bench = bounded(8, &[&idle]);
        assert_eq!(bench.exchange(GET).await, OK);
        bench.service(
            "cart",
            super::support::VIP,
            &[At { address: busy.address, protocol: AppProtocol::Http1 }],
        );
        bench.service("idle", "10.0.0.2:80", &[At { address: idle.address, protocol: AppProtocol::Http1 }]);
        bench.publish();
        let mut client = bench.connect(Protocol::Http1).await;
        super::support::say(&mut client, GET).await;
        while busy.connections() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        bench.cell.change_share(1);
        balanced(&bench, 1).await;
        assert_eq!(bench.cell.ledger.holding(), crate::tenancy::Holding { bound: 1, held: 1 });
        assert!(bench.exchange(GET).await.contains("connection_limit"));
        let closed = timeout(Duration::from_millis(50), client.read(&mut [0; 8])).await;
        assert!(closed.is_err(), "the request that is under way goes on: {closed:?}");
        end.notify_waiters();
        drop(client);
        balanced(&bench, 0).await;
    })
    .await;
}
