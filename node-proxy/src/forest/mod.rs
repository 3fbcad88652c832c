//! The forest: all trees of the node, grouped by tenant into cells, kept by a supervisor.
//!
//! Everything that crosses a cell's boundary is bytes, a descriptor or a versioned message, so that a cell can be a thread or
//! a process. The supervisor must never touch a cell's data path.

pub mod describe;
