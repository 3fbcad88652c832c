//! Bulk from one socket to another without copying: the kernel moves its pages through a pipe.
//!
//! A pipe costs two descriptors, so a cell has few, and a connection holds one only while bytes are in it. It must never be
//! filled before it is empty: of a full pipe and of an empty socket the kernel says the same.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    task::{Context, Poll, ready},
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

/// Most bytes moved at a time, and so the most that a peer that stops reading leaves in the pipe.
pub(super) const BYTES: usize = 256 * 1024;
/// Pages that a pipe may hold, in bytes: of 4 KiB each where the sender's are, so that `BYTES` fit.
const ROOM: usize = BYTES;
/// Pipes of one cell at a time. Who finds none copies. Their descriptors are of the third that cells' connections leave
/// (`cell.rs`).
const PIPES: usize = 8;
/// Pipes kept for the next.
const KEPT: usize = 2;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { made: 0, free: Vec::new() }) };
}

struct Pool {
    made: usize,
    free: Vec<Ends>,
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
                None if pool.made >= PIPES => return None,
                None => {
                    let ends = Ends::make().ok()?;
                    pool.made += 1;
                    ends
                }
            };
            Some(Self { ends: Some(ends), held: 0 })
        })
    }

    /// Bytes that are in it.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Fills it from `source`, once. 0 when the source has finished.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, source: &TcpStream) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.held, 0, "filled before it was empty");
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(source.poll_read_ready(cx))?;
            match source.try_io(Interest::READABLE, || pass(source, &ends.write, BYTES)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => {
                    let filled = filled?;
                    self.held = filled;
                    return Poll::Ready(Ok(filled));
                }
            }
        }
    }

    /// Empties it into `sink`, once. Gives what the sink took.
    pub(super) fn poll_empty(&mut self, cx: &mut Context<'_>, sink: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(sink.poll_write_ready(cx))?;
            match sink.try_io(Interest::WRITABLE, || pass(&ends.read, sink, self.held)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => {
                    let taken = taken?;
                    self.held -= taken;
                    return Poll::Ready(Ok(taken));
                }
            }
        }
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

impl Ends {
    fn make() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&write, ROOM)?;
        Ok(Self { read, write })
    }
}

fn pass(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
}

/// How many pipes the cell of this thread has, and how many of them nobody uses.
#[cfg(test)]
pub(crate) fn pipes() -> (usize, usize) {
    POOL.with_borrow(|pool| (pool.made, pool.free.len()))
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
    async fn a_pipe_that_is_given_up_with_bytes_in_it_is_nobody_elses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (source, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut client, b"secret").await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(std::future::poll_fn(|cx| pipe.poll_fill(cx, &source)).await.unwrap(), 6);
        assert_eq!(pipe.held(), 6);
        drop(pipe);
        assert_eq!(pipes(), (0, 0));
    }
}
