//! Endpoints that take nothing any more: given up after `TCP_USER_TIMEOUT`.

use std::time::Duration;

use config::model::AppProtocol;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

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
