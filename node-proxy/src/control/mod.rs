//! From sources to snapshots: watch, lower, compile per tenant, swap; and the status of every object.
//!
//! Runs on the control thread, never on a cell. A tenant's bad configuration must never delay or fail another's.

pub mod compile;
pub mod directory;
