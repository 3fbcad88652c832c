//! Certificates, verification and TLS together: real handshakes between real cells' credentials, in memory.

mod believed;
mod clock;
mod embedded;
mod handshakes;
mod peers;
mod roots;
mod rotation;
mod secrets;
pub(super) mod support;
