//! Any bytes as a peer's certificates: no panic, and nobody is believed whom the one trusted root did not sign.
//!
//! The input is a chain, each certificate after its length (two bytes). What begins with a byte of the seeds' own chain
//! exercises the path building with real signatures.

use std::sync::{Arc, LazyLock};

use node_proxy::identity::{
    leaf,
    testing::fixed_chain,
    trust::{Revocations, Roots},
    verify::{Usage, stands, verify},
};
use rustls::pki_types::{CertificateDer, UnixTime};

static FIXED: LazyLock<node_proxy::identity::testing::Fixed> = LazyLock::new(fixed_chain);

/// Certificates after their lengths; 0xffff stands for the next one of the sound chain.
fn chain(mut bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    let (mut chain, mut sound) = (Vec::new(), FIXED.chain.iter());
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0xffff {
            chain.extend(sound.next().cloned());
            bytes = rest;
            continue;
        }
        let (certificate, rest) = rest.split_at(length.min(rest.len()));
        chain.push(CertificateDer::from(certificate.to_vec()));
        bytes = rest;
    }
    chain
}

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let chain = chain(bytes);
    for certificate in &chain {
        let _ = leaf::read(certificate);
        let _ = Roots::new([certificate.clone()]);
    }
    let _ = Roots::from_pem(bytes);
    let trust = node_proxy::identity::trust::Trust {
        revocations: Arc::new(Revocations::read(bytes).unwrap_or_default()),
        ..FIXED.trust.clone()
    };
    for usage in [Usage::Client, Usage::Server] {
        let _ = stands(&chain, &trust, usage, UnixTime::now());
        if let Ok(identity) = verify(&chain, &FIXED.trust, usage, UnixTime::now()) {
            assert_eq!(chain.first(), FIXED.chain.first(), "{identity} was believed");
            assert_eq!(identity, FIXED.identity);
        }
    }
}
