//! A request's body on its way up: counted, held back until the endpoint wants it, copied to mirrors.
//!
//! Nothing is buffered: a frame is polled from the client when the endpoint has room for it.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{exchange::Exchange, expect::Gate, mirror::Copies};
use crate::{
    tenancy::{Brake, Direction},
    upstream::pool::{BodyError, Upload},
};

/// The body that a client sends.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) body: Incoming,
    pub(super) exchange: Rc<Exchange>,
    /// Closed while the client waits for a 100.
    pub(super) gate: Option<Gate>,
    pub(super) copies: Copies,
    /// Its place among all that waits for the tenant's rate.
    pub(super) brake: Brake,
}

impl Counted {
    pub(super) fn upload(self) -> Upload {
        Upload::stream(self)
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(gate) = &mut this.gate {
            ready!(gate.poll_open(context));
            this.gate = None;
        }
        ready!(this.exchange.poll_turn(Direction::Received, context, &mut this.brake));
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.exchange.received(data.len(), &mut this.brake);
                }
                this.copies.push(frame);
                if this.body.is_end_stream() {
                    this.copies.end();
                }
            }
            Some(Err(_)) => this.copies.abort(),
            None => this.copies.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
