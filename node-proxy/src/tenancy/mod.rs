//! What a tenant has used and what it may use. Guards give back in `Drop` what they count.
//!
//! The ledger is written by its cell alone and read by anybody; it must never need a lock.

pub mod bucket;
pub mod cpu;
pub mod ledger;
pub mod memory;
pub mod pace;
pub mod permits;
pub mod places;
pub mod share;
pub mod tenure;

pub use ledger::{ConnectionGuard, Holding, Ledger, RequestGuard, TunnelGuard};
pub use pace::{Brake, Pace};
pub use permits::{Direction, Permits, Refused};
pub use places::{Bound, Place, Places};
pub use share::{Share, Taken};
pub use tenure::{Tenure, Throne};
