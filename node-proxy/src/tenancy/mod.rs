//! What a tenant has used and what it may use. Guards give back in `Drop` what they count.
//!
//! The ledger is written by its cell alone and read by anybody; it must never need a lock.

pub mod balance;
pub mod bucket;
pub mod costs;
pub mod cpu;
pub mod door;
pub mod events;
pub mod figures;
pub mod ledger;
pub mod memory;
pub mod meter;
pub mod pace;
pub mod permits;
pub mod places;
pub mod row;
pub mod share;
pub mod showback;
pub mod tenure;

pub use balance::{Balance, Parts};
pub use costs::Costs;
pub use door::Door;
pub use events::{Event, Events, Told};
pub use figures::{Figures, Line};
pub use ledger::{ConnectionGuard, Holding, Ledger, RequestGuard, TunnelGuard};
pub use meter::{Payer, Payers};
pub use pace::{Brake, Pace};
pub use permits::{Direction, Permits, Refused};
pub use places::{Bound, Place, Places};
pub use row::Row;
pub use share::{Share, Taken};
pub use tenure::{Tenure, Throne};
