//! Why a handshake failed, as one of the closed set of reasons. Pure.
//!
//! One function for both ends. It must never guess: what is not a certificate's fault is `tls_failed`.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::verify::PeerError;
use crate::telemetry::Reason;

/// The reason behind what rustls says.
pub fn reason(error: &Error) -> Reason {
    match error {
        Error::NoCertificatesPresented => Reason::CertificateMissing,
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) if is_about_certificates(*alert) => Reason::CertificateRefused,
        _ => Reason::TlsFailed,
    }
}

/// The reason behind an error of a TLS stream; `None` where it is not TLS that failed.
pub fn reason_of_io(error: &io::Error) -> Option<Reason> {
    error.get_ref().and_then(|error| error.downcast_ref::<Error>()).map(reason)
}

fn certificate(error: &CertificateError) -> Reason {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::CertificateExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Reason::CertificateNotYetValid
        }
        CertificateError::Revoked => Reason::CertificateRevoked,
        CertificateError::UnknownIssuer => Reason::UnknownAuthority,
        CertificateError::Other(other) => {
            other.0.downcast_ref::<PeerError>().map_or(Reason::CertificateMalformed, PeerError::reason)
        }
        _ => Reason::CertificateMalformed,
    }
}

impl PeerError {
    /// Its label.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing => Reason::CertificateMissing,
            Self::Malformed(_) => Reason::CertificateMalformed,
            Self::Expired => Reason::CertificateExpired,
            Self::NotYetValid => Reason::CertificateNotYetValid,
            Self::Revoked => Reason::CertificateRevoked,
            Self::UnknownAuthority => Reason::UnknownAuthority,
            Self::TrustDomain { .. } => Reason::TrustDomainMismatch,
            Self::NotAWorkload(_) | Self::OtherIdentity(_) => Reason::IdentityMismatch,
        }
    }
}

/// The peer did not like what we showed, or that we showed nothing.
fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}
