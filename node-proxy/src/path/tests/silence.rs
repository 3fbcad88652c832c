//! Peers that take nothing any more: given up after `TCP_USER_TIMEOUT`, at both ends of a connection.

use std::time::Duration;

use config::model::AppProtocol;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    on_a_cell,
    world::{World, reads_reset},
};
use crate::telemetry::Reason;

/// What may stay unacknowledged, or untaken, for so long.
const PATIENCE: Duration = Duration::from_millis(500);

fn impatient() -> World {
    World::with(|limits| limits.unacknowledged = PATIENCE)
}

/// Writes until nothing has moved for a while, so that every buffer on the way is full, or the connection is broken off.
async fn fill(stream: &mut TcpStream) {
    let chunk = vec![7; 256 * 1024];
    while let Ok(Ok(_)) = timeout(Duration::from_millis(300), stream.write(&chunk)).await {}
}

#[test]
fn a_server_that_takes_nothing_is_given_up_and_its_client_told() {
    on_a_cell(async {
        let world = impatient();
        let server = world.server(AppProtocol::Tcp).await;
        let mut client = world.dial(server.vip).await;
        let (_deaf, _) = server.listener.accept().await.unwrap();
        fill(&mut client).await;
        assert!(reads_reset(&mut client).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::UpstreamReset), 1);
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up_and_its_server_told() {
    on_a_cell(async {
        let world = impatient();
        let server = world.server(AppProtocol::Tcp).await;
        // What a connection inherits is settled when it comes: the loop that prepares the listener has to have begun.
        sleep(Duration::from_millis(1)).await;
        let _deaf = world.dial(server.vip).await;
        let (mut stream, _) = server.listener.accept().await.unwrap();
        fill(&mut stream).await;
        assert!(reads_reset(&mut stream).await);
        world.emptied(1).await;
        assert_eq!(world.cell.ledger.refusals(Reason::ClientClosed), 1);
    });
}
