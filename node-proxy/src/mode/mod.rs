//! What the one binary can be: for now, the node daemon.

pub mod hours;
pub mod node;
mod signals;
mod sources;
pub mod steering;
