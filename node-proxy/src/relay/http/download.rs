//! A response's body on its way down, and with it what the request still holds: its connection, its endpoint's load, its
//! deadline, its record.
//!
//! The upstream connection is driven from here, by the task of the client's connection; it goes back to the pool the moment the
//! endpoint's last byte was read, not when the client has taken it. Nothing is buffered.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{deadline::Deadline, exchange::Exchange, plan::Target};
use crate::{
    stream::told,
    telemetry::Reason,
    tenancy::{Brake, Direction},
    upstream::pool::{BodyError, Lease},
};

/// What a client gets as a body.
#[derive(Debug)]
pub(super) struct Outgoing {
    source: Option<Source>,
    exchange: Option<Rc<Exchange>>,
    /// Its place among all that waits for the tenant's rate.
    brake: Brake,
}

#[derive(Debug)]
struct Source {
    body: Incoming,
    lease: Option<Lease>,
    target: Target,
    deadline: Option<Rc<Deadline>>,
}

/// A response and what it still needs.
#[derive(Debug)]
pub(super) struct Download {
    pub(super) body: Incoming,
    pub(super) lease: Lease,
    pub(super) target: Target,
    pub(super) deadline: Option<Rc<Deadline>>,
}

impl Outgoing {
    /// No body.
    pub(super) fn empty() -> Self {
        Self { source: None, exchange: None, brake: Brake::default() }
    }

    /// No body; the exchange ends when it is sent.
    pub(super) fn last(exchange: Rc<Exchange>) -> Self {
        exchange.complete();
        Self { source: None, exchange: Some(exchange), brake: Brake::default() }
    }

    /// An endpoint's.
    pub(super) fn download(download: Download, exchange: Rc<Exchange>) -> Self {
        let Download { body, lease, target, deadline } = download;
        let lease = give_back_if_done(lease, &body);
        if body.is_end_stream() {
            return Self::last(exchange);
        }
        let source = Some(Source { body, lease, target, deadline });
        Self { source, exchange: Some(exchange), brake: Brake::default() }
    }

    /// For the record: whose it is.
    pub(super) fn of(mut self, exchange: Rc<Exchange>) -> Self {
        self.exchange = Some(exchange);
        self
    }

    fn finish(&mut self) {
        if let Some(Source { lease: Some(Lease::Http1(lease)), .. }) = self.source.take() {
            lease.settle();
        }
        if let Some(exchange) = &self.exchange {
            exchange.complete();
        }
    }

    fn fail(&mut self, reason: Reason) {
        if let Some(source) = self.source.take() {
            source.target.failed();
        }
        if let Some(exchange) = &self.exchange {
            exchange.refused(reason);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let over = self.source.as_ref().and_then(|source| source.deadline.as_ref()?.is_over());
        let Some((reason, by_endpoint)) = over else { return };
        if by_endpoint {
            self.fail(reason);
        } else if let Some(exchange) = &self.exchange {
            exchange.refused(reason);
        }
    }
}

/// A connection whose response has been read to its end needs nobody to drive it, though the client has none of it yet.
/// HTTP/2 streams count until the body is taken.
fn give_back_if_done(lease: Lease, body: &Incoming) -> Option<Lease> {
    match lease {
        Lease::Http1(lease) if lease.is_done() || body.is_end_stream() => {
            lease.settle();
            None
        }
        lease => Some(lease),
    }
}

impl Source {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(Lease::Http1(lease)) = &mut self.lease else {
            return Pin::new(&mut self.body).poll_frame(context);
        };
        // What the driver has to say of errors it says in the body too. The driver has the task's waker; frames
        // come only while it is polled, so the body needs none.
        let _ended = lease.drive(context);
        Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(source) = &mut this.source else { return Poll::Ready(None) };
        let turn = match &this.exchange {
            Some(exchange) => exchange.poll_turn(Direction::Sent, context, &mut this.brake),
            None => Poll::Ready(()),
        };
        let polled = match turn {
            Poll::Ready(()) => source.poll_frame(context),
            Poll::Pending => Poll::Pending,
        };
        if let Some(deadline) = &source.deadline {
            deadline.starved(turn.is_ready() && polled.is_pending());
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let last = source.body.is_end_stream() || frame.is_trailers();
                if let (Some(data), Some(exchange)) = (frame.data_ref(), &this.exchange) {
                    exchange.sent(data.len(), &mut this.brake);
                }
                if last {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // The end of a connection that was ended by us is not the end of the response.
            Poll::Ready(None)
                if this.exchange.as_ref().is_some_and(|exchange| exchange.revoked().is_some()) =>
            {
                this.fail(Reason::UpstreamReset);
                Poll::Ready(Some(Err(h2::Error::from(h2::Reason::CANCEL).into())))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                this.fail(told(&error).unwrap_or(Reason::UpstreamReset));
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.as_ref().map_or_else(|| SizeHint::with_exact(0), |source| source.body.size_hint())
    }
}
