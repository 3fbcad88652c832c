//! A node with pods on the machine at hand: network namespaces on a bridge, real servers in them, the real
//! daemon beside them. For the tests, the demo and the benchmarks.
//!
//! Everything it makes is held by a guard and gone when the guard is dropped, also after a panic. It touches
//! nothing outside the namespaces it made, ends processes by their id alone, and never imports the code under
//! test: what it says of the daemon it has seen from outside.

pub use error::KitError;

// The node and what is on it.
pub use netns::Netns;
pub use node::{Addresses, Node};
pub use pod::Pod;
pub use process::Process;

mod error;
mod netns;
mod node;
mod pod;
mod process;
mod tool;
