//! Canopy's configuration: the model every source lowers into, and the lowering from Kubernetes manifests.
//!
//! Pure: no I/O, no clock, no randomness, so that every node decides alike. It must never depend on the
//! data path; the data path depends on it.

// Words: names, identities, addresses that cannot be wrong.
pub mod identity;
pub mod name;

// The model: what all sources lower into.
pub mod model;
