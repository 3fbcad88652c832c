//! The operating system, as far as the libraries do not wrap it. The only place of this crate for `unsafe`.
//!
//! Anything here that changes the state of a thread is undone by a guard.

pub mod addresses;
pub mod arena;
pub mod beat;
pub mod clock;
pub mod code;
pub mod confinement;
pub mod descriptors;
pub mod digest;
pub mod dumps;
pub mod gateways;
pub mod hyper_io;
pub mod listen;
pub mod netns;
pub mod packets;
pub mod pages;
pub mod private;
pub mod process;
pub mod replace;
pub mod socket;
pub mod sockets;
pub mod stamp;
pub mod watch;
