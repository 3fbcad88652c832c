//! Handoff: a connection from one tenant's cell to another's on the same node, made of bytes.
//!
//! The caller's cell runs its outbound stages and writes bytes into a [pipe](pipe::pipe); the receiver's cell takes the other end
//! out of its bounded [inbox](Inbox), runs its inbound stages on its own budget, answers, and relays the bytes to its app. Which
//! inbox serves which pod is on the [board](Board), which the supervisor writes. Nothing but bytes and plain facts crosses,
//! no lock is shared, and memory is freed by the thread that allocated it: neither tenant can hold up the other or be
//! charged for it. Where one of the two cells is a process of its own, a [socket pair](socket) takes the pipe's place, and a
//! [courier] takes the opening across.

use std::{net::SocketAddr, sync::Arc};

use config::model::Workload;

use crate::telemetry::Reason;

pub use self::{
    board::{Board, Line},
    end::{End, Handle},
    inbox::{Inbox, Turned},
};

pub mod courier;
pub mod pipe;
pub mod socket;

mod board;
mod end;
mod inbox;
mod letter;
mod post;
mod urn;

pub use post::{Post, serve};
pub use urn::sweep;

/// What a caller's cell tells a receiver's: a connection, and whose it is. Plain facts and one end of a pipe.
///
/// The source is what the supervisor planted the caller's tree with, never what the caller said of itself.
#[derive(Debug)]
pub struct Opening {
    /// The receiver's end.
    pub pipe: End,
    /// The workload that calls. Shared by all, allocated by none of the two.
    pub source: Arc<Workload>,
    /// The caller's true address.
    pub client: SocketAddr,
    /// The receiver's address and port.
    pub destination: SocketAddr,
    /// The receiver's tree: a pod that came back under the same name has another.
    pub tree: u64,
}

impl Opening {
    /// Answers no. Dropping an opening does so, too, with [`Reason::CellRestarted`].
    pub fn refuse(self, reason: Reason) {
        self.pipe.refuse(reason);
    }
}

#[cfg(test)]
pub(crate) mod tests;
