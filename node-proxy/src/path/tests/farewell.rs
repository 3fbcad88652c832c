//! Tunnels whose peer is asked to let go of them and says nothing: it may have gone without a word.

use ::http::{Method, Request};
use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use tokio_rustls::client::TlsStream;

use super::{tunnels::Pair, *};

const FAREWELL: Duration = Duration::from_millis(150);

/// HTTP/2 to the callee's proxy, which is heard and answered only while it is polled.
struct Peer {
    send: SendRequest<Bytes>,
    connection: Connection<TlsStream<TcpStream>, Bytes>,
}

impl Peer {
    async fn of(pair: &Pair) -> Self {
        let (send, connection) = pair.polled_by_hand().await;
        let mut peer = Self { send, connection };
        while !is_there(pair) {
            peer.listens_for(Duration::from_millis(5)).await;
        }
        peer
    }

    async fn listens_for(&mut self, some: Duration) {
        drop(timeout(some, &mut self.connection).await);
    }
}

/// Whether the callee has finished its handshake.
fn is_there(pair: &Pair) -> bool {
    let mut known = false;
    pair.callee.cell.live.each(|live| known |= live.caller.get().is_some());
    known
}

async fn pair() -> Pair {
    Pair::with(|limits| limits.farewell = FAREWELL).await
}

#[test]
fn an_idle_tunnel_whose_peer_says_nothing_ends_soon_after_it_was_asked_to() {
    on_a_cell(async {
        let pair = pair().await;
        let _peer = Peer::of(&pair).await;
        tokio::time::sleep(2 * FAREWELL).await;
        assert_eq!(pair.callee.cell.live.len(), 1, "it is kept until it is to end");
        pair.callee.cell.live.finish_tree(pair.callee.tree.id);
        pair.callee.emptied(1).await;
    });
}

#[test]
fn a_tunnel_with_a_stream_under_way_is_kept_however_silent_its_peer_is() {
    on_a_cell(async {
        let pair = pair().await;
        let mut peer = Peer::of(&pair).await;
        let mut connect = Request::new(());
        *connect.method_mut() = Method::CONNECT;
        *connect.uri_mut() = pair.address.to_string().parse().unwrap();
        let (response, mut stream) = peer.send.send_request(connect, false).unwrap();
        let (mut server, response) = tokio::select! {
            both = async { (pair.app.accept().await.unwrap().0, response.await.unwrap()) } => both,
            _ = &mut peer.connection => unreachable!("it ended"),
        };
        pair.callee.cell.live.finish_tree(pair.callee.tree.id);
        tokio::time::sleep(5 * FAREWELL).await;
        assert_eq!(pair.callee.cell.live.len(), 2, "the tunnel and its stream");
        stream.send_data(Bytes::from_static(b"late"), true).unwrap();
        let mut body = response.into_body();
        let rest = async {
            assert_eq!(read_all(&mut server).await, b"late");
            server.write_all(b"and back").await.unwrap();
            drop(server);
            let mut said = Vec::new();
            while let Some(bytes) = body.data().await {
                said.extend(bytes.unwrap());
            }
            assert_eq!(said, b"and back");
        };
        let (ended, ()) = tokio::join!(&mut peer.connection, rest);
        ended.unwrap();
        pair.callee.emptied(2).await;
    });
}
