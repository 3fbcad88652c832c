//! What a connection does, and whether it does anything: one that is idle, or takes nothing of what it is sent, is ended.
//!
//! It must never end one that reads, however slowly, as long as a little comes through.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Streams that are open.
    streams: AtomicUsize,
    /// Those of them whose response is not on its way yet.
    sending: AtomicUsize,
    /// Bytes that the other end's kernel took.
    written: AtomicU64,
}

/// A stream of a connection that is open: as long as there is one, the connection is not idle.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<Activity>);

impl OpenStream {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        activity.stream_opened();
        Self(activity)
    }

    /// Of its connection.
    pub(super) fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.stream_closed();
    }
}

impl Activity {
    fn stream_opened(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    fn stream_closed(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    /// A stream has, or has no longer, a response that waits for the other end.
    pub(super) fn sending(&self, is_sending: bool) {
        if is_sending {
            self.sending.fetch_add(1, Relaxed);
        } else {
            self.sending.fetch_sub(1, Relaxed);
        }
    }
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has had no stream for a while.
    Idle,
    /// It does not take what it is sent.
    Stalled,
    /// Who is at its other end has to be proven anew.
    Aged,
}

/// Looks at a connection from time to time.
#[derive(Debug)]
pub(super) struct Watch {
    activity: Arc<Activity>,
    until: Option<Instant>,
    idle_since: Instant,
    written: u64,
    moved_at: Instant,
}

impl Watch {
    /// From its beginning on, until it is of age.
    pub(super) fn new(activity: Arc<Activity>, now: Instant, until: Option<Instant>) -> Self {
        Self { activity, until, idle_since: now, written: 0, moved_at: now }
    }

    /// Whether it is to be ended, and why.
    pub(super) fn look(&mut self, now: Instant) -> Option<Verdict> {
        if self.activity.streams.load(Relaxed) > 0 {
            self.idle_since = now;
        }
        let written = self.activity.written.load(Relaxed);
        if self.activity.sending.load(Relaxed) == 0 || written - self.written >= LEAST {
            (self.written, self.moved_at) = (written, now);
        }
        if self.until.is_some_and(|until| now >= until) {
            return Some(Verdict::Aged);
        }
        if now - self.idle_since >= IDLE {
            return Some(Verdict::Idle);
        }
        (now - self.moved_at >= STALL).then_some(Verdict::Stalled)
    }
}

/// A connection's bytes, of which those that go out are counted.
#[derive(Debug)]
pub(super) struct Counted<T> {
    /// The connection.
    pub(super) io: T,
    /// Where they are counted.
    pub(super) activity: Arc<Activity>,
}

impl<T> Counted<T> {
    fn count(&self, written: usize) -> usize {
        self.activity.written.fetch_add(u64::try_from(written).unwrap_or(u64::MAX), Relaxed);
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// How long a connection may be without a stream: also how long it may take to begin one.
const IDLE: Duration = Duration::from_secs(30);
/// How long a response may wait while next to nothing is taken.
const STALL: Duration = Duration::from_secs(60);
/// Bytes that are more than next to nothing: than the questions whether it is still there.
const LEAST: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn a_connection_without_a_stream_ends_after_a_while_and_one_with_a_stream_does_not() {
        let (activity, begin) = (Arc::<Activity>::default(), Instant::now());
        let mut watch = Watch::new(Arc::clone(&activity), begin, None);
        assert_eq!(watch.look(seconds(begin, 29)), None);
        assert_eq!(watch.look(seconds(begin, 30)), Some(Verdict::Idle));
        activity.stream_opened();
        assert_eq!(watch.look(seconds(begin, 10_000)), None);
        activity.stream_closed();
        assert_eq!(watch.look(seconds(begin, 10_029)), None, "it may begin another");
        assert_eq!(watch.look(seconds(begin, 10_030)), Some(Verdict::Idle));
    }

    #[test]
    fn who_takes_nothing_of_a_response_is_ended_and_who_takes_little_is_not() {
        let (activity, begin) = (Arc::<Activity>::default(), Instant::now());
        let mut watch = Watch::new(Arc::clone(&activity), begin, None);
        activity.stream_opened();
        assert_eq!(watch.look(seconds(begin, 1000)), None, "nothing is to be sent");
        activity.sending(true);
        for minute in 1..10 {
            activity.written.fetch_add(LEAST, Relaxed);
            assert_eq!(watch.look(seconds(begin, 1000 + 59 * minute)), None, "slowly");
        }
        let begin = seconds(begin, 1000 + 59 * 9);
        activity.written.fetch_add(17, Relaxed);
        assert_eq!(watch.look(seconds(begin, 59)), None);
        assert_eq!(watch.look(seconds(begin, 60)), Some(Verdict::Stalled), "a ping is no progress");
        activity.sending(false);
        assert_eq!(watch.look(seconds(begin, 61)), None);
    }

    #[test]
    fn who_has_to_prove_anew_who_it_is_is_ended_then() {
        let (activity, begin) = (Arc::<Activity>::default(), Instant::now());
        let mut watch = Watch::new(Arc::clone(&activity), begin, Some(seconds(begin, 100)));
        activity.stream_opened();
        assert_eq!(watch.look(seconds(begin, 99)), None);
        assert_eq!(watch.look(seconds(begin, 100)), Some(Verdict::Aged));
    }
}
