//! A workload's own certificate: leaf, intermediates, key, and who it is for; checked when it is made.
//!
//! The key stays behind rustls's signer from then on. Nothing here must ever print it or give it back.

use std::{fmt, sync::Arc};

use config::identity::Identity;
use rustls::{
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::{
    leaf::{self, LeafError, Validity},
    trust::{Roots, Trust},
    verify::{Anchor, PeerError, Usage, anchor, verify},
};

/// A certificate with its key.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    identity: Identity,
    validity: Validity,
    serial: String,
    roots: Option<Arc<Roots>>,
}

/// Why a certificate is of no use to its owner.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No certificate at all.
    #[error("the chain is empty")]
    Empty,
    /// The leaf is not a workload's.
    #[error("the certificate is no workload's")]
    Leaf(#[from] LeafError),
    /// It is somebody else's.
    #[error("the certificate is {theirs}'s, not {ours}'s")]
    Identity {
        /// Whose it is.
        theirs: Identity,
        /// Whose it should be.
        ours: Identity,
    },
    /// Another kind of key.
    #[error("the certificate's key is not ECDSA on P-256")]
    KeyKind,
    /// The key cannot be read, or is another certificate's.
    #[error("the key does not belong to the certificate")]
    Key(#[source] rustls::Error),
    /// The own authority's chain does not hold.
    #[error("the certificate does not hold against the roots that are trusted")]
    Chain(#[source] PeerError),
}

impl Certificate {
    /// A chain (leaf first, no root) and its key, for `identity` and nobody else.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        identity: &Identity,
    ) -> Result<Self, CertificateError> {
        // Wiped on every way out of here; the signer has its own copy.
        let key = Zeroizing::new(key);
        let leaf = leaf::read(chain.first().ok_or(CertificateError::Empty)?)?;
        if leaf.identity != *identity {
            return Err(CertificateError::Identity { theirs: leaf.identity, ours: identity.clone() });
        }
        if !leaf.is_p256 {
            return Err(CertificateError::KeyKind);
        }
        let signer = any_ecdsa_type(&key).map_err(CertificateError::Key)?;
        let key = CertifiedKey::new(chain, signer);
        key.keys_match().map_err(CertificateError::Key)?;
        Ok(Self {
            key: Arc::new(key),
            identity: leaf.identity,
            validity: leaf.validity,
            serial: leaf.serial,
            roots: None,
        })
    }

    /// With roots of its own, which are trusted in place of the authority's.
    pub fn with_roots(self, roots: Arc<Roots>) -> Self {
        Self { roots: Some(roots), ..self }
    }

    /// Checks it as a peer will, in both directions, and says which root it rests on.
    pub fn check(&self, trust: &Trust, now: UnixTime) -> Result<Anchor, CertificateError> {
        for usage in [Usage::Client, Usage::Server] {
            verify(&self.key.cert, trust, usage, now).map_err(CertificateError::Chain)?;
        }
        anchor(&self.key.cert, trust, Usage::Server, now).map_err(CertificateError::Chain)
    }

    /// Whose it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When it may be used.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its number with its authority.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The roots that came with it.
    pub fn roots(&self) -> Option<&Arc<Roots>> {
        self.roots.as_ref()
    }

    /// Leaf and intermediates.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// For rustls alone.
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}
