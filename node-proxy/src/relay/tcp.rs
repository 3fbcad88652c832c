//! Opaque bytes both ways between a client and an endpoint, until both have finished or one breaks off.
//!
//! One scratch buffer per thread serves every connection; a connection owns a buffer only for what its peer would not take
//! yet, and is not read from meanwhile. So idle connections hold no buffers, and a peer that stops reading stops the other.
//! Bulk between two sockets is not copied at all (`splice.rs`), bulk of a tunnel not here (`lend.rs`). It must never hold more than
//! `splice::BYTES` per direction.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::{
    cell::Live,
    relay::{
        lend,
        splice::{self, Pipe},
    },
    stream::{Stream, told},
    telemetry::Reason,
    tenancy::Ledger,
};

/// Most bytes read at a time: fewer system calls for bulk, while the scratch buffer stays in a core's own cache.
const SCRATCH: u32 = 128 * 1024;
/// Bytes read at a time by a connection that has not shown to need more: bounds what a peer that stops reading costs.
const FIRST: u32 = 16 * 1024;
/// Bytes that came through a pipe at a time, below which copying takes fewer steps: small messages, or pages of which little is used.
const LITTLE: usize = 32 * 1024;
/// Bytes after which a direction lets other connections of the cell run.
const TURN: usize = 1024 * 1024;
/// How often per idle time-out it is looked whether bytes moved, so that moving bytes need not touch a timer.
const LOOKS: u32 = 4;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH as usize].into_boxed_slice());
}

/// The two ends, with what was read from each already.
#[derive(Debug)]
pub struct Ends {
    /// Towards the caller.
    pub client: Stream,
    /// Read from the client, to be sent upstream first.
    pub from_client: Bytes,
    /// Towards the endpoint.
    pub upstream: Stream,
    /// Read from upstream, to be sent to the client first.
    pub from_upstream: Bytes,
}

/// Where bytes are counted while they flow.
#[derive(Debug, Clone, Copy)]
pub struct Meter<'a> {
    /// The cell's.
    pub ledger: &'a Ledger,
    /// The connection's.
    pub live: &'a Live,
}

/// Why a relay ended before both ends had finished.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The client broke off.
    #[error("the client broke the connection off")]
    Client(#[source] io::Error),
    /// The endpoint broke off.
    #[error("the endpoint broke the connection off")]
    Upstream(#[source] io::Error),
    /// Nothing moved for too long.
    #[error("no byte moved for {0:?}")]
    Idle(Duration),
}

impl RelayError {
    /// The reason in log and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Client(error) => told(error).unwrap_or(Reason::ClientClosed),
            Self::Upstream(error) => told(error).unwrap_or(Reason::UpstreamReset),
            Self::Idle(_) => Reason::IdleTimeout,
        }
    }
}

/// Relays until both ends have finished. A break on one side is passed on to the other as a reset.
///
/// Dropping the future resets both: what was cut short must not look complete.
pub async fn relay(ends: Ends, meter: Meter<'_>, idle: Option<Duration>) -> Result<(), RelayError> {
    let mut cut = Cut { ends, live: meter.live, short: true };
    let result = both_ways(&mut cut.ends, meter, idle).await;
    cut.short = result.is_err();
    result
}

/// Resets both ends when dropped, unless they have finished. Where the connection was ended from outside, the client's end is
/// told why.
struct Cut<'a> {
    ends: Ends,
    live: &'a Live,
    short: bool,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if self.short {
            match self.live.ended() {
                Some(reason) => self.ends.client.refuse(reason),
                None => self.ends.client.reset(),
            }
            self.ends.upstream.reset();
        }
    }
}

async fn both_ways(ends: &mut Ends, meter: Meter<'_>, idle: Option<Duration>) -> Result<(), RelayError> {
    let Ends { client, from_client, upstream, from_upstream } = ends;
    let mut request = Pump::new(from_client.split_off(0));
    let mut response = Pump::new(from_upstream.split_off(0));
    let mut watch = idle.map(Watch::new);
    let count = |received: usize, sent: usize| meter.count(received as u64, sent as u64);
    poll_fn(|cx| {
        // Captured whole: each of its fields would take room in every connection.
        let meter: Meter<'_> = meter;
        let ledger = meter.ledger;
        let mut ends = Way { source: client, sink: upstream, ledger };
        let there = request.poll(cx, &mut ends, |bytes| count(bytes, 0)).map_err(|broken| match broken {
            Broken::Source(error) => RelayError::Client(error),
            Broken::Sink(error) => RelayError::Upstream(error),
        })?;
        let mut ends = Way { source: upstream, sink: client, ledger };
        let back = response.poll(cx, &mut ends, |bytes| count(0, bytes)).map_err(|broken| match broken {
            Broken::Source(error) => RelayError::Upstream(error),
            Broken::Sink(error) => RelayError::Client(error),
        })?;
        if there.is_ready() && back.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if let Some(watch) = &mut watch {
            let moved = meter.live.received.get() + meter.live.sent.get();
            return watch.poll(cx, moved).map(|after| Err(RelayError::Idle(after)));
        }
        Poll::Pending
    })
    .await
}

impl Meter<'_> {
    fn count(self, received: u64, sent: u64) {
        self.ledger.carried(received, sent);
        self.live.received.set(self.live.received.get() + received);
        self.live.sent.set(self.live.sent.get() + sent);
        if sent > 0 && self.live.first_byte_after.get().is_none() {
            self.live.first_byte_after.set(Some(self.live.since.elapsed()));
        }
    }
}

/// Which end of a direction failed.
enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

/// The ends of one direction, lent to it for one poll: each end belongs to both directions.
struct Way<'a, 'cell> {
    source: &'a mut Stream,
    sink: &'a mut Stream,
    ledger: &'cell Ledger,
}

impl Way<'_, '_> {
    fn are_sockets(&self) -> bool {
        self.source.tcp().is_some() && self.sink.tcp().is_some()
    }
}

/// A pipe whose sink would not take all that is in it; counted as long as it has something.
struct Standing<'cell> {
    pipe: Pipe,
    counted: usize,
    ledger: &'cell Ledger,
}

impl<'cell> Standing<'cell> {
    fn new(pipe: Pipe, ledger: &'cell Ledger) -> Self {
        let counted = pipe.held();
        ledger.piped(0, counted);
        Self { pipe, counted, ledger }
    }

    fn count(&mut self, now: usize) {
        self.ledger.piped(std::mem::replace(&mut self.counted, now), now);
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.count(0);
    }
}

/// One direction.
struct Pump<'cell> {
    /// What the sink would not take yet.
    pending: Bytes,
    /// The same, of bulk: boxed, since few have it.
    spliced: Option<Box<Standing<'cell>>>,
    /// Bytes to read next time. As small as it can be: every connection has two.
    appetite: u32,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// The source has finished; the sink has still to be told.
    Finishing,
    Finished,
}

impl<'cell> Pump<'cell> {
    fn new(pending: Bytes) -> Self {
        Self { pending, spliced: None, appetite: FIRST, state: State::Open }
    }

    /// Moves what can be moved. Ready when the source has finished and the sink knows.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        way: &mut Way<'_, 'cell>,
        mut count: impl FnMut(usize),
    ) -> Poll<Result<(), Broken>> {
        let mut turn = 0;
        loop {
            while !self.pending.is_empty() {
                let written = Pin::new(&mut *way.sink).poll_write(cx, &self.pending);
                let written = ready!(written).map_err(Broken::Sink)?;
                self.pending.advance(written);
                count(written);
            }
            ready!(self.pour(cx, way, &mut count))?;
            match self.state {
                State::Finished => return Poll::Ready(Ok(())),
                State::Finishing => self.finish(cx, way)?,
                State::Open if turn >= TURN => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Open => turn += ready!(self.step(cx, way, &mut count))?,
            }
        }
    }

    /// Empties the pipe, if there is one with bytes in it. An empty one is given back: who waits for more holds none.
    fn pour(
        &mut self,
        cx: &mut Context<'_>,
        way: &Way<'_, 'cell>,
        count: &mut impl FnMut(usize),
    ) -> Poll<Result<(), Broken>> {
        let (Some(standing), Some(sink)) = (&mut self.spliced, way.sink.tcp()) else {
            return Poll::Ready(Ok(()));
        };
        let emptied = standing.pipe.poll_empty(cx, sink, count);
        standing.count(standing.pipe.held());
        ready!(emptied).map_err(Broken::Sink)?;
        self.spliced = None;
        Poll::Ready(Ok(()))
    }

    /// As `step`, without copying. `None` where that moves nothing: then it is for a read.
    fn splice(
        &mut self,
        cx: &mut Context<'_>,
        (way, mut pipe): (&Way<'_, 'cell>, Pipe),
        count: &mut impl FnMut(usize),
    ) -> Option<Poll<Result<usize, Broken>>> {
        let (source, sink) = (way.source.tcp()?, way.sink.tcp()?);
        // What does not go on is to be copied: no more than a read would leave.
        let is_last = Pipe::is_last();
        let most = if is_last { SCRATCH as usize } else { splice::BYTES };
        let filled = match pipe.poll_fill(cx, source, most) {
            Poll::Pending => return Some(Poll::Pending),
            Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(Broken::Source(error)))),
            Poll::Ready(Ok(0)) => return None,
            Poll::Ready(Ok(filled)) => filled,
        };
        if filled < LITTLE {
            self.appetite = FIRST;
        }
        match pipe.poll_empty(cx, sink, count) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(Broken::Sink(error)))),
            Poll::Pending if is_last => match pipe.copy_out() {
                Ok(bytes) => {
                    way.ledger.copied(bytes.len());
                    self.pending = bytes;
                }
                Err(error) => return Some(Poll::Ready(Err(Broken::Source(error)))),
            },
            Poll::Pending => self.spliced = Some(Box::new(Standing::new(pipe, way.ledger))),
        }
        Some(Poll::Ready(Ok(filled)))
    }

    /// As `step`, of what goes through a tunnel, without copying it here. `None` where that is for a read.
    fn lend(
        &mut self,
        cx: &mut Context<'_>,
        way: &mut Way<'_, 'cell>,
        count: &mut impl FnMut(usize),
    ) -> Option<Poll<Result<usize, Broken>>> {
        if let Some(bytes) = lend::received(way.source, cx, SCRATCH as usize) {
            // Written, and counted, by the poll that this is a step of.
            let length = bytes.len();
            self.pending = bytes;
            return Some(Poll::Ready(Ok(length)));
        }
        if self.appetite < SCRATCH {
            return None;
        }
        let sent = lend::poll_send(cx, lend::lane(way.source, way.sink)?).map_err(|failed| match failed {
            lend::Failed::Socket(error) => Broken::Source(error),
            lend::Failed::Tunnel(error) => Broken::Sink(error),
        });
        if let Poll::Ready(Ok(sent)) = sent {
            count(sent);
            match sent {
                0 => self.state = State::Finishing,
                little if little < lend::LEAST => self.appetite = FIRST,
                _ => {}
            }
        }
        Some(sent)
    }

    /// Reads once and writes at once what the sink takes.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        way: &mut Way<'_, 'cell>,
        count: &mut impl FnMut(usize),
    ) -> Poll<Result<usize, Broken>> {
        let mut wants_pipe = self.appetite == SCRATCH && way.are_sockets();
        if wants_pipe && let Some(pipe) = Pipe::take() {
            wants_pipe = false;
            if let Some(moved) = self.splice(cx, (way, pipe), count) {
                return moved;
            }
        }
        if let Some(lent) = self.lend(cx, way, count) {
            return lent;
        }
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..self.appetite as usize]);
            ready!(Pin::new(&mut *way.source).poll_read(cx, &mut buffer)).map_err(Broken::Source)?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.state = State::Finishing;
                return Poll::Ready(Ok(0));
            }
            if wants_pipe {
                way.ledger.copied(bytes.len());
            }
            let written = match Pin::new(&mut *way.sink).poll_write(cx, bytes) {
                Poll::Ready(written) => written.map_err(Broken::Sink)?,
                Poll::Pending => 0,
            };
            count(written);
            if written < bytes.len() {
                self.pending = Bytes::copy_from_slice(&bytes[written..]);
                self.appetite = (self.appetite / 2).max(FIRST);
            } else if bytes.len() == self.appetite as usize {
                self.appetite = (self.appetite * 2).min(SCRATCH);
            }
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Passes the end on. A sink that is gone already has had its end.
    fn finish(&mut self, cx: &mut Context<'_>, way: &mut Way<'_, 'cell>) -> Result<(), Broken> {
        self.state = State::Finished;
        match Pin::new(&mut *way.sink).poll_shutdown(cx) {
            Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::NotConnected => {
                Err(Broken::Sink(error))
            }
            _ => Ok(()),
        }
    }
}

/// Notices that no byte has moved for a whole time-out, at most a quarter later than that.
struct Watch {
    timer: Pin<Box<Sleep>>,
    after: Duration,
    moved: u64,
    quiet: u32,
}

impl Watch {
    fn new(after: Duration) -> Self {
        Self { timer: Box::pin(sleep(after / LOOKS)), after, moved: 0, quiet: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<Duration> {
        while self.timer.as_mut().poll(cx).is_ready() {
            self.quiet = if self.moved == moved { self.quiet + 1 } else { 0 };
            self.moved = moved;
            if self.quiet >= LOOKS {
                return Poll::Ready(self.after);
            }
            self.timer.as_mut().reset(Instant::now() + self.after / LOOKS);
        }
        Poll::Pending
    }
}
