//! Reading the first bytes of a connection, as many as are needed to tell its protocol, but no longer than its deadline.
//!
//! What is read is handed on as a prefix; nothing is consumed. It must never hold a buffer while it waits.

use std::{future::poll_fn, io, pin::Pin, task::ready, time::Duration};

use bytes::{Bytes, BytesMut};
use config::model::AppProtocol;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::timeout,
};

use super::{
    AcceptError, Protocol,
    detect::{self, Verdict},
};
use crate::cell::Limits;

/// One read: enough for most requests' heads, so that the relay need not read again; small enough for the stack.
const READ: usize = 4096;

/// Tells the protocol of a connection of which nothing was declared. Silence is what server-first protocols
/// begin with, so after the deadline it is opaque, with whatever came until then.
pub(super) async fn undeclared<R: AsyncRead + Unpin>(
    stream: &mut R,
    limits: &Limits,
) -> Result<(Protocol, Bytes), AcceptError> {
    let mut seen = Seen::default();
    match timeout(limits.detect, seen.until_decided(stream)).await {
        Ok(protocol) => Ok((protocol.map_err(AcceptError::Broken)?, seen.bytes())),
        Err(_elapsed) => Ok((Protocol::Tcp, seen.bytes())),
    }
}

/// Tells the version of a connection that was declared as HTTP. The client speaks first there, so its first byte is
/// waited for as long as a connection may lie idle in a pool; from then on a head's time runs.
pub(super) async fn http<R: AsyncRead + Unpin>(
    stream: &mut R,
    declared: AppProtocol,
    limits: &Limits,
) -> Result<(Protocol, Bytes), AcceptError> {
    let mut seen = Seen::default();
    let first = timeout(limits.pool_idle, seen.more(stream)).await.map_err(|_elapsed| AcceptError::Slow)?;
    if first.map_err(AcceptError::Broken)? == 0 {
        return Err(AcceptError::Unused);
    }
    let (patience, otherwise) = match declared {
        AppProtocol::Http2 => (limits.detect, Protocol::Tcp),
        _ => (limits.head, Protocol::Http1),
    };
    let told = within(patience, seen.until_decided(stream)).await.map_err(AcceptError::Broken)?;
    let protocol = match (declared, told) {
        // A port that speaks HTTP says so for both versions; what is no preface is the HTTP/1 parser's to judge.
        (_, Some(Protocol::Http2)) => Protocol::Http2,
        (AppProtocol::Http1, _) => Protocol::Http1,
        (_, Some(protocol)) => protocol,
        (_, None) => otherwise,
    };
    Ok((protocol, seen.bytes()))
}

async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<Option<T>> {
    timeout(patience, work).await.map_or(Ok(None), |done| done.map(Some))
}

/// What was read so far.
#[derive(Default)]
struct Seen {
    bytes: BytesMut,
}

impl Seen {
    /// Reads until the bytes decide, or end: then what there is is opaque, and the end is passed on.
    async fn until_decided<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> io::Result<Protocol> {
        loop {
            if let Verdict::Is(protocol) = detect::detect(&self.bytes) {
                return Ok(protocol);
            }
            if self.bytes.len() >= detect::ENOUGH || self.more(stream).await? == 0 {
                return Ok(Protocol::Tcp);
            }
        }
    }

    /// Reads once; 0 is the end.
    async fn more<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> io::Result<usize> {
        poll_fn(|cx| {
            let mut chunk = [0; READ];
            let mut buffer = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            self.bytes.extend_from_slice(buffer.filled());
            std::task::Poll::Ready(Ok(buffer.filled().len()))
        })
        .await
    }

    fn bytes(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}
