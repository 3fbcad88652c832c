//! Discovery over xDS: the delta protocol, the client of a node, and the server of a control plane.
//!
//! Off the data path. What comes over the wire must never be believed before `config::discovery` has read it.

pub mod cache;
pub mod client;
pub mod protocol;
pub mod server;
pub mod source;

#[cfg(test)]
mod testing;
