//! What a leaf certificate says of itself: whose it is, until when, and what it may be used for.
//!
//! Reads bytes of strangers. It must never trust what it reads: `verify` says whether an authority vouches for it.

use config::identity::{Identity, IdentityError};
use rustls::pki_types::UnixTime;
use x509_parser::{
    certificate::X509Certificate,
    error::X509Error,
    extensions::GeneralName,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY},
};

/// What a leaf says.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its only URI name.
    pub identity: Identity,
    /// When it may be used.
    pub validity: Validity,
    /// Its number with its authority, in hexadecimal.
    pub serial: String,
    /// Whether its key is an ECDSA key on P-256.
    pub is_p256: bool,
}

/// From when until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: UnixTime,
    /// The last second.
    pub not_after: UnixTime,
}

/// Why a certificate is not one of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not a certificate of X.509 version 3, or broken.
    #[error("it is not a valid X.509 certificate")]
    Encoding,
    /// It is an authority's.
    #[error("it is an authority's certificate, not a workload's")]
    Authority,
    /// SPIFFE wants exactly one URI (X.509-SVID, section 2).
    #[error("it has {0} URI names where a workload's certificate has exactly one")]
    Uris(usize),
    /// The URI is not a workload's SPIFFE ID.
    #[error("its name is not a workload's")]
    Identity(#[from] IdentityError),
}

impl From<X509Error> for LeafError {
    fn from(_: X509Error) -> Self {
        Self::Encoding
    }
}

/// Reads a leaf.
pub fn read(der: &[u8]) -> Result<Leaf, LeafError> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| LeafError::Encoding)?;
    if !rest.is_empty() {
        return Err(LeafError::Encoding);
    }
    refuse_authority(&certificate)?;
    Ok(Leaf {
        identity: identity(&certificate)?,
        validity: validity(&certificate)?,
        serial: certificate.raw_serial_as_string(),
        is_p256: is_p256(&certificate),
    })
}

/// A leaf may neither be marked as an authority nor sign for one (X.509-SVID, sections 4.1 and 4.3).
fn refuse_authority(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    let is_ca = certificate.basic_constraints()?.is_some_and(|constraints| constraints.value.ca);
    let signs =
        certificate.key_usage()?.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign());
    if is_ca || signs { Err(LeafError::Authority) } else { Ok(()) }
}

fn identity(certificate: &X509Certificate<'_>) -> Result<Identity, LeafError> {
    let names = certificate.subject_alternative_name()?;
    let names = names.as_ref().map_or(&[][..], |names| &names.value.general_names);
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.count()) {
        (Some(uri), 0) => Ok(uri.parse()?),
        (None, _) => Err(LeafError::Uris(0)),
        (Some(_), others) => Err(LeafError::Uris(1 + others)),
    }
}

/// When a certificate, a leaf or an authority's, may be used.
pub(super) fn validity_of(der: &[u8]) -> Result<Validity, LeafError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| LeafError::Encoding)?;
    validity(&certificate)
}

pub(super) fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, LeafError> {
    let time = |time: &x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).map_err(|_| LeafError::Encoding)?;
        Ok::<_, LeafError>(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    };
    let validity = certificate.validity();
    Ok(Validity { not_before: time(&validity.not_before)?, not_after: time(&validity.not_after)? })
}

fn is_p256(certificate: &X509Certificate<'_>) -> bool {
    let algorithm = &certificate.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256)
}
