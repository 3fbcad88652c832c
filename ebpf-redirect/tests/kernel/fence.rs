//! The fence on the host's end of a pod's link, met by real sockets, raw sockets and packet sockets.

pub(crate) mod frames;
pub(crate) mod lab;

mod denials;
mod earlier;
mod escapes;
mod forged;
mod narrow;
mod neighbours;
mod ordinary;
mod standing;
