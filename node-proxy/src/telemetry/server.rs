//! The one TCP port of the daemon that is not a tree's: `/metrics`, `/readyz`, `/livez`.
//!
//! Bounded: few connections, small heads, short time-outs. It must never show a secret or change anything.

use std::{
    convert::Infallible,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::metrics::{CONTENT_TYPE, Metrics, Readings};

/// The metrics port cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the metrics port {address} cannot be bound; give another with --metrics-addr")]
pub struct ServerError {
    /// The address.
    address: SocketAddr,
    /// What the system said.
    #[source]
    source: io::Error,
}

/// The bound metrics port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

/// What is served.
pub trait Page: Send + Sync + fmt::Debug + 'static {
    /// The metrics, in OpenMetrics text.
    fn metrics(&self) -> String;
    /// Whether the first configuration is in force.
    fn is_ready(&self) -> bool;
}

/// A node's.
#[derive(Debug)]
struct OfNode {
    metrics: Metrics,
    readings: Arc<dyn Readings>,
}

impl Page for OfNode {
    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn is_ready(&self) -> bool {
        self.readings.is_ready()
    }
}

impl Server {
    /// Binds the port; `[::]` is every address, of IPv4 as well, and of IPv4 alone where the kernel has no IPv6.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let bound = match address {
            SocketAddr::V6(every) if every.ip().is_unspecified() => match both_families(address) {
                Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
                }
                bound => bound,
            },
            _ => TcpListener::bind(address).await,
        };
        Ok(Self { listener: bound.map_err(|source| ServerError { address, source })? })
    }

    /// Where it is bound; the port is the kernel's choice where 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers with what `readings` say, until dropped.
    pub async fn serve(self, readings: Arc<dyn Readings>) {
        self.show(Arc::new(OfNode { metrics: Metrics::new(Arc::clone(&readings)), readings })).await;
    }

    /// Answers with `page`, until dropped.
    pub async fn show(self, page: Arc<dyn Page>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let page = Arc::clone(&page);
                    tokio::spawn(async move {
                        serve_connection(stream, page).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the metrics port did not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whatever `net.ipv6.bindv6only` says.
fn both_families(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn serve_connection(stream: TcpStream, page: Arc<dyn Page>) {
    let service = service_fn(move |request| {
        let answer = answer(&*page, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    // A scraper that goes away or stalls is its own affair.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

fn answer(page: &dyn Page, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    match request.uri().path() {
        "/metrics" => {
            let mut response = text(StatusCode::OK, page.metrics());
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
            response
        }
        "/readyz" if page.is_ready() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "the first configuration is not in force yet\n"),
        "/livez" => text(StatusCode::OK, "alive\n"),
        _ => text(StatusCode::NOT_FOUND, "here are /metrics, /readyz and /livez\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// Connections at a time: Prometheus, the kubelet's probes, and a person.
const CONNECTIONS: usize = 16;
/// Those that wait to be accepted.
const BACKLOG: i32 = 128;
/// Bytes of a request's head; hyper's minimum is 8 KiB.
const HEAD_BYTES: usize = 8 * 1024;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may live; scrapers reconnect.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// How long to wait after a failed accept, which mostly means that descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_address_is_one_of_either_family() {
        let server = Server::bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = server.address().unwrap().port();
        for to in ["127.0.0.1", "::1"] {
            TcpStream::connect((to, port)).await.unwrap_or_else(|error| panic!("{to}: {error}"));
        }
    }
}
