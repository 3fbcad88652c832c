//! An answer of the certificate service, from its bytes, for tests that make them up. Never part of a daemon.

use config::identity::Identity;
use prost::Message as _;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::{chain, wire::Response};
use crate::identity::trust::Roots;

/// The chain and the roots that would be believed, if any.
pub fn read(bytes: &[u8], wanted: &Identity, now: UnixTime) -> Option<(Vec<CertificateDer<'static>>, Roots)> {
    let response = Response::decode(bytes).ok()?;
    let answer = chain::read(&response.cert_chain, wanted, now).ok()?;
    Some((answer.chain, answer.roots))
}

/// An answer's bytes.
pub fn write(cert_chain: Vec<String>) -> Vec<u8> {
    Response { cert_chain }.encode_to_vec()
}
