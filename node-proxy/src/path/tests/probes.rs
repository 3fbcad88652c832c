//! Probes that are under way, or do not go on, when connections are to end.

use super::{
    policy::{healthz, strict},
    *,
};

const FAREWELL: Duration = Duration::from_millis(150);
/// What an HTTP/2 client says first: its preface and SETTINGS of nothing.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const QUESTION: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: app\r\n\r\n";

/// A world whose app may be probed, and takes nothing else in the clear.
async fn probed() -> (World, TcpListener) {
    let world = World::with(|limits| limits.farewell = FAREWELL);
    let server = world.server(AppProtocol::Http1).await;
    world.protect(strict());
    world.probed(server.address.port(), vec![healthz()]);
    (world, server.listener)
}

/// A connection from the node to the app, on which this was said a while ago.
async fn said(world: &World, app: &TcpListener, bytes: &[u8]) -> TcpStream {
    let mut client = world.call(app.local_addr().unwrap()).await;
    client.write_all(bytes).await.unwrap();
    tokio::time::sleep(2 * FAREWELL).await;
    assert_eq!(world.cell.live.len(), 1);
    client
}

#[test]
fn a_probes_connection_without_a_question_is_not_waited_for_when_all_are_to_end() {
    on_a_cell(async {
        for begun in [HELLO, &QUESTION[..20]] {
            let (world, app) = probed().await;
            let _client = said(&world, &app, begun).await;
            world.cell.live.finish_tree(world.tree.id);
            timeout(Duration::from_secs(5), world.emptied(1)).await.expect("it ends");
        }
    });
}

#[test]
fn a_probe_that_is_under_way_is_answered_when_all_are_to_end() {
    on_a_cell(async {
        let (world, app) = probed().await;
        let mut client = said(&world, &app, QUESTION).await;
        let (mut asked, _) = app.accept().await.unwrap();
        world.cell.live.finish_tree(world.tree.id);
        tokio::time::sleep(3 * FAREWELL).await;
        asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nhea").await.unwrap();
        tokio::time::sleep(3 * FAREWELL).await;
        asked.write_all(b"lthy").await.unwrap();
        let heard = String::from_utf8(read_all(&mut client).await).unwrap();
        assert!(heard.starts_with("HTTP/1.1 200 OK") && heard.ends_with("healthy"), "{heard}");
        world.emptied(1).await;
    });
}
