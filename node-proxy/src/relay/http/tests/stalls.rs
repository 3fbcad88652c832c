//! HTTP/2 streams that nobody reads, as many as a connection has but one: that one goes on as if it were alone. And what is kept of
//! the others is bounded.

use std::{
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use config::model::AppProtocol;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use tokio::{net::TcpListener, time::sleep};

use super::{
    http2::{AnyBody, empty, request},
    support::{At, Bench, local},
};
use crate::{
    accept::Protocol,
    sys::hyper_io::HyperIo,
    upstream::{
        pool::http2::{MOST_STREAMS, STREAM_WINDOW},
        rt::{LocalExecutor, TokioTimer},
    },
};

/// What both ends of a test take of one stream by themselves, and of all.
const OWN_STREAM: u32 = 64 * 1024;
const OWN_CONNECTION: u32 = 2 * MOST_STREAMS * OWN_STREAM;
/// All but one.
const STALLED: usize = MOST_STREAMS as usize - 1;

/// Bytes without end; how many were taken.
#[derive(Clone, Default)]
pub(super) struct Endless(Arc<AtomicUsize>);

impl Endless {
    /// Waits until each stalled stream has its window's bytes, and nobody has taken any for a while.
    async fn until_stalled(&self) -> usize {
        loop {
            let taken = self.0.load(Relaxed);
            sleep(Duration::from_millis(200)).await;
            if taken > STALLED * STREAM_WINDOW as usize && taken == self.0.load(Relaxed) {
                return taken;
            }
        }
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = h2::Error;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.0.fetch_add(CHUNK.len(), Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(CHUNK)))))
    }
}

const CHUNK: &[u8] = &[7; 16 * 1024];

/// `/flood` is answered without end, `/deaf` never, and nothing of its body is read; everything else comes back.
pub(super) struct Endpoint {
    address: SocketAddr,
    flood: Endless,
    connections: Rc<std::cell::Cell<usize>>,
}

impl Endpoint {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (flood, connections) = (Endless::default(), Rc::<std::cell::Cell<usize>>::default());
        let (bytes, counted) = (flood.clone(), Rc::clone(&connections));
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.set(counted.get() + 1);
                let bytes = bytes.clone();
                let connection = hyper::server::conn::http2::Builder::new(LocalExecutor)
                    .timer(TokioTimer)
                    .max_concurrent_streams(2 * MOST_STREAMS)
                    .initial_stream_window_size(OWN_STREAM)
                    .initial_connection_window_size(OWN_CONNECTION)
                    .serve_connection(
                        HyperIo(stream),
                        service_fn(move |request| answer(request, bytes.clone())),
                    );
                tokio::task::spawn_local(connection);
            }
        });
        Self { address, flood, connections }
    }

    pub(super) fn bench(&self) -> Bench {
        Bench::new(&[At { address: self.address, protocol: AppProtocol::Http2 }])
    }
}

async fn answer(request: Request<Incoming>, bytes: Endless) -> Result<Response<AnyBody>, h2::Error> {
    match request.uri().path() {
        "/flood" => Ok(Response::new(bytes.boxed_unsync())),
        "/deaf" => {
            let _unread = request;
            std::future::pending().await
        }
        _ => Ok(Response::new(
            request.into_body().map_err(|_| h2::Error::from(h2::Reason::CANCEL)).boxed_unsync(),
        )),
    }
}

async fn client(bench: &Bench) -> SendRequest<AnyBody> {
    let stream = bench.connect(Protocol::Http2).await;
    let (send, connection) = hyper::client::conn::http2::Builder::new(LocalExecutor)
        .timer(TokioTimer)
        .initial_stream_window_size(OWN_STREAM)
        .initial_connection_window_size(OWN_CONNECTION)
        .handshake(HyperIo(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(connection);
    send
}

/// More than a stream's window goes there and back.
async fn flows(client: &mut SendRequest<AnyBody>) {
    let bytes = Bytes::from(vec![7; 2 * STREAM_WINDOW as usize]);
    let body = Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync();
    let answer = client.send_request(request("/echo", body)).await.unwrap();
    let back = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(back == bytes, "{} bytes came back", back.len());
}

/// What the stalled streams may have on their way in all.
fn bound() -> usize {
    // At both ends, a chunk or two that wait to be sent.
    STALLED * (STREAM_WINDOW as usize + OWN_STREAM as usize + 4 * CHUNK.len())
}

#[tokio::test]
async fn answers_that_nobody_takes_hold_up_no_other_on_their_connection() {
    local(async {
        let endpoint = Endpoint::new().await;
        let bench = endpoint.bench();
        let mut greedy = client(&bench).await;
        let mut unread = Vec::new();
        for _ in 0..STALLED {
            unread.push(greedy.send_request(request("/flood", empty())).await.unwrap());
        }
        let taken = endpoint.flood.until_stalled().await;
        assert!(taken < bound(), "each has its window, and no more: {taken}");
        flows(&mut client(&bench).await).await;
        assert_eq!(endpoint.connections.get(), 1, "all of them on one connection");
        let _more = greedy.send_request(request("/flood", empty())).await.unwrap();
        flows(&mut client(&bench).await).await;
        assert_eq!(endpoint.connections.get(), 2, "which takes no more than it has room for");
    })
    .await;
}

#[tokio::test]
async fn uploads_that_nobody_takes_hold_up_no_other_of_their_client() {
    local(async {
        let endpoint = Endpoint::new().await;
        let bench = endpoint.bench();
        let mut client = client(&bench).await;
        let upload = Endless::default();
        let mut unanswered = Vec::new();
        for _ in 0..STALLED {
            let sent = client.send_request(request("/deaf", upload.clone().boxed_unsync()));
            unanswered.push(tokio::task::spawn_local(sent));
        }
        let taken = upload.until_stalled().await;
        assert!(taken < bound(), "each has its window, and no more: {taken}");
        flows(&mut client).await;
        assert!(unanswered.iter().all(|request| !request.is_finished()));
    })
    .await;
}
