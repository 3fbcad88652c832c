//! What the operator sees: access log, metrics, readiness, and the closed set of refusal reasons.
//!
//! Never blocks the data path: log lines go through a bounded queue, counters are single-writer atomics. It must never print a
//! secret or an unbounded label.

pub mod access;
mod costs;
mod discovery;
pub mod events;
mod fences;
pub mod gate;
pub mod metrics;
pub mod reason;
pub mod server;

pub use access::{AccessLog, Record};
pub use reason::Reason;
