//! Stage 8: bytes or requests between client and endpoint, until both are done.
//!
//! Buffers are bounded, half-closes are passed on, nothing is retried that the endpoint may have seen.

pub mod http;
mod lend;
pub mod probe;
mod pump;
pub(crate) mod splice;
pub mod tcp;
