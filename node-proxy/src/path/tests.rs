//! Connections over loopback, from a fake capture to a real server and back. Nothing here needs root.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use config::model::{AppProtocol, Egress};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::timeout,
};

use self::world::{Panics, Silent, World, closed_port, reads_reset};
use super::*;
use crate::sys::socket;

mod bounds;
mod breaks;
mod budgets;
mod bulk;
mod connects;
mod denials;
mod early;
mod egress;
mod facts;
mod farewell;
mod finding;
mod handshakes;
mod log;
mod logged;
mod policy;
mod probes;
mod said;
mod shedding;
mod silence;
mod sockets;
mod stalls;
mod targets;
mod trust;
mod tunnels;
mod waypoints;
mod world;

/// Far longer than anything here takes; a test that hangs fails instead.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a test as a cell runs: on one thread, tasks of its own.
fn on_a_cell(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(PATIENCE, test).await.unwrap() });
}

/// Waits until bytes flow: from then on the connection is in its relay.
async fn flows(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"x").await.unwrap();
    assert_eq!(to.read_u8().await.unwrap(), b'x');
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// A server that answers one connection with what it was sent, once the client has finished.
async fn echo_once(listener: TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let bytes = read_all(&mut stream).await;
    stream.write_all(&bytes).await.unwrap();
}

#[test]
fn opaque_bytes_go_to_the_service_and_back() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let answer = tokio::task::spawn_local(echo_once(server.listener));
        let mut client = world.dial(server.vip).await;
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, b"hello");
        answer.await.unwrap();
        world.emptied(1).await;
        let ledger = &world.cell.ledger;
        assert_eq!(ledger.connections.load(Relaxed), 1);
        assert_eq!((ledger.bytes_received.load(Relaxed), ledger.bytes_sent.load(Relaxed)), (5, 5));
    });
}

#[test]
fn the_servers_half_close_reaches_a_client_that_goes_on_sending() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, b"bye");
        client.write_all(b"still here").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut stream).await, b"still here");
        world.emptied(1).await;
    });
}

#[test]
fn a_peer_that_stops_reading_stops_the_other_and_loses_nothing() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        // Writes until nothing has moved for a while: then every buffer on the way is full.
        let chunk = vec![7; 256 * 1024];
        let mut sent = 0;
        while let Ok(written) = timeout(Duration::from_millis(300), client.write(&chunk)).await {
            sent += written.unwrap();
            assert!(sent < 512 * 1024 * 1024, "nothing stops the sender");
        }
        let carried = usize::try_from(world.cell.ledger.bytes_received.load(Relaxed)).unwrap();
        assert!(carried < sent, "the relay took more than the server did");
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut stream).await.len(), sent);
        drop((client, stream));
        world.emptied(1).await;
    });
}

#[test]
fn a_reset_by_either_end_reaches_the_other_with_its_reason() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;

        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        flows(&mut stream, &mut client).await;
        socket::reset(&stream);
        drop(stream);
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::UpstreamReset), 1);

        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut stream).await;
        socket::reset(&client);
        drop(client);
        assert!(reads_reset(&mut stream).await);
        world.emptied(2).await;
        assert_eq!(world.cell.ledger.refusals(Reason::ClientClosed), 1);
    });
}

#[test]
fn a_server_that_speaks_first_is_served_after_the_detection_deadline() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Undeclared).await;
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        stream.write_all(b"220 ready").await.unwrap();
        let mut greeting = [0; 9];
        client.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 ready");
        drop((client, stream));
        world.emptied(1).await;
    });
}

#[test]
fn bytes_that_came_before_the_deadline_are_not_lost() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Undeclared).await;
        let answer = tokio::task::spawn_local(echo_once(server.listener));
        let mut client = world.dial(server.vip).await;
        // Could still become HTTP/2's preface, but does not.
        client.write_all(b"PR").await.unwrap();
        tokio::time::sleep(world.cell.limits.detect * 2).await;
        client.write_all(b"or not").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, b"PRor not");
        answer.await.unwrap();
        world.emptied(1).await;
    });
}

#[test]
fn a_client_that_closes_an_http_port_unused_is_no_error() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Http1).await;
        let mut client = world.dial(server.vip).await;
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, b"");
        world.emptied(1).await;
        assert!(Reason::ALL.iter().all(|reason| world.cell.ledger.refusals(*reason) == 0));
    });
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let dead = closed_port();
        // The balancer may pick either first; over this many connections it meets the dead one.
        let vip = world.service(AppProtocol::Tcp, &[dead, server.address]);
        for _ in 0..20 {
            let mut client = world.dial(vip).await;
            let (mut stream, _) = server.listener.accept().await.unwrap();
            flows(&mut stream, &mut client).await;
        }
        world.emptied(20).await;
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectRefused), 0);
    });
}

#[test]
fn a_service_whose_every_endpoint_refuses_ends_in_a_reset() {
    on_a_cell(async {
        let world = World::new();
        let vip = world.service(AppProtocol::Tcp, &[closed_port(), closed_port()]);
        let mut client = world.dial(vip).await;
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectRefused), 1);
    });
}

#[test]
fn a_service_without_endpoints_ends_in_a_reset() {
    on_a_cell(async {
        let world = World::new();
        let vip = world.service(AppProtocol::Tcp, &[]);
        let mut client = world.dial(vip).await;
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::NoEndpoint), 1);
    });
}

#[test]
fn what_is_outside_the_mesh_passes_unless_egress_is_limited_to_the_mesh() {
    on_a_cell(async {
        let world = World::new();
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = outside.local_addr().unwrap();
        let client = world.dial(address).await;
        let (stream, _) = outside.accept().await.unwrap();
        drop((client, stream));
        world.emptied(1).await;

        world.limit(Egress::Mesh);
        let mut client = world.dial(address).await;
        assert!(reads_reset(&mut client).await);
        world.emptied(2).await;
        assert_eq!(world.cell.ledger.refusals(Reason::EgressForbidden), 1);
    });
}

#[test]
fn a_connection_that_was_not_steered_is_reset() {
    on_a_cell(async {
        let world = World::new();
        let mut client = TcpStream::connect(world.listener).await.unwrap();
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::NotSteered), 1);
    });
}

#[test]
fn a_panic_ends_its_connection_alone_and_is_counted_and_told() {
    on_a_cell(async {
        let world = World::with_connect(Rc::new(Panics), |_| ());
        let told = Rc::new(std::cell::Cell::new(0));
        let count = Rc::clone(&told);
        world.cell.on_panic(move || count.set(count.get() + 1));
        let vip = world.service(AppProtocol::Tcp, &[closed_port()]);
        for _ in 0..2 {
            let mut client = world.dial(vip).await;
            assert!(reads_reset(&mut client).await);
        }
        world.emptied(2).await;
        assert_eq!((told.get(), world.cell.ledger.panics.load(Relaxed)), (2, 2));
        assert_eq!(world.cell.ledger.refusals(Reason::Panic), 2);
    });
}

#[test]
fn a_cell_that_is_full_refuses_and_takes_again_when_one_has_gone() {
    on_a_cell(async {
        let world = World::with(|limits| limits.connections = 1);
        let server = world.server(AppProtocol::Tcp).await;
        let first = world.dial(server.vip).await;
        let (held, _) = server.listener.accept().await.unwrap();
        let mut second = world.dial(server.vip).await;
        assert!(reads_reset(&mut second).await);
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectionLimit), 1);
        drop((first, held));
        world.emptied(1).await;
        let _third = world.dial(server.vip).await;
        server.listener.accept().await.unwrap();
    });
}

#[test]
fn the_connections_of_a_tree_are_listed_and_can_be_ended() {
    on_a_cell(async {
        let world = World::new();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        flows(&mut client, &mut stream).await;
        let mut seen = Vec::new();
        world.cell.live.each(|live| seen.push(live.describe()));
        assert_eq!((seen.len(), seen[0].destination, seen[0].protocol.as_str()), (1, server.vip, "tcp"));
        world.cell.live.close_tree(world.tree.id + 1, Reason::Draining);
        assert_eq!(world.cell.live.len(), 1);
        world.cell.live.close_tree(world.tree.id, Reason::Draining);
        assert!(reads_reset(&mut client).await && reads_reset(&mut stream).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::Draining), 1);
    });
}

#[test]
fn a_silent_connection_ends_after_the_idle_time_out_and_a_busy_one_does_not() {
    on_a_cell(async {
        let idle = Duration::from_millis(1500);
        let world = World::with(|limits| limits.idle = Some(idle));
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < idle * 3 {
            client.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap();
            tokio::time::sleep(idle / 75).await;
        }
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::IdleTimeout), 1);
    });
}

#[test]
fn an_endpoint_that_does_not_answer_is_a_time_out() {
    on_a_cell(async {
        let world = World::with_connect(Rc::new(Silent), |_| ());
        let vip = world.service(AppProtocol::Tcp, &[closed_port()]);
        let mut client = world.dial(vip).await;
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::ConnectTimeout), 1);
    });
}

#[test]
fn a_connections_future_stays_small() {
    let size = world::size_of_carry();
    // Every open connection costs this much, and no buffer while nothing waits. Of it, 96 are for the places of its sockets in
    // the cell's share.
    assert!(size <= 1696 + 96, "{size} bytes");
}
