//! Stage 2: what a captured connection is going to, and which protocol it speaks.
//!
//! Declared protocols are believed; otherwise the first bytes decide, within a deadline, so that protocols in which the
//! server speaks first work too. This stage must never read more than it needs to decide.

use bytes::Bytes;
use ebpf_redirect::Origin;

use crate::{capture::Captured, snapshot::Destination};

pub mod detect;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Opaque bytes.
    Tcp,
    /// HTTP/1.x.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

impl Protocol {
    /// As the access log names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// A connection whose destination and protocol are known.
#[derive(Debug)]
pub struct Accepted {
    /// As it was captured.
    pub captured: Captured,
    /// Its true ends.
    pub origin: Origin,
    /// What it is going to.
    pub destination: Destination,
    /// What it speaks.
    pub protocol: Protocol,
    /// Bytes that were read to find that out; they come before what the socket still holds.
    pub prefix: Bytes,
}
