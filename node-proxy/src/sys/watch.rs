//! A descriptor in the event loop of the thread that uses it: calls that would wait, and are made again when they need not.
//!
//! The descriptor stays open as long as it is watched. The calls must not block themselves.

use std::{
    fmt, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A watched descriptor.
pub struct Watch(AsyncFd<Arc<OwnedFd>>);

impl Watch {
    /// Within the event loop that is to watch it.
    #[expect(unsafe_code, reason = "that the descriptor stays open is for the caller to see to")]
    pub fn new(descriptor: Arc<OwnedFd>) -> io::Result<Self> {
        // SAFETY: the count keeps the descriptor open, and it is the same for ever: nothing here gives out a mutable reference.
        let watched = unsafe { AsyncFd::register(descriptor) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// Makes a call that would wait for something to read. One task at a time.
    pub fn poll_read<R>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            if let Ok(result) = ready.try_io(|watched| call(watched.get_ref().as_fd())) {
                return Poll::Ready(result);
            }
        }
    }

    /// Makes a call that would wait for room to write. One task at a time.
    pub fn poll_write<R>(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(result) = ready.try_io(|watched| call(watched.get_ref().as_fd())) {
                return Poll::Ready(result);
            }
        }
    }

    /// As [`poll_read`](Self::poll_read), for any number of tasks.
    pub async fn read<R>(&self, mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        self.0.async_io(Interest::READABLE, |watched| call(watched.as_fd())).await
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.fd()).finish()
    }
}

#[cfg(test)]
mod tests {
    use rustix::{
        io::Errno,
        net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
    };

    use super::*;

    #[tokio::test]
    async fn a_call_that_would_wait_is_made_again_when_it_need_not() {
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let watch = Watch::new(Arc::new(near)).unwrap();
        let mut calls = 0;
        let reads = watch.read(|fd| {
            calls += 1;
            match recv(fd, &mut [0_u8; 8][..], RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                got => Ok(got?.1),
            }
        });
        let writes = async {
            tokio::task::yield_now().await;
            send(&far, b"here", SendFlags::empty()).unwrap();
        };
        let (read, ()) = tokio::join!(reads, writes);
        assert_eq!((read.unwrap(), calls >= 1), (4, true));
        let mut written = 0;
        let room = || {
            std::future::poll_fn(|cx| {
                watch.poll_write(cx, |fd| Ok(send(fd, &[0; 4096], SendFlags::DONTWAIT)?))
            })
        };
        while let Ok(count) = tokio::time::timeout(std::time::Duration::from_millis(20), room()).await {
            written += count.unwrap();
        }
        assert!(written > 4096, "{written}: until there is no room");
    }
}
