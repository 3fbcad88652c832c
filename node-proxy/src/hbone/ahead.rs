//! The socket under a tunnel's TLS, read in larger pieces than TLS asks for.
//!
//! rustls asks for 4 KiB at a time (`READ_SIZE` of its deframer), which makes five system calls of one full record. Where so much has
//! come, what follows is fetched in one call and handed out from memory. It must never hold memory for a peer that sends little.

use std::{
    io::{self, IoSlice, Read},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::coop,
};

/// What is fetched at once: two records.
const AHEAD: usize = 32 << 10;

/// A socket, and what has been fetched from it.
#[derive(Debug)]
pub struct ReadAhead {
    socket: TcpStream,
    /// Empty, or of [`AHEAD`] bytes.
    room: Box<[u8]>,
    /// Where in it what has been fetched begins.
    from: usize,
    /// Where it ends.
    to: usize,
}

impl ReadAhead {
    /// Of which nothing has been read.
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, room: Box::default(), from: 0, to: 0 }
    }

    /// Keeps no room where nothing is in it.
    pub fn rest(&mut self) {
        if self.is_empty() {
            self.room = Box::default();
        }
    }

    /// What has come, whether or not its event was seen.
    pub fn unread(&mut self) -> impl Read + '_ {
        Unread(self)
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    fn fetched(&self) -> &[u8] {
        &self.room[self.from..self.to]
    }

    /// Fetches what there is, where so much came at once that more is to be expected.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = ReadBuf::new(&mut self.room);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut room))?;
        (self.from, self.to) = (0, room.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl AsFd for ReadAhead {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_empty() {
            if self.room.is_empty() {
                ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
                if buffer.remaining() == 0 {
                    self.room = vec![0; AHEAD].into();
                }
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_fetch(cx))?;
        }
        // Counts as a read of the socket: others are to have their turn as often as without this.
        let turn = ready!(coop::poll_proceed(cx));
        turn.made_progress();
        let fetched = self.fetched();
        let taken = fetched.len().min(buffer.remaining());
        buffer.put_slice(&fetched[..taken]);
        self.from += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

struct Unread<'a>(&'a mut ReadAhead);

impl Read for Unread<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Ok(rustix::io::read(&self.0.socket, buffer)?);
        }
        let taken = self.0.fetched().read(buffer)?;
        self.0.from += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn ends() -> (ReadAhead, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (ReadAhead::new(near), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn every_byte_comes_once_and_in_order_however_it_is_asked_for() {
        let (mut near, mut far) = ends().await;
        let sent: Vec<u8> = (0..5 * AHEAD + 17).map(|number| (number % 251) as u8).collect();
        let mut received = Vec::new();
        let receiving = async {
            for asked in [1, 4096, 4096, 5, 40_000, 4096].into_iter().cycle() {
                let mut buffer = vec![0; asked];
                match near.read(&mut buffer).await.unwrap() {
                    0 => return,
                    read => received.extend_from_slice(&buffer[..read]),
                }
            }
        };
        let sending = async {
            far.write_all(&sent).await.unwrap();
            far.shutdown().await.unwrap();
        };
        tokio::join!(sending, receiving);
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    }

    #[tokio::test]
    async fn a_peer_that_sends_little_costs_no_room_and_one_that_sent_much_gives_it_back() {
        let (mut near, mut far) = ends().await;
        far.write_all(&[1; 4095]).await.unwrap();
        let mut buffer = [0; 4096];
        let mut little = 0;
        while little < 4095 {
            little += near.read(&mut buffer).await.unwrap();
        }
        assert_eq!(near.room.len(), 0);
        far.write_all(&[2; AHEAD]).await.unwrap();
        let mut much = 0;
        while much < AHEAD {
            much += near.read(&mut buffer).await.unwrap();
            assert_eq!(near.room.len(), AHEAD, "although {much} bytes came at once");
        }
        near.rest();
        assert_eq!(near.room.len(), 0);
    }

    #[tokio::test]
    async fn what_was_fetched_is_not_given_up_while_it_is_unread() {
        let (mut near, mut far) = ends().await;
        far.write_all(&[3; 4096 + 10]).await.unwrap();
        let mut buffer = [0; 4096];
        let mut whole = 0;
        while whole < 4096 {
            whole += near.read(&mut buffer[whole..]).await.unwrap();
        }
        assert_eq!(near.read(&mut buffer[..1]).await.unwrap(), 1);
        near.rest();
        let mut rest = Vec::new();
        while rest.len() < 9 {
            let read = near.unread().read(&mut buffer);
            rest.extend_from_slice(&buffer[..read.unwrap_or(0)]);
        }
        assert_eq!(rest, [3; 9]);
    }
}
