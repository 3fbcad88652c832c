//! A connection of HTTP/2 has one window for all its streams: one whose socket has nothing to say must keep none of it.

use std::{future::poll_fn, net::Ipv4Addr, rc::Rc, time::Duration};

use h2::{RecvStream, SendStream, client, server};
use http::{Request, Response};
use tokio::{
    io::{AsyncWriteExt, duplex},
    net::TcpListener,
    sync::mpsc,
    task::{LocalSet, spawn_local},
    time::timeout,
};

use super::*;
use crate::hbone::Streams;

/// Bytes of a connection's window where nobody has announced more (RFC 9113, 6.9.2): less than one stream asks for.
const WINDOW: usize = 65_535;

/// A stream, and its other end, which is not read.
struct Opened {
    tunnel: Tunnel,
    received: RecvStream,
    _answering: SendStream<Bytes>,
}

/// An app, the socket to it, and two streams of one connection over a pipe in memory.
struct Pair {
    app: TcpStream,
    socket: TcpStream,
    first: Opened,
    second: Opened,
}

impl Pair {
    async fn new() -> Self {
        let (ours, theirs) = duplex(1 << 20);
        let near = client::handshake(ours);
        // Only the connection's window is what holds a stream up.
        let far = server::Builder::new().initial_window_size(1 << 20).handshake::<_, Bytes>(theirs);
        let (near, far) = tokio::join!(near, far);
        let ((mut near, driver), mut far) = (near.unwrap(), far.unwrap());
        spawn_local(driver);
        let (asked, mut ends) = mpsc::unbounded_channel();
        spawn_local(async move {
            while let Some(Ok((request, mut respond))) = far.accept().await {
                let answering = respond.send_response(Response::new(()), false).unwrap();
                asked.send((request.into_body(), answering)).unwrap();
            }
        });
        let streams = Rc::new(Streams::default());
        let mut open = async || {
            let request = Request::connect("10.0.0.7:80").body(()).unwrap();
            let (answer, send) = near.send_request(request, false).unwrap();
            let tunnel = Tunnel::opened(send, answer.await.unwrap().into_body(), streams.open());
            let (received, _answering) = ends.recv().await.unwrap();
            Opened { tunnel, received, _answering }
        };
        let (first, second) = (open().await, open().await);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let app = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        Self { app, socket, first, second }
    }

    /// What the first stream does with what the app has said.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.poll_send_most(cx, usize::MAX)
    }

    fn poll_send_most(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<usize> {
        let sent = poll_send(cx, (&mut self.socket, &mut self.first.tunnel), most);
        sent.map(|sent| sent.unwrap_or_else(|_| panic!("neither end has failed")))
    }

    /// What the second may send.
    async fn room_of_second(&mut self) -> usize {
        let room = poll_fn(|cx| self.second.tunnel.poll_room(cx));
        timeout(Duration::from_secs(10), room)
            .await
            .expect("the first keeps the connection's window")
            .unwrap()
    }
}

#[tokio::test]
async fn a_short_read_leaves_the_window_to_the_other_streams() {
    let sent = async {
        let mut pair = Pair::new().await;
        pair.app.write_all(b"short").await.unwrap();
        assert_eq!(poll_fn(|cx| pair.poll_send(cx)).await, 5);
        assert_eq!(pair.room_of_second().await, WINDOW - 5);
    };
    LocalSet::new().run_until(sent).await;
}

#[tokio::test]
async fn no_more_goes_than_a_turn_may_carry_and_the_rest_of_the_window_is_the_other_streams() {
    let sent = async {
        let mut pair = Pair::new().await;
        pair.app.write_all(&[7; WINDOW]).await.unwrap();
        pair.socket.readable().await.unwrap();
        let sent = poll_fn(|cx| pair.poll_send_most(cx, LEAST)).await;
        assert!((1..=LEAST).contains(&sent), "{sent}");
        assert_eq!(pair.room_of_second().await, WINDOW - sent);
    };
    LocalSet::new().run_until(sent).await;
}

#[tokio::test]
async fn a_socket_that_only_seemed_to_have_more_leaves_the_window_to_the_other_streams() {
    let sent = async {
        let mut pair = Pair::new().await;
        // A read that fills the whole room does not show that it was the last.
        pair.app.write_all(&[7; WINDOW]).await.unwrap();
        let mut sent = 0;
        while sent < WINDOW {
            sent += poll_fn(|cx| pair.poll_send(cx)).await;
        }
        let mut returned = 0;
        while returned < WINDOW {
            let bytes = pair.first.received.data().await.unwrap().unwrap();
            pair.first.received.flow_control().release_capacity(bytes.len()).unwrap();
            returned += bytes.len();
        }
        assert!(pair.room_of_second().await > 0);
        pair.second.tunnel.forgo_room();
        let more = poll_fn(|cx| Poll::Ready(pair.poll_send(cx))).await;
        assert!(more.is_pending(), "{more:?}");
        assert!(pair.room_of_second().await > 0);
    };
    LocalSet::new().run_until(sent).await;
}
