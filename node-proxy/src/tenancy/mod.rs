//! What a tenant has used and what it may use. Guards give back in `Drop` what they count.
//!
//! The ledger is written by its cell alone and read by anybody; it must never need a lock.

pub mod ledger;
pub mod share;
pub mod tenure;

pub use ledger::{ConnectionGuard, Holding, Ledger, RequestGuard, TunnelGuard};
pub use share::{Share, Taken};
pub use tenure::{Tenure, Throne};
