//! What a tenant has used and what it may use. Guards give back in `Drop` what they count.
//!
//! The ledger is written by its cell alone and read by anybody; it must never need a lock.

pub mod closing;
pub mod ledger;
pub mod live;
pub mod tenure;

pub use closing::Closing;
pub use ledger::{ConnectionGuard, Ledger, RequestGuard};
pub use live::{Live, LiveConnection};
pub use tenure::{Tenure, Throne};
