//! Answers of the agent, from their bytes, for tests that make them up. Never part of a daemon.

use config::identity::{Identity, TrustDomain};
use prost::Message as _;

use super::{
    bundles::roots_of,
    source::{certificate, choose},
    wire::{Bundles, Svids},
};
use crate::identity::{certificate::Certificate, trust::Roots};

/// The certificate that would be taken, if any.
pub fn read_certificates(bytes: &[u8], wanted: &Identity) -> Option<Certificate> {
    let chosen = choose(wanted, Svids::decode(bytes).ok()?).ok()?;
    certificate(chosen, wanted).ok()
}

/// The roots that would be trusted, if any.
pub fn read_roots(bytes: &[u8], domain: &TrustDomain) -> Option<Roots> {
    roots_of(domain, &Bundles::decode(bytes).ok()?).ok()
}
