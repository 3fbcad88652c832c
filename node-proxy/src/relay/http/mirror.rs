//! Copies of requests, sent elsewhere; what is answered there is thrown away.
//!
//! A copy never slows its original: its body is taken from a queue that is bounded in memory, and a mirror that does not keep up loses the
//! rest, which its endpoint sees as a broken-off body. Nor is one begun where it could take from requests the room for theirs. A mirror
//! is no reason for anything in the original's record.

use std::{
    cell::Cell as Slot,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, request::Parts};
use http_body::{Body, Frame};
use tokio::{sync::mpsc, time::timeout};

use super::{forward, inspect::Shape, plan::Target, session::Session, translate};
use crate::{
    policy::Permit,
    route::{self, Forward},
    snapshot::Cluster,
    tenancy::{Taken, meter},
    upstream::{
        UpstreamError,
        course::Course,
        pool::{BodyError, Lease, Upload},
    },
};

/// Where the frames of a request's body go besides its endpoint.
#[derive(Debug, Default)]
pub(super) struct Copies(Vec<Sink>);

#[derive(Debug)]
struct Sink {
    queue: mpsc::UnboundedSender<Piece>,
    /// What the queue holds in memory.
    waiting: Rc<Slot<usize>>,
}

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The original is complete; a queue that ends without this was cut off.
    End,
}

/// The body of a copy.
struct Copied {
    queue: mpsc::UnboundedReceiver<Piece>,
    waiting: Rc<Slot<usize>>,
    ended: bool,
}

/// One of the mirrors that a connection, and its cell, may have at a time.
struct Place {
    session: Rc<Session>,
    _taken: Taken,
}

/// Starts the copies that a rule and its backend ask for.
pub(super) fn start(
    session: &Rc<Session>,
    permit: &Permit,
    route: &Forward<'_>,
    parts: &Parts,
    shape: &Shape,
) -> Copies {
    let mut copies = Copies::default();
    for mirror in route::mirrors(route, |bound| fastrand::u32(..bound)) {
        let Some(place) = Place::take(session) else {
            session.cell.ledger.mirror_dropped();
            continue;
        };
        let (sender, queue) = mpsc::unbounded_channel();
        let waiting = Rc::new(Slot::new(0));
        copies.0.push(Sink { queue: sender, waiting: Rc::clone(&waiting) });
        let body = Copied { queue, waiting, ended: false };
        let (permit, cluster) = (permit.clone(), Arc::clone(&mirror.cluster));
        let (parts, shape) = (parts.clone(), Shape { upgrade: false, ..*shape });
        meter::spawn(async move {
            let sent = send(&place.session, &permit, &cluster, (parts, shape, body));
            if timeout(PATIENCE, sent).await.is_err() {
                tracing::debug!(service = %cluster.service, "a mirror did not answer in time");
            }
        });
    }
    copies
}

async fn send(session: &Session, permit: &Permit, cluster: &Cluster, copy: (Parts, Shape, Copied)) {
    let (mut parts, shape, body) = copy;
    let Ok(target) = Target::of(session, cluster, &[]) else { return };
    let unlogged = Course::default();
    let mut lease = match forward::lease(session, permit, &target, &unlogged).await {
        Ok((lease, _)) => lease,
        Err(UpstreamError::ConnectionLimit { .. }) => return session.cell.ledger.mirror_dropped(),
        Err(_) => return target.failed(),
    };
    let chunked = shape.chunked || !parts.headers.contains_key(http::header::CONTENT_LENGTH);
    let body = if is_bodiless(&parts, &shape) { Upload::Empty } else { Upload::stream(body) };
    translate::request(&mut parts, &shape, target.protocol, None, body.is_empty() || !chunked);
    parts.extensions.clear();
    parts.headers.remove(http::header::EXPECT);
    let Ok(response) = lease.send(Request::from_parts(parts, body)).await else { return };
    drain(response.into_body(), lease).await;
}

/// HTTP/1.1 says in its head whether there is a body; in HTTP/2 only the end of the stream does.
fn is_bodiless(parts: &Parts, shape: &Shape) -> bool {
    let sized = parts.headers.contains_key(http::header::CONTENT_LENGTH);
    parts.version != http::Version::HTTP_2 && !shape.chunked && !sized
}

/// Reads a response to its end, so that its connection can be used again.
async fn drain(mut body: hyper::body::Incoming, mut lease: Lease) {
    std::future::poll_fn(|context| {
        loop {
            if let Lease::Http1(lease) = &mut lease {
                let _ended = lease.drive(context);
            }
            match ready!(Pin::new(&mut body).poll_frame(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    })
    .await;
    if let Lease::Http1(lease) = lease {
        lease.settle();
    }
}

impl Copies {
    /// Copies a frame to every mirror that keeps up.
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) {
        self.0.retain(|sink| {
            let piece = match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => Piece::Data(on_its_own(data)),
                (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
                (None, None) => return true,
            };
            let waiting = sink.waiting.get() + piece.weight();
            sink.waiting.set(waiting);
            waiting <= QUEUE_BYTES && sink.queue.send(piece).is_ok()
        });
    }

    /// The original's body is complete.
    pub(super) fn end(&mut self) {
        for sink in self.0.drain(..) {
            // A mirror that is gone needs no end.
            let _gone = sink.queue.send(Piece::End);
        }
    }

    /// The original's body broke off, and so do its copies.
    pub(super) fn abort(&mut self) {
        self.0.clear();
    }
}

impl Piece {
    /// What it holds in memory while it waits: a body of single bytes is mostly this around them.
    fn weight(&self) -> usize {
        let data = if let Self::Data(data) = self { data.len() } else { 0 };
        size_of::<Self>() + data
    }
}

/// A small piece is copied: as it is, it may keep the whole buffer that it was read into.
fn on_its_own(data: &Bytes) -> Bytes {
    if data.len() < SMALL { Bytes::copy_from_slice(data) } else { data.clone() }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.queue.poll_recv(context));
        let weight = piece.as_ref().map_or(0, Piece::weight);
        self.waiting.set(self.waiting.get().saturating_sub(weight));
        self.ended = !matches!(piece, Some(Piece::Data(_)));
        Poll::Ready(match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Piece::End) => None,
            None => Some(Err(h2::Error::from(h2::Reason::CANCEL).into())),
        })
    }
}

impl Place {
    fn take(session: &Rc<Session>) -> Option<Self> {
        let under_way = session.mirrors.get();
        if under_way >= AT_A_TIME {
            return None;
        }
        let taken = session.cell.mirror()?;
        session.mirrors.set(under_way + 1);
        Some(Self { session: Rc::clone(session), _taken: taken })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.session.mirrors.set(self.session.mirrors.get() - 1);
    }
}

/// What a mirror may lag behind its original, in memory.
const QUEUE_BYTES: usize = 256 * 1024;

/// Less is cheaper to copy than to keep a buffer for.
const SMALL: usize = 1024;

/// Mirrors of one client connection at a time; further requests are not copied.
const AT_A_TIME: usize = 64;

/// How long a mirror may take, whatever its original's time-outs say.
const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_reads_is_bounded_in_memory_however_small_its_pieces_are() {
        for size in [1, 100, 16_384] {
            let (sender, mut queue) = mpsc::unbounded_channel();
            let waiting = Rc::new(Slot::new(0));
            let mut copies = Copies(vec![Sink { queue: sender, waiting: Rc::clone(&waiting) }]);
            let frame = Frame::data(Bytes::from(vec![b'x'; size]));
            while !copies.0.is_empty() {
                copies.push(&frame);
            }
            let held = std::iter::from_fn(|| queue.try_recv().ok()).count() * (size_of::<Piece>() + size);
            assert!((QUEUE_BYTES / 2..=QUEUE_BYTES).contains(&held), "{held} bytes in pieces of {size}");
        }
    }

    #[test]
    fn a_small_piece_does_not_keep_the_buffer_that_it_was_read_into() {
        let buffer = Bytes::from(vec![b'x'; 65_536]);
        let piece = on_its_own(&buffer.slice(7..8));
        assert_ne!(piece.as_ptr(), buffer[7..].as_ptr());
        assert_eq!(on_its_own(&buffer.slice(..SMALL)).as_ptr(), buffer.as_ptr(), "a large one is not copied");
    }
}
