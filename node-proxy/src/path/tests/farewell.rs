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

/// Long enough that a busy machine does not make one thing of two.
const LONG: Duration = Duration::from_secs(1);

async fn slow_pair() -> Pair {
    Pair::with(|limits| limits.farewell = LONG).await
}

/// A connection to the callee's port for tunnels that has said this, once the callee's proxy has it.
async fn dialled(pair: &Pair, says: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect((pair.address.ip(), hbone::PORT)).await.unwrap();
    socket.write_all(says).await.unwrap();
    while pair.callee.cell.live.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    socket
}

/// How long all takes to end from when it is asked to, and how many handshakes were given up for that.
async fn ends_after(pair: &Pair) -> (Duration, u64) {
    let asked = tokio::time::Instant::now();
    pair.callee.cell.live.finish_tree(pair.callee.tree.id);
    pair.callee.emptied(1).await;
    (asked.elapsed(), pair.callee.cell.ledger.refusals(Reason::HandshakeTimeout))
}

#[test]
fn who_dialled_a_tunnel_and_has_said_nothing_for_long_is_not_waited_for() {
    on_a_cell(async {
        let pair = slow_pair().await;
        let _silent = dialled(&pair, b"").await;
        tokio::time::sleep(LONG).await;
        assert_eq!(pair.callee.cell.live.len(), 1, "it has the time of a handshake until all is to end");
        let (after, given_up) = ends_after(&pair).await;
        assert!(after < LONG / 2 && given_up == 0, "{after:?} {given_up}");
    });
}

#[test]
fn who_dialled_a_tunnel_a_moment_ago_is_heard() {
    on_a_cell(async {
        let pair = slow_pair().await;
        let socket = dialled(&pair, b"").await;
        pair.callee.cell.live.finish_tree(pair.callee.tree.id);
        tokio::time::sleep(LONG / 4).await;
        let (send, connection) = h2::client::handshake(pair.tls(socket).await).await.unwrap();
        connection.await.unwrap();
        drop(send);
        pair.callee.emptied(1).await;
    });
}

#[test]
fn a_handshake_that_stands_still_is_not_waited_for_when_all_are_to_end() {
    on_a_cell(async {
        for is_encrypted in [false, true] {
            let pair = pair().await;
            let socket = dialled(&pair, if is_encrypted { b"" } else { b"\x16\x03" }).await;
            let _open = if is_encrypted { Ok(pair.tls(socket).await) } else { Err(socket) };
            tokio::time::sleep(2 * FAREWELL).await;
            assert_eq!(pair.callee.cell.live.len(), 1);
            let (after, given_up) = ends_after(&pair).await;
            assert!(
                after >= FAREWELL && after < Duration::from_secs(5) && given_up == 1,
                "{after:?} {given_up}"
            );
        }
    });
}
