//! HBONE: connections as HTTP/2 CONNECT streams over mutual TLS, to port 15008 of the pod they are for.
//!
//! What both ends share: `upstream::tunnel` opens, `accept::hbone` accepts. The wire is shared with other implementations of the
//! protocol, so what a peer has to know beforehand (port, ALPN, fields, status codes) must never be changed to suit ourselves alone.
//! What each end announces and the other obeys (windows, frames, streams at a time) is ours to choose: decision 0013.

use http::StatusCode;

use crate::telemetry::Reason;

pub use self::{
    ahead::ReadAhead,
    site::Site,
    stream::{DENIED, Role, Tunnel},
    streams::{Open, Streams},
    wire::{Wire, sending},
};

// What is said when a stream is opened.
pub mod authority;
pub mod fields;
mod site;

// What carries it.
mod ahead;
pub mod keepalive;
pub mod settings;
mod stream;
mod streams;
mod wire;

/// Where a pod's tunnels end. It is the mesh's own: no app is reached by it.
pub const PORT: u16 = 15008;

/// Whether a port is a mesh proxy's own in every pod: a tunnel to one of them would make the proxy call itself.
pub fn is_reserved(port: u16) -> bool {
    matches!(port, 15_001 | 15_006 | PORT)
}

/// What a CONNECT is refused with: 401 where policy says no, 400 where it is no request for this pod, else 503.
pub fn status(reason: Reason) -> StatusCode {
    match reason.status() {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
        StatusCode::BAD_REQUEST => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
