//! What the one binary can be: a node's daemon, or a control plane.

pub mod control;
pub mod hours;
pub mod node;
mod signals;
mod sources;
pub mod steering;
