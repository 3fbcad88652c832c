//! How many tunnels there may be, how long they are kept, and when a silent one ends.

use std::net::IpAddr;

use ::http::{Response, StatusCode};
use tokio_rustls::TlsAcceptor;

use super::{
    tunnels::{Pair, named, own_address},
    *,
};
use crate::{
    cell::{Bound, Limits},
    identity::testing::TestAuthority,
    upstream::connect::Kernel,
};

fn made(world: &World) -> u64 {
    world.cell.ledger.tunnels_made.load(Relaxed)
}

fn accepted(world: &World) -> u64 {
    world.cell.ledger.tunnels_accepted.load(Relaxed)
}

/// Limits of which no time is over while a test is patient: what ends has been ended by what happened.
fn without_timers(limits: &Limits) -> Limits {
    let long = 40 * PATIENCE;
    Limits {
        head: long,
        connect: long,
        handshake: long,
        tunnel_idle: long,
        tunnel_keepalive: long,
        unacknowledged: long,
        pool_idle: long,
        farewell: long,
        ..limits.clone()
    }
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn tunnels_to_one_peer_are_bounded_and_those_there_are_go_on() {
    on_a_cell(async {
        let pair = Pair::with(|limits| {
            limits.shared_tunnels = false;
            limits.tunnels = Bound { all: 9, each: 2 };
        })
        .await;
        let (mut first, mut app) = pair.connect().await;
        let second = pair.connect().await;
        assert_eq!((made(&pair.caller), accepted(&pair.callee)), (2, 2));
        assert!(reads_reset(&mut pair.caller.dial(pair.address).await).await);
        assert_eq!(pair.caller.cell.ledger.refusals(Reason::TunnelLimit), 1);
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::TunnelLimit), 0, "it was not asked");
        flows(&mut first, &mut app).await;
        drop(second);
        until(|| made(&pair.caller) == 1 && accepted(&pair.callee) == 1).await;
        let (mut third, mut app) = pair.connect().await;
        flows(&mut third, &mut app).await;
    });
}

#[test]
fn tunnels_from_one_peer_are_bounded_before_their_handshake() {
    on_a_cell(async {
        let pair = Pair::with(|limits| limits.tunnels = Bound { all: 9, each: 1 }).await;
        let (mut client, mut server) = pair.connect().await;
        flows(&mut client, &mut server).await;
        let mut flood = TcpStream::connect((pair.address.ip(), hbone::PORT)).await.unwrap();
        assert!(reads_reset(&mut flood).await);
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::TunnelLimit), 1);
        flows(&mut client, &mut server).await;
    });
}

#[test]
fn handshakes_of_one_pod_leave_room_for_those_of_another() {
    on_a_cell(async {
        let pair = Pair::with(|limits| limits.handshakes = Bound { all: 2, each: 1 }).await;
        let ip = own_address();
        let neighbour = Rc::new(capture::Tree {
            workload: Arc::new(named("callee", ip)),
            netns: Rc::clone(&pair.callee.tree.netns),
            id: 7,
            presence: capture::Presence::default(),
        });
        world::listen(&pair.callee.cell, &neighbour, Side::Inbound, SocketAddr::new(ip, hbone::PORT));
        let dial = || TcpStream::connect((pair.address.ip(), hbone::PORT));
        let mut silent = dial().await.unwrap();
        until(|| accepted(&pair.callee) == 1).await;
        let _second = dial().await.unwrap();
        assert!(reads_reset(&mut silent).await, "it makes room");
        assert_eq!(pair.callee.cell.ledger.refusals(Reason::HandshakeLimit), 1);
        let app = TcpListener::bind((ip, 0)).await.unwrap();
        pair.caller.know(&[named("callee", ip)]);
        let mut client = pair.caller.dial(app.local_addr().unwrap()).await;
        let (mut server, _) = app.accept().await.unwrap();
        flows(&mut client, &mut server).await;
    });
}

#[test]
fn a_tunnel_without_streams_goes_after_its_time_and_one_with_a_stream_does_not() {
    on_a_cell(async {
        let pair = Pair::with(|limits| {
            *limits = without_timers(limits);
            limits.tunnel_idle = Duration::from_millis(100);
        })
        .await;
        let (mut client, mut server) = pair.connect().await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        flows(&mut client, &mut server).await;
        assert_eq!(pair.tunnels(), 1);
        drop((client, server));
        // By its maker: the receiver would wait for its keepalive.
        until(|| pair.tunnels() == 0 && made(&pair.caller) == 0 && accepted(&pair.callee) == 0).await;
        assert!(Reason::ALL.iter().all(|reason| pair.callee.cell.ledger.refusals(*reason) == 0));
    });
}

#[test]
fn a_receiver_lets_go_of_a_tunnel_that_its_maker_keeps_for_nothing() {
    on_a_cell(async {
        let pair = Pair::with(|limits| {
            limits.tunnel_idle = Duration::from_millis(100);
            limits.tunnel_keepalive = Duration::from_millis(20);
        })
        .await;
        let begun = tokio::time::Instant::now();
        let _kept = pair.by_hand().await;
        until(|| accepted(&pair.callee) == 1).await;
        until(|| accepted(&pair.callee) == 0).await;
        assert!(begun.elapsed() >= Duration::from_millis(150), "twice a maker's time: {:?}", begun.elapsed());
    });
}

/// A proxy that answers one CONNECT, and then nothing for ever: its machine is gone, as far as the caller can tell.
async fn falls_silent(callee: &World, at: IpAddr) {
    let listener = TcpListener::bind((at, hbone::PORT)).await.unwrap();
    let config = callee.cell.credentials.server(&callee.tree.workload.identity).await.unwrap();
    tokio::task::spawn_local(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let tls = TlsAcceptor::from(config).accept(socket).await.unwrap();
        let mut http = h2::server::handshake(tls).await.unwrap();
        let (_request, mut respond) = http.accept().await.unwrap().unwrap();
        let answer = Response::builder().status(StatusCode::OK).body(()).unwrap();
        let _stream = respond.send_response(answer, false).unwrap();
        // Sends the answer, and reads nothing from then on.
        let _sent = timeout(Duration::from_millis(50), poll_fn(|cx| http.poll_closed(cx))).await;
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_peer_that_falls_silent_ends_the_tunnel_and_what_is_in_it() {
    on_a_cell(async {
        let authority = TestAuthority::new();
        let made_of =
            |workload| world::Made { workload, connect: Rc::new(Kernel), identity: authority.sources() };
        let keepalive = Duration::from_millis(200);
        let caller = named("caller", "127.0.0.1".parse().unwrap());
        let caller = World::of(made_of(caller), |limits| limits.tunnel_keepalive = keepalive);
        let ip = own_address();
        let callee = World::of(made_of(named("callee", ip)), |_| ());
        falls_silent(&callee, ip).await;
        caller.know(&[named("callee", ip)]);
        let begun = tokio::time::Instant::now();
        let mut client = caller.dial(SocketAddr::new(ip, 80)).await;
        assert!(reads_reset(&mut client).await);
        assert!(
            begun.elapsed() >= 3 * keepalive,
            "a pause, and twice that for an answer: {:?}",
            begun.elapsed()
        );
        caller.emptied(1).await;
        assert_eq!(caller.cell.ledger.refusals(Reason::PeerSilent), 1);
        assert_eq!((made(&caller), caller.cell.tunnels.connections()), (0, 1), "swept at the next look");
    });
}

#[test]
fn an_app_whose_answer_nobody_reads_any_more_is_told_so_at_once() {
    on_a_cell(async {
        let pair = Pair::with(|limits| *limits = without_timers(limits)).await;
        let vip = pair.caller.service(AppProtocol::Http1, &[pair.address]);
        let mut client = pair.caller.dial(vip).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n").await.unwrap();
        let (mut app, _) = pair.app.accept().await.unwrap();
        assert!(app.read(&mut [0; 1024]).await.unwrap() > 0);
        app.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        drop(client);
        while app.write_all(b"4\r\nmore\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pair.caller.emptied(1).await;
    });
}
