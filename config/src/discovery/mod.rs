//! Discovery: the mesh as resources, which a control plane serves and a node puts together again.
//!
//! Pure, as the whole crate: no connection, no clock. A resource that cannot be read must never take another's place, nor take down
//! what was in force.

pub mod messages;

mod assembly;
mod kind;
mod lower;
mod resource;

// What a control plane serves: what resources are called, what they say, which version of it.
mod hash;
mod names;
mod raise;
mod shelf;

pub use self::{
    assembly::{Assembly, Made},
    kind::Kind,
    raise::{EXTENSION, FACTS},
    resource::{Rejection, Resource},
    shelf::{Reader, Shelf, Site},
};
