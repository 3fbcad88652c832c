//! Opaque bytes both ways between a client and an endpoint, until both have finished or one breaks off.
//!
//! Each direction is a pump (`pump.rs`): idle connections hold no buffers, and a peer that stops reading stops the other. Bulk between
//! two sockets is not copied at all (`splice.rs`), bulk of a tunnel not here (`lend.rs`). It must never hold more than a pump does.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep};

use super::pump::{Broken, Pump, Way};
use crate::{
    cell::{Cell, Live},
    stream::{Stream, told},
    telemetry::Reason,
    tenancy::{Direction, Pace},
};

/// How often per idle time-out it is looked whether bytes moved, so that moving bytes need not touch a timer.
const LOOKS: u32 = 4;

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

/// Where bytes are counted while they flow, and how fast they may.
#[derive(Debug, Clone, Copy)]
pub struct Meter<'a> {
    /// Whose ledger and permits they are.
    pub cell: &'a Cell,
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
    let mut request = Pump::new(from_client.split_off(0), meter.pace(Direction::Received));
    let mut response = Pump::new(from_upstream.split_off(0), meter.pace(Direction::Sent));
    let mut watch = idle.map(Watch::new);
    let count = |received: usize, sent: usize| meter.count(received as u64, sent as u64);
    poll_fn(|cx| {
        // Captured whole: each of its fields would take room in every connection.
        let meter: Meter<'_> = meter;
        let ledger = &*meter.cell.ledger;
        let mut ends = Way { source: client, sink: upstream, ledger, pace: meter.pace(Direction::Received) };
        let there = request.poll(cx, &mut ends, |bytes| count(bytes, 0)).map_err(|broken| match broken {
            Broken::Source(error) => RelayError::Client(error),
            Broken::Sink(error) => RelayError::Upstream(error),
        })?;
        let mut ends = Way { source: upstream, sink: client, ledger, pace: meter.pace(Direction::Sent) };
        let back = response.poll(cx, &mut ends, |bytes| count(0, bytes)).map_err(|broken| match broken {
            Broken::Source(error) => RelayError::Upstream(error),
            Broken::Sink(error) => RelayError::Client(error),
        })?;
        if there.is_ready() && back.is_ready() {
            return Poll::Ready(Ok(()));
        }
        meter.live.backlog.stands(request.held(), response.held());
        if let Some(watch) = &mut watch {
            let moved = meter.live.received.get() + meter.live.sent.get();
            return watch.poll(cx, moved).map(|after| Err(RelayError::Idle(after)));
        }
        Poll::Pending
    })
    .await
}

impl<'a> Meter<'a> {
    fn pace(self, direction: Direction) -> &'a Pace {
        self.cell.permits.pace(self.live.side, direction)
    }

    fn count(self, received: u64, sent: u64) {
        self.cell.ledger.carried(received, sent);
        self.live.received.set(self.live.received.get() + received);
        self.live.sent.set(self.live.sent.get() + sent);
        if sent > 0 && self.live.first_byte_after.get().is_none() {
            self.live.first_byte_after.set(Some(self.live.since.elapsed()));
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
