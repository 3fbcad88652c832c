//! Canopy's configuration: the model every source lowers into, and the lowering from Kubernetes manifests.
//!
//! Pure: no I/O, no clock, no randomness, so that every node decides alike. It must never depend on the
//! data path; the data path depends on it.

// Words: names, identities, addresses, header fields, expressions that cannot be wrong.
pub mod headers;
pub mod identity;
pub mod name;
pub mod pattern;

// The model: what all sources lower into.
pub mod model;

// Whether a pod is in the mesh.
pub mod opt_in;

// The model as resources of a control plane.
pub mod discovery;

// What a machine has, and whether tenants are promised more.
pub mod capacity;
// What of it one tenant is told.
pub mod part;

mod options;

// What is said about manifests, and what became of each object.
pub mod condition;
pub mod finding;

// The way of a manifest, in order: text, objects, fields, what one object means, all objects together.
mod document;
mod object;
mod schema;
mod suspect;

mod lower;

mod link;

// The way of a directory over time, and what is told about it.
pub mod diff;
pub mod report;
pub mod store;

pub use document::Limits;
pub use object::kinds;
