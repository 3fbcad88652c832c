//! One direction of opaque bytes: read, handed on, and never read ahead of who takes them.
//!
//! One scratch buffer per thread serves every connection; a direction owns a buffer only for what its sink would not take yet, and
//! its source is not read from meanwhile. It must never hold more than `splice::BYTES`.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    lend,
    splice::{self, Pipe},
};
use crate::{
    stream::Stream,
    tenancy::{Brake, Ledger, Pace, meter},
};

/// Most bytes read at a time: fewer system calls for bulk, while the scratch buffer stays in a core's own cache.
const SCRATCH: u32 = 128 * 1024;
/// Bytes read at a time by a connection that has not shown to need more: bounds what a peer that stops reading costs.
const FIRST: u32 = 16 * 1024;
/// Bytes that came through a pipe at a time, below which copying takes fewer steps: small messages, or pages of which little is used.
const LITTLE: usize = 32 * 1024;
/// Bytes after which a direction lets other connections of the cell run.
const TURN: usize = 1024 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(meter::unpaid(|| vec![0; SCRATCH as usize].into_boxed_slice()));
}

/// Which end of a direction failed.
pub(super) enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

/// The ends of one direction, lent to it for one poll: each end belongs to both directions.
pub(super) struct Way<'a, 'cell> {
    pub(super) source: &'a mut Stream,
    pub(super) sink: &'a mut Stream,
    pub(super) ledger: &'cell Ledger,
    /// How fast the tenant's bytes may go this way.
    pub(super) pace: &'cell Pace,
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
pub(super) struct Pump<'cell> {
    /// What the sink would not take yet.
    pending: Bytes,
    /// The same, of bulk: boxed, since few have it.
    spliced: Option<Box<Standing<'cell>>>,
    /// Bytes to read next time. As small as it can be: every connection has two.
    appetite: u32,
    state: State,
    brake: Brake,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// The source has finished; the sink has still to be told.
    Finishing,
    Finished,
}

impl<'cell> Pump<'cell> {
    /// `pending` was read already, whoever's turn it was: it is paid for by who comes next.
    pub(super) fn new(pending: Bytes, pace: &Pace) -> Self {
        let mut brake = Brake::default();
        pace.spend(pending.len(), &mut brake);
        Self { pending, spliced: None, appetite: FIRST, state: State::Open, brake }
    }

    /// Bytes that the sink has not taken yet.
    pub(super) fn held(&self) -> usize {
        self.pending.len() + self.spliced.as_ref().map_or(0, |standing| standing.pipe.held())
    }

    /// Moves what can be moved. Ready when the source has finished and the sink knows.
    pub(super) fn poll(
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
                State::Open => {
                    if way.pace.is_squeezed() {
                        ready!(self.poll_taken(cx, way));
                    }
                    let most = ready!(way.pace.poll(cx, &mut self.brake));
                    let moved = ready!(self.step(cx, way, most, &mut count))?;
                    way.pace.spend(moved, &mut self.brake);
                    turn += moved;
                }
            }
        }
    }

    /// Ready where what was handed on is not the sink's to take any more; of a tunnel, the connection's. What a socket would not take
    /// is still here, and was waited for.
    fn poll_taken(&self, cx: &mut Context<'_>, way: &Way<'_, 'cell>) -> Poll<()> {
        match &*way.sink {
            Stream::Tunnel(tunnel) => {
                tunnel.siblings().outflow().poll_taken(cx, || way.ledger.reader_paused())
            }
            Stream::Tcp(..) | Stream::Handoff(..) => Poll::Ready(()),
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
        (way, mut pipe, most): (&Way<'_, 'cell>, Pipe, usize),
        count: &mut impl FnMut(usize),
    ) -> Option<Poll<Result<usize, Broken>>> {
        let (source, sink) = (way.source.tcp()?, way.sink.tcp()?);
        // What does not go on is to be copied: no more than a read would leave.
        let is_last = Pipe::is_last();
        let most = most.min(if is_last { SCRATCH as usize } else { splice::BYTES });
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
        (way, most): (&mut Way<'_, 'cell>, usize),
        count: &mut impl FnMut(usize),
    ) -> Option<Poll<Result<usize, Broken>>> {
        if most < lend::LEAST {
            return None;
        }
        if let Some(bytes) = lend::received(way.source, cx, most.min(SCRATCH as usize)) {
            // Written, and counted, by the poll that this is a step of.
            let length = bytes.len();
            self.pending = bytes;
            return Some(Poll::Ready(Ok(length)));
        }
        if self.appetite < SCRATCH {
            return None;
        }
        let sent =
            lend::poll_send(cx, lend::lane(way.source, way.sink)?, most).map_err(|failed| match failed {
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

    /// Reads once, at most `most` bytes, and writes at once what the sink takes.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        way: &mut Way<'_, 'cell>,
        most: usize,
        count: &mut impl FnMut(usize),
    ) -> Poll<Result<usize, Broken>> {
        let wants_pipe = self.appetite == SCRATCH && most >= LITTLE && way.are_sockets();
        if wants_pipe
            && let Some(pipe) = Pipe::take()
            && let Some(moved) = self.splice(cx, (way, pipe, most), count)
        {
            return moved;
        }
        if let Some(lent) = self.lend(cx, (way, most), count) {
            return lent;
        }
        BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..most.min(self.appetite as usize)]);
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
                if way.pace.is_squeezed() {
                    way.ledger.reader_paused();
                }
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
