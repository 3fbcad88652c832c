//! A new key, and the signing request for it: made in the cell that will use the key.
//!
//! Only [`Request::der`] may leave the cell.

use std::fmt;

use config::identity::Identity;
use rcgen::{CertificateParams, DistinguishedName, SanType, string::Ia5String};
use rustls::pki_types::CertificateDer;

use super::{AuthorityError, CertificateError, key::Key};
use crate::identity::certificate::Certificate;

/// A key that waits for its certificate.
pub struct Request {
    identity: Identity,
    key: Key,
    der: Vec<u8>,
}

impl Request {
    /// A new P-256 key (some 30 µs), and a request in the name of `identity`, with an empty subject.
    pub fn new(identity: &Identity) -> Result<Self, AuthorityError> {
        let key = Key::generate().map_err(AuthorityError::Key)?;
        let der = sign(&key, identity)?;
        Ok(Self { identity: identity.clone(), key, der })
    }

    /// The signing request (PKCS #10): all that leaves the cell.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// With what the authority answered: leaf first, no root.
    pub fn fulfil(self, chain: Vec<CertificateDer<'static>>) -> Result<Certificate, CertificateError> {
        Certificate::new(chain, self.key.into_der(), &self.identity)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A request for this key.
pub(super) fn sign(key: &Key, identity: &Identity) -> Result<Vec<u8>, AuthorityError> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(&identity.to_string()).map_err(AuthorityError::Key)?];
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(AuthorityError::Key)?.der().to_vec())
}

/// A URI as a subject alternative name.
pub(super) fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(Ia5String::try_from(text)?))
}
