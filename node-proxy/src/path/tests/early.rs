//! What the log says of connections that were refused before their first stage.

use std::net::{Ipv4Addr, SocketAddr};

use config::model::AppProtocol;
use ebpf_redirect::Side;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{
    log::Log,
    on_a_cell,
    world::{LOOPBACK, World, listen, reads_reset, workload},
};
use crate::{cell::Limits, telemetry::Reason};

/// A world, and the log that it writes.
struct Scene {
    world: World,
    log: Log,
}

impl Scene {
    fn with(limit: impl FnOnce(&mut Limits)) -> Self {
        let log = Log::new();
        Self { world: World::logging(&log, limit), log }
    }

    /// The only line so far. Ends the log.
    fn line(self) -> Value {
        self.log.line(&self.world)
    }
}

/// A refused connection's own address, once it was reset.
async fn refused(mut client: TcpStream) -> String {
    let address = client.local_addr().unwrap();
    assert!(reads_reset(&mut client).await);
    address.to_string()
}

/// The facts by which an operator finds the culprit.
fn facts(line: &Value) -> [&str; 5] {
    ["direction", "src.addr", "src.workload", "dst.addr", "reason"]
        .map(|field| line[field].as_str().unwrap_or("-"))
}

#[test]
fn a_connection_beyond_the_bound_is_logged_as_its_pods_and_with_where_it_was_going() {
    on_a_cell(async {
        let scene = Scene::with(|limits| limits.connections = 1);
        let server = scene.world.server(AppProtocol::Tcp).await;
        let held = scene.world.dial(server.vip).await;
        let _carried = server.listener.accept().await.unwrap();
        let client = refused(scene.world.dial(server.vip).await).await;
        let (vip, line) = (server.vip.to_string(), scene.line());
        assert_eq!(facts(&line), ["outbound", &client, "shop/caller", &vip, "connection_limit"]);
        drop(held);
    });
}

#[test]
fn an_inbound_connection_beyond_the_bound_is_logged_with_the_pod_that_has_its_address() {
    on_a_cell(async {
        let scene = Scene::with(|limits| limits.connections = 0);
        scene.world.know(&[workload()]);
        let listener = listen(&scene.world.cell, &scene.world.tree, Side::Inbound, LOOPBACK);
        let app = SocketAddr::from(([192, 0, 2, 9], 80));
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        scene.world.steer(socket.local_addr().unwrap(), app);
        let client = refused(socket.connect(listener).await.unwrap()).await;
        let line = scene.line();
        assert_eq!(facts(&line), ["inbound", &client, "shop/caller", "192.0.2.9:80", "connection_limit"]);
    });
}

#[test]
fn a_connection_that_nobody_steered_is_logged_as_its_pods_and_to_the_listener() {
    on_a_cell(async {
        let scene = Scene::with(|_| ());
        let listener = scene.world.listener;
        let client = refused(TcpStream::connect(listener).await.unwrap()).await;
        let (listener, line) = (listener.to_string(), scene.line());
        assert_eq!(facts(&line), ["outbound", &client, "shop/caller", &listener, "not_steered"]);
    });
}

#[test]
fn a_connection_of_which_the_kernel_says_nothing_is_reset_counted_and_logged_as_its_pods() {
    on_a_cell(async {
        let scene = Scene::with(|_| ());
        let listener = scene.world.listener;
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        scene.world.hide(socket.local_addr().unwrap());
        let client = refused(socket.connect(listener).await.unwrap()).await;
        scene.world.emptied(1).await;
        assert_eq!(scene.world.cell.ledger.refusals(Reason::OriginUnknown), 1);
        let (listener, line) = (listener.to_string(), scene.line());
        assert_eq!(facts(&line), ["outbound", &client, "shop/caller", &listener, "origin_unknown"]);
    });
}

#[test]
fn a_connection_in_the_queue_of_a_replaced_cell_is_logged_with_where_it_was_going() {
    on_a_cell(async {
        let scene = Scene::with(|_| ());
        let outside = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        scene.world.throne.succeed();
        let client = refused(scene.world.dial(outside).await).await;
        let (outside, line) = (outside.to_string(), scene.line());
        assert_eq!(facts(&line), ["outbound", &client, "shop/caller", &outside, "cell_restarted"]);
    });
}
