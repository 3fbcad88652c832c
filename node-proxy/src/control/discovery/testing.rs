//! A control plane of a test: real gRPC on a socket of this machine, which says what the test says. Never part of a daemon.

use std::{
    convert::Infallible,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use config::discovery::{Kind, Resource as Whole, messages::Any};
use futures_util::stream;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc as queue,
};
use tonic::{Response as Answer, Status, Streaming, metadata::MetadataMap, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::protocol::{DELTA, Request, Resource, Response};

/// How long a test waits for what has to come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for what must not come.
pub(super) const QUIET: Duration = Duration::from_millis(100);

/// A control plane. Ends with the test.
#[derive(Debug)]
pub(super) struct Plane {
    streams: mpsc::Receiver<Conversation>,
    _ends: queue::Sender<()>,
}

/// One stream of it.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) metadata: MetadataMap,
    requests: mpsc::Receiver<Request>,
    responses: queue::UnboundedSender<Result<Response, Status>>,
}

/// On which socket.
pub(super) enum Socket<'a> {
    Unix(&'a Path),
    Tls(std::net::TcpListener, Arc<ServerConfig>),
}

impl Plane {
    pub(super) fn start(socket: Socket<'_>) -> Self {
        let (streams, accepted) = mpsc::channel();
        let (_ends, mut end) = queue::channel(1);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
        enum Bound {
            Unix(UnixListener),
            Tls(TcpListener, tokio_rustls::TlsAcceptor),
        }
        let guard = runtime.enter();
        let bound = match socket {
            Socket::Unix(path) => {
                let _ = std::fs::remove_file(path);
                Bound::Unix(UnixListener::bind(path).expect("a folder for the socket"))
            }
            Socket::Tls(listener, config) => {
                listener.set_nonblocking(true).expect("it is open");
                Bound::Tls(TcpListener::from_std(listener).expect("within an event loop"), config.into())
            }
        };
        drop(guard);
        let accept = async move {
            loop {
                let streams = streams.clone();
                match &bound {
                    Bound::Unix(listener) => {
                        let (stream, _) = listener.accept().await.expect("a client");
                        tokio::spawn(serve(stream, streams));
                    }
                    Bound::Tls(listener, acceptor) => {
                        let (stream, _) = listener.accept().await.expect("a client");
                        let Ok(stream) = acceptor.accept(stream).await else { continue };
                        tokio::spawn(serve(stream, streams));
                    }
                }
            }
        };
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept => {}
                    _ = end.recv() => {}
                }
            });
        });
        Self { streams: accepted, _ends }
    }

    /// The next stream.
    pub(super) fn accept(&self) -> Conversation {
        self.streams.recv_timeout(PATIENCE).expect("a stream")
    }

    /// That there is no further one for a while.
    pub(super) fn is_quiet(&self) -> bool {
        self.streams.recv_timeout(QUIET).is_err()
    }
}

impl Conversation {
    /// The next request.
    pub(super) fn asked(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }

    /// The first request of each type.
    pub(super) fn opened(&self) -> Vec<Request> {
        Kind::ALL.iter().map(|_| self.asked()).collect()
    }

    /// That there is no further one for a while.
    pub(super) fn is_quiet(&self) -> bool {
        self.requests.recv_timeout(QUIET).is_err()
    }

    pub(super) fn say(&self, response: Response) {
        self.responses.send(Ok(response)).expect("the stream is open");
    }

    pub(super) fn fail(&self, status: Status) {
        self.responses.send(Err(status)).expect("the stream is open");
    }
}

async fn serve<S>(stream: S, streams: mpsc::Sender<Conversation>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let answer = hyper::service::service_fn(move |request: http::Request<_>| {
        let streams = streams.clone();
        async move {
            assert_eq!(request.uri().path(), DELTA);
            let converse = service_fn(move |request: tonic::Request<Streaming<Request>>| {
                let streams = streams.clone();
                async move { Ok::<_, Status>(Answer::new(converse(request, streams))) }
            });
            let mut grpc = Grpc::new(ProstCodec::<Response, Request>::default());
            Ok::<_, Infallible>(grpc.streaming(converse, request).await)
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new());
    // A client that goes ends it.
    let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
}

fn converse(
    request: tonic::Request<Streaming<Request>>,
    streams: mpsc::Sender<Conversation>,
) -> impl stream::Stream<Item = Result<Response, Status>> + Send + 'static {
    let (asked, requests) = mpsc::channel();
    let (responses, mut said) = queue::unbounded_channel();
    let metadata = request.metadata().clone();
    let mut questions = request.into_inner();
    tokio::spawn(async move {
        while let Ok(Some(question)) = questions.message().await {
            if asked.send(question).is_err() {
                return;
            }
        }
    });
    // The test may be over.
    let _ = streams.send(Conversation { metadata, requests, responses });
    stream::poll_fn(move |cx| said.poll_recv(cx))
}

/// A response of a type, with a nonce.
pub(super) fn response(kind: Kind, nonce: &str, resources: &[Whole], removed: &[&str]) -> Response {
    let resource = |whole: &Whole| Resource {
        version: whole.version.clone(),
        resource: Some(Any { type_url: kind.type_url().to_owned(), value: whole.body.clone() }),
        name: whole.name.clone(),
        aliases: whole.aliases.clone(),
    };
    Response {
        system_version: String::new(),
        resources: resources.iter().map(resource).collect(),
        type_url: kind.type_url().to_owned(),
        nonce: nonce.to_owned(),
        removed: removed.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// A resource of some body.
pub(super) fn resource(name: &str, aliases: &[&str], version: &str) -> Whole {
    Whole {
        name: name.to_owned(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        version: version.to_owned(),
        body: format!("body of {name} {version}").into_bytes(),
    }
}
