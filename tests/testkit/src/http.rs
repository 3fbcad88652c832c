//! An HTTP client for inside a pod: hyper on a real socket, nothing pooled, so that a test knows which
//! connection carried what. HTTP/1.1 or HTTP/2 with prior knowledge.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::timeout};

use crate::{KitError, Netns, Pod, block_on};

/// Why a request gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The pod's namespace could not be entered.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// No connection came about.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// The server.
        to: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The exchange failed.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The request could not be written down.
    #[error("not a request: {0}")]
    Malformed(#[from] http::Error),
    /// No answer in half a minute.
    #[error("no answer from {to} within {LIMIT:?}")]
    TimedOut {
        /// The server.
        to: SocketAddr,
    },
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: HeaderMap,
}

impl Answer {
    /// The body as text, without space around it.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }

    /// A header's value, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// One connection that stays open between requests.
#[derive(Debug)]
pub struct Connection {
    to: SocketAddr,
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Opens an HTTP/1.1 connection from the calling thread's namespace.
    ///
    /// # Errors
    /// No connection within half a minute.
    pub async fn http1(to: SocketAddr) -> Result<Self, RequestError> {
        let (sender, connection) = http1::handshake(TokioIo::new(dial(to).await?)).await?;
        tokio::spawn(connection);
        Ok(Self { to, sender: Sender::Http1(sender) })
    }

    /// Opens an HTTP/2 connection, without asking whether the server speaks it.
    ///
    /// # Errors
    /// No connection within half a minute.
    pub async fn http2(to: SocketAddr) -> Result<Self, RequestError> {
        let stream = TokioIo::new(dial(to).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        Ok(Self { to, sender: Sender::Http2(sender) })
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// The exchange failed, or took more than half a minute.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, RequestError> {
        let to = self.to;
        let exchange = async {
            let response = match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
            };
            read(response).await
        };
        timeout(LIMIT, exchange).await.map_err(|_| RequestError::TimedOut { to })?
    }

    /// `GET path` of `host`.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer, RequestError> {
        // HTTP/2 takes the host from the URL, HTTP/1.1 from the header.
        let request = match self.sender {
            Sender::Http1(_) => Request::get(path).header(http::header::HOST, host),
            Sender::Http2(_) => Request::get(format!("http://{host}{path}")),
        };
        self.send(request.body(Full::default())?).await
    }
}

/// One `GET` over HTTP/1.1 from inside a pod, on a connection of its own.
///
/// # Errors
/// No connection, or the exchange failed.
pub fn get(from: &Pod, to: SocketAddr, host: &str, path: &str) -> Result<Answer, RequestError> {
    get_inside(from.netns(), to, host, path)
}

/// As [`get`], from inside any namespace.
///
/// # Errors
/// As [`get`].
pub fn get_inside(from: &Netns, to: SocketAddr, host: &str, path: &str) -> Result<Answer, RequestError> {
    from.run(|| block_on(async { Connection::http1(to).await?.get(host, path).await }))?
}

async fn dial(to: SocketAddr) -> Result<TcpStream, RequestError> {
    let dialled = timeout(LIMIT, TcpStream::connect(to)).await.map_err(|_| RequestError::TimedOut { to })?;
    dialled.map_err(|source| RequestError::Connect { to, source })
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, RequestError> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
}

const LIMIT: Duration = Duration::from_secs(30);
