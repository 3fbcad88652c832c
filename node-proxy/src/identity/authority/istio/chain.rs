//! What Istio's certificate service answers: leaf, intermediates, and the roots, each a text of PEM.

use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};

use crate::identity::{
    authority::AuthorityError,
    certificate::CertificateError,
    trust::{Revocations, Roots, Trust, TrustError},
    verify::{Usage, verify},
};
use config::identity::Identity;

/// A chain (leaf first, no root), and the roots to trust from now on.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) roots: Roots,
}

/// Takes an answer apart and believes it only as a peer would.
pub(super) fn read(entries: &[String], wanted: &Identity, now: UnixTime) -> Result<Answer, AuthorityError> {
    let Some((roots, chain)) = entries.split_last() else { return Err(CertificateError::Empty.into()) };
    if chain.is_empty() {
        return Err(CertificateError::Empty.into());
    }
    let roots = Roots::from_pem(roots.as_bytes())?;
    let mut certificates = Vec::new();
    for entry in chain {
        for certificate in CertificateDer::pem_slice_iter(entry.as_bytes()) {
            certificates.push(certificate.map_err(TrustError::Pem)?);
        }
    }
    let trust = Trust {
        trust_domain: wanted.trust_domain.clone(),
        roots: std::sync::Arc::new(roots),
        revocations: std::sync::Arc::<Revocations>::default(),
    };
    for usage in [Usage::Client, Usage::Server] {
        let theirs = verify(&certificates, &trust, usage, now).map_err(CertificateError::Chain)?;
        if theirs != *wanted {
            return Err(CertificateError::Identity { theirs, ours: wanted.clone() }.into());
        }
    }
    let roots = std::sync::Arc::into_inner(trust.roots).ok_or(TrustError::Empty)?;
    Ok(Answer { chain: certificates, roots })
}
