//! Reading the first bytes of a connection, as many as are needed to tell its protocol, but no longer than its deadline.
//!
//! What is read is handed on as a prefix; nothing is consumed. It must never hold a buffer while it waits.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

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
use crate::{
    cell::Limits,
    stream::farewell::{Farewell, Signs},
};

/// One read: enough for most requests' heads, so that the relay need not read again; small enough for the stack.
const READ: usize = 4096;

/// Tells the protocol of a connection of which nothing was declared. Silence is what server-first protocols
/// begin with, so after the deadline it is what it looks like by then; opaque where nothing came.
pub(super) async fn undeclared<R: AsyncRead + Unpin>(
    stream: &mut R,
    limits: &Limits,
) -> Result<(Protocol, Bytes), AcceptError> {
    let mut seen = Seen::new(limits, || false);
    match timeout(limits.detect, seen.until_decided(stream)).await {
        Ok(protocol) => Ok((protocol.map_err(AcceptError::Broken)?, seen.bytes())),
        Err(_elapsed) => Ok((detect::settle(&seen.bytes), seen.bytes())),
    }
}

/// Tells the version of a connection that was declared as HTTP. The client speaks first there, so its first byte is
/// waited for as long as a connection may lie idle in a pool, but not where all connections are to end; from then on a head's time
/// runs, or what is left of it where nothing more comes and all are to end.
pub(super) async fn http<R: AsyncRead + Unpin>(
    stream: &mut R,
    declared: AppProtocol,
    limits: &Limits,
    is_to_end: impl Fn() -> bool,
) -> Result<(Protocol, Bytes), AcceptError> {
    let mut seen = Seen::new(limits, is_to_end);
    match timeout(limits.pool_idle, seen.more(stream)).await {
        Ok(Some(Ok(1..))) => {}
        Ok(Some(Ok(0)) | None) => return Err(AcceptError::Unused),
        Ok(Some(Err(error))) => return Err(AcceptError::Broken(error)),
        Err(_elapsed) => return Err(AcceptError::Slow),
    }
    let patience = if declared == AppProtocol::Http2 { limits.detect } else { limits.head };
    let told = match timeout(patience, seen.until_decided(stream)).await {
        Ok(told) => told.map_err(AcceptError::Broken)?,
        Err(_elapsed) => detect::settle(&seen.bytes),
    };
    let protocol = match (declared, told) {
        // A port that speaks HTTP says so for both versions; what is no preface is the HTTP/1 parser's to judge.
        (AppProtocol::Http1, Protocol::Tcp) => Protocol::Http1,
        (_, told) => told,
    };
    Ok((protocol, seen.bytes()))
}

/// What was read so far.
struct Seen<'a, IsToEnd> {
    bytes: BytesMut,
    limits: &'a Limits,
    is_to_end: IsToEnd,
    farewell: Option<Farewell>,
}

impl<'a, IsToEnd: Fn() -> bool> Seen<'a, IsToEnd> {
    fn new(limits: &'a Limits, is_to_end: IsToEnd) -> Self {
        Self { bytes: BytesMut::new(), limits, is_to_end, farewell: None }
    }

    /// Reads until the bytes decide, or end, or stand still where all is to end: then they are what they look like.
    async fn until_decided<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> io::Result<Protocol> {
        loop {
            if let Verdict::Is(protocol) = detect::detect(&self.bytes) {
                return Ok(protocol);
            }
            let is_over = self.bytes.len() >= detect::ENOUGH
                || self.more(stream).await.transpose()?.is_none_or(|read| read == 0);
            if is_over {
                return Ok(detect::settle(&self.bytes));
            }
        }
    }

    /// Reads once; 0 is the end. `None` where all is to end, and nothing has come for as long as a silent client is waited for: a
    /// client that connected a moment before may have a request on its way.
    async fn more<R: AsyncRead + Unpin>(&mut self, stream: &mut R) -> Option<io::Result<usize>> {
        poll_fn(|cx| self.poll_more(stream, cx)).await
    }

    fn poll_more<R: AsyncRead + Unpin>(
        &mut self,
        stream: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<usize>>> {
        let mut chunk = [0; READ];
        let mut buffer = ReadBuf::new(&mut chunk);
        if let Poll::Ready(read) = Pin::new(stream).poll_read(cx, &mut buffer) {
            self.farewell = None;
            self.bytes.extend_from_slice(buffer.filled());
            return Poll::Ready(Some(read.map(|()| buffer.filled().len())));
        }
        if !(self.is_to_end)() {
            return Poll::Pending;
        }
        let signs = Signs { busy: false, heard: 0 };
        let begin = || Farewell::begin(self.limits.patience(), signs);
        self.farewell.get_or_insert_with(begin).poll(signs, cx).map(|()| None)
    }

    fn bytes(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt, duplex},
        time::{Duration, Instant, sleep},
    };

    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// What a client sends, in pieces, and whether it then closes, against what is made of it.
    struct Scenario {
        name: &'static str,
        declared: AppProtocol,
        pieces: &'static [&'static [u8]],
        closes: bool,
        is: Option<Protocol>,
    }

    const SCENARIOS: &[Scenario] = &[
        Scenario {
            name: "silence on an undeclared port",
            declared: AppProtocol::Undeclared,
            pieces: &[],
            closes: false,
            is: Some(Protocol::Tcp),
        },
        Scenario {
            name: "an undeclared port closed unused passes the end on",
            declared: AppProtocol::Undeclared,
            pieces: &[],
            closes: true,
            is: Some(Protocol::Tcp),
        },
        Scenario {
            name: "a request on an undeclared port",
            declared: AppProtocol::Undeclared,
            pieces: &[b"GET /cart HTTP/1.1\r\n"],
            closes: false,
            is: Some(Protocol::Http1),
        },
        Scenario {
            name: "a preface in two pieces on an undeclared port",
            declared: AppProtocol::Undeclared,
            pieces: &[b"PRI * HT", b"TP/2.0\r\n\r\nSM\r\n\r\n"],
            closes: false,
            is: Some(Protocol::Http2),
        },
        Scenario {
            name: "garbage on an undeclared port",
            declared: AppProtocol::Undeclared,
            pieces: &[&[0xff, 0, 0x16, 3]],
            closes: false,
            is: Some(Protocol::Tcp),
        },
        Scenario {
            name: "half a preface and no more, on an http port, is for the HTTP/1 parser to refuse",
            declared: AppProtocol::Http1,
            pieces: &[b"PRI * "],
            closes: true,
            is: Some(Protocol::Http1),
        },
        Scenario {
            name: "a preface on an http port",
            declared: AppProtocol::Http1,
            pieces: &[PREFACE],
            closes: false,
            is: Some(Protocol::Http2),
        },
        Scenario {
            name: "garbage on an http port is for the HTTP/1 parser to refuse",
            declared: AppProtocol::Http1,
            pieces: &[&[0xff; 64]],
            closes: false,
            is: Some(Protocol::Http1),
        },
        Scenario {
            name: "an HTTP/1 request on an h2c port",
            declared: AppProtocol::Http2,
            pieces: &[b"GET / HTTP/1.1\r\n"],
            closes: false,
            is: Some(Protocol::Http1),
        },
        Scenario {
            name: "garbage on an h2c port",
            declared: AppProtocol::Http2,
            pieces: &[&[0xff; 64]],
            closes: false,
            is: Some(Protocol::Tcp),
        },
        Scenario {
            name: "an http port closed unused",
            declared: AppProtocol::Http1,
            pieces: &[],
            closes: true,
            is: None,
        },
    ];

    #[tokio::test(start_paused = true)]
    async fn first_bytes_are_read_for_what_was_declared_and_none_is_lost() {
        for scenario in SCENARIOS {
            let (mut client, mut server) = duplex(8192);
            let send = async {
                for piece in scenario.pieces {
                    client.write_all(piece).await.unwrap();
                    sleep(Duration::from_millis(1)).await;
                }
                if scenario.closes {
                    client.shutdown().await.unwrap();
                }
            };
            let limits = Limits::default();
            let read = async {
                match scenario.declared {
                    AppProtocol::Undeclared => undeclared(&mut server, &limits).await,
                    declared => http(&mut server, declared, &limits, || false).await,
                }
            };
            let ((), read) = tokio::join!(send, read);
            let Some(is) = scenario.is else {
                assert!(matches!(read, Err(AcceptError::Unused)), "{}", scenario.name);
                continue;
            };
            let (protocol, prefix) = read.unwrap();
            assert_eq!(protocol, is, "{}", scenario.name);
            assert!(scenario.pieces.concat().starts_with(&prefix), "{}", scenario.name);
            if !scenario.closes && protocol != Protocol::Tcp {
                assert_eq!(prefix, scenario.pieces.concat(), "{}", scenario.name);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_on_an_http_port_ends_after_the_pools_idle_time() {
        let limits = Limits::default();
        let (_client, mut server) = duplex(16);
        let begun = Instant::now();
        let end = http(&mut server, AppProtocol::Http1, &limits, || false).await;
        assert!(matches!(end, Err(AcceptError::Slow)));
        assert_eq!(begun.elapsed(), limits.pool_idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_connection_without_a_byte_ends_soon_where_all_are_to_end_but_not_at_once() {
        let limits = Limits::default();
        let (_client, mut server) = duplex(16);
        let begun = Instant::now();
        let end = http(&mut server, AppProtocol::Http1, &limits, || true).await;
        assert!(matches!(end, Err(AcceptError::Unused)));
        assert_eq!(begun.elapsed(), limits.farewell);

        let (mut client, mut server) = duplex(64);
        let late = async {
            sleep(limits.farewell / 2).await;
            client.write_all(b"GET / HTTP/1.1\r\nhost: shop\r\n").await.unwrap();
        };
        let ((), read) = tokio::join!(late, http(&mut server, AppProtocol::Http1, &limits, || true));
        assert_eq!(read.unwrap().0, Protocol::Http1, "its request was on its way");
    }

    #[tokio::test(start_paused = true)]
    async fn a_beginning_that_stands_still_is_taken_for_what_it_looks_like_soon_where_all_are_to_end() {
        let limits = Limits::default();
        let a_while = limits.farewell * 3 / 4;
        for (pieces, is, after) in [
            (&[b"PRI * ".as_slice()][..], Protocol::Http1, limits.farewell),
            (&[&PREFACE[..6], &PREFACE[6..12], &PREFACE[12..]], Protocol::Http2, a_while * 2),
        ] {
            let (mut client, mut server) = duplex(64);
            let begun = Instant::now();
            let send = async {
                for piece in pieces {
                    client.write_all(piece).await.unwrap();
                    sleep(a_while).await;
                }
            };
            let read = async {
                let read = http(&mut server, AppProtocol::Http1, &limits, || true).await;
                (read.unwrap().0, begun.elapsed())
            };
            assert_eq!(tokio::join!(send, read).1, (is, after));
        }
    }
}
