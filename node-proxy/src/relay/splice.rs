//! Bulk from one socket to another without copying: the kernel moves its pages through a pipe.
//!
//! A pipe costs two descriptors, so a cell has few, and a connection holds one only while bytes are in it. It must never be
//! filled before it is empty: of a full pipe and of an empty socket the kernel says the same. Nor may it say of a source that it
//! has finished, or has nothing: at a byte that its peer called urgent the kernel splices no further, and says either; only
//! reading goes on behind it.
//!
//! Peers that do not read must not keep pipes from those that do: in the last one that can be had nothing stays, but is copied
//! out of it.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream, time::Instant};

/// Most bytes moved at a time, and so the most that a peer that stops reading leaves in the pipe.
pub(super) const BYTES: usize = 256 * 1024;
/// What a pipe has room for: so many pages, of each of which any part may be in it. `BYTES` fit where they are whole ones.
const ROOM: usize = BYTES;
/// Pipes of one cell at a time. Their descriptors are of the third that cells' connections leave
/// (`cell.rs`).
const PIPES: usize = 8;
/// How long none is made after one could not be.
const PAUSE: Duration = Duration::from_secs(1);
/// Pipes kept for the next.
const KEPT: usize = 2;
/// Errors that say nothing of the connection: there is nothing now, or this kernel does not splice here.
const NOT_THIS_WAY: [Errno; 5] = [Errno::AGAIN, Errno::INVAL, Errno::NOSYS, Errno::PERM, Errno::NOMEM];

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { made: 0, free: Vec::new(), not_before: None }) };
}

struct Pool {
    made: usize,
    free: Vec<Ends>,
    /// After one could not be made.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe of this cell's, with the bytes that are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty one; `None` where the cell's are all in use, or the process has no descriptors left.
    pub(super) fn take() -> Option<Self> {
        POOL.with_borrow_mut(|pool| {
            let ends = match pool.free.pop() {
                Some(ends) => ends,
                None if pool.is_exhausted() => return None,
                None => pool.make()?,
            };
            Some(Self { ends: Some(ends), held: 0 })
        })
    }

    /// Whether nobody else would find one now.
    pub(super) fn is_last() -> bool {
        POOL.with_borrow(|pool| pool.free.is_empty() && pool.is_exhausted())
    }

    /// Bytes that are in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Fills it from `source`, once, with `most` bytes at most. 0 where nothing comes this way: what that means is for a read to say.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0, "filled before it was empty");
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        ready!(source.poll_read_ready(cx))?;
        // Not by `try_io`: the readiness stays, so that the read that follows is made.
        self.held = match pass(source, &ends.write, most) {
            Err(error) if NOT_THIS_WAY.contains(&error) => 0,
            // The kernel says it once: a read would take it for the end.
            filled => filled?,
        };
        Poll::Ready(Ok(self.held))
    }

    /// Empties it into `sink`; `count` is told what the sink takes. Ready when nothing is left.
    pub(super) fn poll_empty(
        &mut self,
        cx: &mut Context<'_>,
        sink: &TcpStream,
        count: &mut impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(())) };
        while self.held > 0 {
            ready!(sink.poll_write_ready(cx))?;
            match sink.try_io(Interest::WRITABLE, || Ok(pass(&ends.read, sink, self.held)?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => {
                    let taken = taken?;
                    self.held -= taken;
                    count(taken);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Empties it by copying what is in it.
    pub(super) fn copy_out(&mut self) -> io::Result<Bytes> {
        let Some(ends) = &self.ends else { return Ok(Bytes::new()) };
        let mut bytes = vec![0; self.held];
        while self.held > 0 {
            let at = bytes.len() - self.held;
            match rustix::io::read(&ends.read, &mut bytes[at..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.held -= read,
            }
        }
        Ok(bytes.into())
    }
}

/// One with bytes in it is of no use to others.
impl Drop for Pipe {
    fn drop(&mut self) {
        let (ends, is_empty) = (self.ends.take(), self.held == 0);
        // A thread that ends has no pool any more.
        let _ = POOL.try_with(|pool| {
            let pool = &mut *pool.borrow_mut();
            match ends {
                Some(ends) if is_empty && pool.free.len() < KEPT => pool.free.push(ends),
                _ => pool.made -= 1,
            }
        });
    }
}

impl Pool {
    /// Whether no further one is to be made now.
    fn is_exhausted(&self) -> bool {
        self.made >= PIPES || self.not_before.is_some_and(|at| Instant::now() < at)
    }

    /// Makes one. Where that cannot be, whoever asks next need not try.
    fn make(&mut self) -> Option<Ends> {
        match Ends::make() {
            Ok(ends) => {
                self.made += 1;
                Some(ends)
            }
            Err(error) => {
                tracing::debug!(%error, "no pipe can be made: bulk is copied");
                self.not_before = Some(Instant::now() + PAUSE);
                None
            }
        }
    }
}

impl Ends {
    fn make() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&write, ROOM)?;
        Ok(Self { read, write })
    }
}

fn pass(from: impl AsFd, to: impl AsFd, most: usize) -> Result<usize, Errno> {
    splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
}

/// How many pipes the cell of this thread has, and how many of them nobody uses.
#[cfg(test)]
pub(crate) fn pipes() -> (usize, usize) {
    POOL.with_borrow(|pool| (pool.made, pool.free.len()))
}

/// Takes all that the cell of this thread can have, until what is returned is dropped.
#[cfg(test)]
pub(crate) fn take_all() -> impl Sized {
    std::iter::from_fn(Pipe::take).collect::<Vec<_>>()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn pipes_are_few_and_come_back() {
        for _ in 0..2 {
            let taken: Vec<Pipe> = std::iter::from_fn(Pipe::take).collect();
            assert_eq!((taken.len(), pipes()), (PIPES, (PIPES, 0)));
            drop(taken);
            assert_eq!(pipes(), (KEPT, KEPT));
        }
    }

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    async fn fill(pipe: &mut Pipe, source: &TcpStream) -> usize {
        poll_fn(|cx| pipe.poll_fill(cx, source, BYTES)).await.unwrap()
    }

    #[tokio::test]
    async fn a_pipe_that_is_given_up_with_bytes_in_it_is_nobody_elses() {
        let (mut client, source) = connected().await;
        client.write_all(b"secret").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!((fill(&mut pipe, &source).await, pipe.held), (6, 6));
        drop(pipe);
        assert_eq!(pipes(), (0, 0));
    }

    #[tokio::test]
    async fn what_is_copied_out_of_a_pipe_is_all_of_it_and_leaves_it_to_others() {
        let (mut client, source) = connected().await;
        client.write_all(b"not taken").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert!(!Pipe::is_last(), "others can be made");
        assert_eq!(fill(&mut pipe, &source).await, 9);
        assert_eq!((&pipe.copy_out().unwrap()[..], pipe.held()), (&b"not taken"[..], 0));
        drop(pipe);
        assert_eq!(pipes(), (1, 1));
        let all = take_all();
        assert!(Pipe::is_last());
        drop(all);
    }

    #[tokio::test]
    async fn at_an_urgent_byte_nothing_comes_through_and_a_read_goes_on_behind_it() {
        let (mut client, mut source) = connected().await;
        client.write_all(b"before").await.unwrap();
        assert_eq!(socket2::SockRef::from(&client).send_out_of_band(b"!").unwrap(), 1);
        client.write_all(b"behind").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut pipe, mut sink) = (Pipe::take().unwrap(), connected().await);
        assert_eq!(fill(&mut pipe, &source).await, 6);
        let mut taken = 0;
        poll_fn(|cx| pipe.poll_empty(cx, &sink.0, &mut |bytes| taken += bytes)).await.unwrap();
        assert_eq!(taken, 6);
        let mut come = [0; 6];
        sink.1.read_exact(&mut come).await.unwrap();
        assert_eq!(&come, b"before");
        assert_eq!(fill(&mut pipe, &source).await, 0, "which is not the end");
        let mut rest = Vec::new();
        source.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"behind");
    }

    #[tokio::test]
    async fn a_reset_is_an_error_and_not_nothing() {
        let (client, source) = connected().await;
        crate::sys::socket::reset(&client);
        drop(client);
        let mut pipe = Pipe::take().unwrap();
        let reset = poll_fn(|cx| pipe.poll_fill(cx, &source, BYTES)).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    }
}
