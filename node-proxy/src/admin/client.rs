//! The command line's end of the admin socket.
//!
//! Every failure names the socket and says what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error(
        "no daemon answers on {path}: start one with `canopy run --config DIR`, or name its --instance or --admin-socket"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("{path} is not open to this user: run as root or as the daemon's own user")]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// It broke off.
    #[error("the daemon on {path} ended the conversation")]
    Conversation {
        /// The socket.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: hyper::Error,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It said something that is not understood.
    #[error("the daemon on {path} answered something unexpected; is it of another version?")]
    Answer {
        /// The socket.
        path: PathBuf,
    },
}

/// Asks for one JSON document.
pub async fn get<T: serde::de::DeserializeOwned>(socket: &Path, target: &str) -> Result<T, ClientError> {
    let unexpected = || ClientError::Answer { path: socket.to_owned() };
    let body = open(socket, target).await?;
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|_| unexpected())?.to_bytes();
    serde_json::from_slice(&body).map_err(|_| unexpected())
}

/// Asks for bytes, as many as there are.
pub async fn bytes(socket: &Path, target: &str) -> Result<Bytes, ClientError> {
    let body = open(socket, target).await?;
    let unexpected = |_| ClientError::Answer { path: socket.to_owned() };
    Ok(Limited::new(body, CONFIGURATION_BYTES).collect().await.map_err(unexpected)?.to_bytes())
}

/// Asks for a stream of lines and hands each over as it comes, until the daemon ends it or `line` says to stop.
pub async fn stream(
    socket: &Path,
    target: &str,
    mut line: impl FnMut(&[u8]) -> bool,
) -> Result<(), ClientError> {
    let mut body = open(socket, target).await?;
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| ClientError::Conversation { path: socket.to_owned(), source })?;
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], Bytes::as_ref));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            if !line(&pending[..end]) {
                return Ok(());
            }
            pending.drain(..=end);
        }
    }
    Ok(())
}

async fn open(socket: &Path, target: &str) -> Result<Incoming, ClientError> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed { path: path() },
        _ => ClientError::NotRunning { path: path(), source },
    })?;
    let conversation = |source| ClientError::Conversation { path: path(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(conversation)?;
    tokio::spawn(async move {
        // An error here is an error of the request, which reports it.
        let _ = connection.await;
    });
    let request = Request::get(target)
        .header(header::HOST, "canopy")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ClientError::Answer { path: path() })?;
    let response = sender.send_request(request).await.map_err(conversation)?;
    let status = response.status();
    let body = response.into_body();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let why = Limited::new(body, ANSWER_BYTES).collect().await.map(|why| why.to_bytes()).unwrap_or_default();
    Err(ClientError::Refused(String::from_utf8_lossy(&why).trim().to_owned()))
}

/// Bytes of a configuration at most: a million endpoints are some 100 MiB.
const CONFIGURATION_BYTES: usize = 1 << 30;
/// Bytes of an answer at most: a forest of 110 pods with 50 connections shown each is some 2 MiB.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
