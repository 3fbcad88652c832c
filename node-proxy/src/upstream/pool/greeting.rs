//! Whether an endpoint ever spoke HTTP/2: its first frame has to be SETTINGS (RFC 9113, 3.4).
//!
//! One that speaks something else answers a client's preface with words of its own, or with none: by what comes, or does not,
//! that is told from a connection that broke. It must never change a byte, nor look at any after the first few.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Outflow;

/// What is known of an endpoint's first frame; shared by the connection and the stream below it.
#[derive(Debug, Clone, Default)]
pub(super) struct Greeting(Rc<Cell<Heard>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Heard {
    /// So many bytes of a frame's head, none of which says yet what it is.
    #[default]
    Nothing,
    One,
    Two,
    Three,
    /// The head of SETTINGS.
    Settings,
    /// Of something else.
    Other,
}

impl Greeting {
    /// Whether the endpoint began as HTTP/2 begins.
    pub(super) fn is_http2(&self) -> bool {
        self.0.get() == Heard::Settings
    }

    fn hear(&self, bytes: &[u8]) {
        for byte in bytes {
            let heard = match self.0.get() {
                Heard::Nothing => Heard::One,
                Heard::One => Heard::Two,
                Heard::Two => Heard::Three,
                Heard::Three if *byte == SETTINGS => Heard::Settings,
                Heard::Three => Heard::Other,
                Heard::Settings | Heard::Other => return,
            };
            self.0.set(heard);
        }
    }
}

/// A stream whose first bytes are heard, and of which it is noted whether it takes what is written.
#[derive(Debug)]
pub(super) struct Greeted<IO> {
    pub(super) io: IO,
    pub(super) greeting: Greeting,
    pub(super) outflow: Rc<Outflow>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Greeted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        self.greeting.hear(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Greeted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.outflow.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.outflow.note(written)
    }
}

/// The type of the SETTINGS frame, the fourth byte of a frame's head (RFC 9113, 4.1 and 6.5).
const SETTINGS: u8 = 4;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Otherwise HTTP/2 copies a frame's head and what is in it together before it writes.
    #[tokio::test]
    async fn pieces_are_written_in_one_call_where_the_stream_below_can() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut endpoint, _) = listener.accept().await.unwrap();
        let mut greeted = Greeted { io, greeting: Greeting::default(), outflow: Rc::default() };
        assert!(greeted.is_write_vectored());
        let pieces = [io::IoSlice::new(b"a frame's head "), io::IoSlice::new(b"and what is in it")];
        let whole = "a frame's head and what is in it";
        assert_eq!(greeted.write_vectored(&pieces).await.unwrap(), whole.len());
        let mut come = vec![0; whole.len()];
        endpoint.read_exact(&mut come).await.unwrap();
        assert_eq!(come, whole.as_bytes());
    }

    #[test]
    fn settings_are_known_by_their_head_however_it_is_cut() {
        let head = [0, 0, 18, 4, 0, 0, 0, 0, 0];
        for cut in 0..head.len() {
            let greeting = Greeting::default();
            greeting.hear(&head[..cut]);
            assert_eq!(greeting.is_http2(), cut > 3, "{cut} bytes");
            greeting.hear(&head[cut..]);
            assert!(greeting.is_http2(), "cut after {cut}");
        }
    }

    #[test]
    fn an_http1_answer_is_none_and_stays_none() {
        let greeting = Greeting::default();
        greeting.hear(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        greeting.hear(&[4; 16]);
        assert!(!greeting.is_http2());
    }
}
