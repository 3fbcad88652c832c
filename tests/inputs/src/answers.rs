//! Any answer of a certificate authority (istiod's, SPIRE's agent's): no panic, and no certificate or root is taken out of
//! it that somebody who is trusted has not made.
//!
//! The first byte says whose answer it is. Istio's may also be told by its parts, each after its length (two bytes):
//! 0xffff stands for a sound chain, 0xfffe for its root.

use std::sync::LazyLock;

use node_proxy::identity::{
    authority::{istio, spire},
    testing::{Fixed, fixed_chain},
};
use rustls::pki_types::{CertificateDer, UnixTime};

static FIXED: LazyLock<Fixed> = LazyLock::new(fixed_chain);

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let Some((whose, bytes)) = bytes.split_first() else { return };
    match whose % 4 {
        0 => believes_istio(bytes),
        1 => believes_istio(&istio::answers::write(parts(bytes))),
        2 => {
            if let Some(taken) = spire::answers::read_certificates(bytes, &FIXED.identity) {
                assert_eq!(*taken.identity(), FIXED.identity);
            }
        }
        _ => {
            if let Some(roots) = spire::answers::read_roots(bytes, &FIXED.identity.trust_domain) {
                assert!(!roots.certificates().is_empty());
            }
        }
    }
}

fn believes_istio(bytes: &[u8]) {
    if let Some((chain, roots)) = istio::answers::read(bytes, &FIXED.identity, UnixTime::now()) {
        assert_eq!(chain.first(), FIXED.chain.first(), "somebody else's was believed");
        assert!(!roots.certificates().is_empty());
    }
}

/// Texts after their lengths.
fn parts(mut bytes: &[u8]) -> Vec<String> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        bytes = match length {
            0xffff => {
                parts.push(FIXED.chain.iter().map(pem).collect());
                rest
            }
            0xfffe => {
                parts.push(FIXED.trust.roots.certificates().iter().map(pem).collect());
                rest
            }
            _ => {
                let (text, rest) = rest.split_at(length.min(rest.len()));
                parts.push(String::from_utf8_lossy(text).into_owned());
                rest
            }
        };
    }
    parts
}

fn pem(certificate: &CertificateDer<'static>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", certificate.as_ref()))
}
