//! HTTP/1.1 and HTTP/2 with prior knowledge, request by request: each is routed, balanced and logged by itself.
//!
//! What an endpoint sees is what the client sent, but for what the specification or a route says: hop-by-hop fields go, no
//! field is added. Bodies are never buffered: who reads slowly slows the other side. A request is sent again only where the
//! endpoint cannot have acted on it.
//!
//! A request goes to its endpoint in the client's own protocol version, unless the endpoint's port, or a Service's
//! port that says `http2`/`h2c`, declares one: a port that is called `http` says nothing of the version, and gRPC
//! behind such a port is common.
//!
//! The order of a request: `session` (is the configuration still the same) → `inspect` (may it be relayed at all) →
//! `plan` (route, endpoint) → `forward` (connection, send) → `download` (the response's body, to its end).

use std::rc::Rc;

use self::session::Session;
use crate::{
    accept::{Protocol, Rewind},
    cell::{Cell, Live},
    policy::Permit,
    stream::Stream,
};

mod answer;
mod deadline;
mod download;
mod exchange;
mod expect;
mod forward;
mod framing;
mod heard;
mod inspect;
mod mirror;
mod plan;
mod refusal;
mod server1;
mod server2;
mod session;
mod translate;
mod tunnel;
mod unread;
mod upload;
mod watch;

#[cfg(feature = "testing")]
pub mod heads;

/// A client's end, with what was read of it already.
type Client = Rewind<Stream>;

/// Serves one client's connection until it ends. `protocol` is what the client speaks.
pub async fn serve(cell: Rc<Cell>, permit: Permit, live: Rc<Live>, client: Client, protocol: Protocol) {
    let session = Session::new(cell, permit, live, protocol);
    match protocol {
        Protocol::Http2 => server2::serve(session, client).await,
        Protocol::Http1 | Protocol::Tcp | Protocol::Hbone => server1::serve(session, client).await,
    }
}

#[cfg(test)]
mod tests;
