//! The body of a request on its way to an endpoint.
//!
//! It must never be buffered here: what is polled is what the client has sent.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A request's body. Most requests have none, and cost nothing here.
#[derive(Default)]
pub enum Upload {
    /// No body.
    #[default]
    Empty,
    /// Frames as they come.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>),
}

/// Why a body ended before its end. An HTTP/2 reset code is found by following `source`.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer it came from broke off.
    #[error("the peer broke off the body")]
    Peer(#[from] hyper::Error),
    /// It was ended with this code.
    #[error("the body was cut off")]
    Reset(#[from] h2::Error),
}

impl Upload {
    /// A body of frames.
    pub fn stream(body: impl Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Stream(Box::pin(body)) }
    }

    /// Whether there is no body.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Empty" } else { "Stream" })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(body) => body.size_hint(),
        }
    }
}
