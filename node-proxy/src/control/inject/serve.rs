//! The webhook's port: HTTP/1.1 over TLS, for the API server.
//!
//! Bounded as every port is. Who asks is not proven, and need not be: what is answered is no secret. It must never log a pod.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Terms, review};
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
#[derive(Debug)]
pub struct Webhook {
    listener: TcpListener,
    tls: Tls,
    authority: Arc<Authority>,
    terms: Arc<Terms>,
}

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
        Ok(Self { listener, tls, authority, terms: Arc::new(terms) })
    }

    /// Where it is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until dropped.
    pub async fn serve(mut self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the webhook did not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(acceptor) = self.tls.acceptor() else { continue };
            let (terms, roots) = (Arc::clone(&self.terms), self.authority.roots());
            tokio::spawn(async move {
                // Who does not finish is its own affair.
                let _ = timeout(CONNECTION, connection(stream, acceptor, terms, roots)).await;
                drop(place);
            });
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    terms: Arc<Terms>,
    roots: Option<String>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = acceptor.accept(stream).await?;
    let roots = roots.map(Arc::<str>::from);
    let service = service_fn(move |request| {
        let (terms, roots) = (Arc::clone(&terms), roots.clone());
        async move { Ok::<_, Infallible>(answer(request, &terms, roots.as_deref()).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    Ok(served.await?)
}

async fn answer(request: Request<Incoming>, terms: &Terms, roots: Option<&str>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST || request.uri().path() != PATH {
        return status(StatusCode::NOT_FOUND);
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES).collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let Some(answer) = review::answer(&body.to_bytes(), terms, roots) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// Where the API server asks (deploy/daemonset/overlays/sidecar/webhook.yaml).
const PATH: &str = "/inject";
/// The API server keeps a few connections, and asks for as many pods as are made at a time.
const CONNECTIONS: usize = 128;
/// A pod has at most 1.5 MiB where it is stored, and a review may name it twice.
const BODY_BYTES: usize = 6 << 20;
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may live: a renewed certificate, and a root that is new, are taken up by the next.
const CONNECTION: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
