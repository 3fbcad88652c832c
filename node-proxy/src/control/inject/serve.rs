//! The webhook's port: HTTP/1.1 over TLS, for the API server.
//!
//! Who asks is not proven, as an API server shows no certificate unless it was told to, and need not be: what is answered is no secret. So all is
//! bounded, in number, size and time, and no address can use up what others need. It must never log a pod.

use std::{convert::Infallible, fmt, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Terms,
    bounds::{Bounds, Most, Place, Question},
    review,
};
use crate::control::{discovery::server::Tls, kubernetes::Authority};

/// What the webhook is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What sidecars are made with; the roots are the authority's.
    pub terms: Terms,
}

/// The webhook, bound.
pub struct Webhook {
    listener: TcpListener,
    tls: Tls,
    /// Those that sidecars are to believe, as soon as there are any.
    roots: Roots,
    terms: Arc<Terms>,
}

type Roots = Box<dyn Fn() -> Option<String> + Send>;

/// The webhook cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The port is taken.
    #[error("the webhook's port {address} cannot be bound: give another with --webhook")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Webhook {
    /// Binds the port.
    pub async fn open(options: Options, authority: Arc<Authority>) -> Result<Self, WebhookError> {
        let Options { listen: address, terms } = options;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| WebhookError::Bind { address, source })?;
        // The API server speaks no HTTP/2 to webhooks.
        let tls = Tls::own(Arc::clone(&authority), b"http/1.1");
        Ok(Self::with(listener, tls, Box::new(move || authority.roots()), terms))
    }

    pub(super) fn with(listener: TcpListener, tls: Tls, roots: Roots, terms: Terms) -> Self {
        Self { listener, tls, roots, terms: Arc::new(terms) }
    }

    /// Where it is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until dropped.
    pub async fn serve(mut self) {
        let bounds = Bounds::new(MOST);
        loop {
            let (stream, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the webhook did not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Where nobody can make room, and where there is no certificate yet, the API server tries again.
            let Some(acceptor) = self.tls.acceptor() else { continue };
            let Some((place, leave)) = bounds.enter(from.ip()) else { continue };
            let asked = Asked { terms: Arc::clone(&self.terms), roots: (self.roots)().map(Arc::from), place };
            tokio::spawn(connection(stream, acceptor, Arc::new(asked), leave));
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// What a connection's questions are answered by.
struct Asked {
    terms: Arc<Terms>,
    roots: Option<Arc<str>>,
    place: Place,
}

/// Serves a connection, until it ends, or has to. Who does not finish is its own affair.
async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    asked: Arc<Asked>,
    leave: oneshot::Receiver<()>,
) {
    let served = async {
        let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
        questions(stream, asked).await;
    };
    tokio::select! {
        () = served => {}
        _ = leave => {}
    }
}

async fn questions(stream: TlsStream<TcpStream>, asked: Arc<Asked>) {
    let service = service_fn(move |request| {
        let asked = Arc::clone(&asked);
        async move {
            let question = asked.place.ask();
            Ok::<_, Infallible>(answer(request, &asked, &question).await)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A question that is under way is answered, and the client told that it is the last.
    if timeout(CONNECTION, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = timeout(LAST, served).await;
    }
}

async fn answer(request: Request<Incoming>, asked: &Asked, question: &Question<'_>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST || request.uri().path() != PATH {
        return told(StatusCode::NOT_FOUND, &format!("here is POST {PATH} alone"));
    }
    let read = timeout(BODY, body(request.into_body(), question)).await;
    let review = match read.unwrap_or(Err((StatusCode::REQUEST_TIMEOUT, "the question did not come in time")))
    {
        Ok(review) => review,
        Err((status, why)) => return told(status, why),
    };
    match review::answer(&review, &asked.terms, asked.roots.as_deref()) {
        Ok(answer) => {
            let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
            let json = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(error) => told(
            StatusCode::BAD_REQUEST,
            &format!("no AdmissionReview of admission.k8s.io/v1 about a pod: {error}"),
        ),
    }
}

/// The whole question, within what one and all may hold.
async fn body(mut body: Incoming, question: &Question<'_>) -> Result<Vec<u8>, (StatusCode, &'static str)> {
    const TOO_LARGE: (StatusCode, &str) =
        (StatusCode::PAYLOAD_TOO_LARGE, "the question has more bytes than a pod can have");
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(TOO_LARGE);
    }
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the question was cut short"))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > BODY_BYTES {
            return Err(TOO_LARGE);
        }
        if !question.hold(data.len()) {
            return Err((
                StatusCode::SERVICE_UNAVAILABLE,
                "as much is asked at a time as may be: ask again later",
            ));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// A refusal, in words; nothing is read any more of who is refused.
fn told(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("canopy: {why}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// Where the API server asks (deploy/daemonset/overlays/sidecar/webhook.yaml).
const PATH: &str = "/inject";
/// The API server asks for as many pods as are made at a time, and keeps a few connections; a replica of it has an address of its own. A
/// connection without a question costs some 60 KiB. In all some 80 MiB, of the 1 GiB that the control plane has.
pub(super) const MOST: Most =
    Most { connections: 512, connections_of_one: 64, bytes: 24 << 20, bytes_of_one: 8 << 20 };
/// The API server takes objects of at most 3 MiB, and a pod that is made is named once.
pub(super) const BODY_BYTES: usize = 4 << 20;
/// Of what has been read and not yet been taken, and so of a head.
const BUFFER_BYTES: usize = 16 << 10;
const HEADERS: usize = 32;
/// The API server waits five seconds in all (timeoutSeconds). A head may be long in coming, as connections are kept.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(30);
pub(super) const BODY: Duration = Duration::from_secs(5);
/// How long a connection may live: a renewed certificate, and a root that is new, are taken up by the next.
const CONNECTION: Duration = Duration::from_secs(60);
/// How long its last question may take.
const LAST: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
