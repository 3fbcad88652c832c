//! A key pair that signs requests or certificates; its encoded form is wiped when it goes.
//!
//! It must never be printed, nor given out but for a certificate's own signer, or a file that its operator asked for.

use rcgen::{Error, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// A private key on P-256.
pub(super) struct Key(Zeroizing<KeyPair>);

impl Key {
    /// A new one (some 30 µs).
    pub(super) fn generate() -> Result<Self, Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(|key| Self(Zeroizing::new(key)))
    }

    /// One that was made earlier.
    pub(super) fn from_pem(text: &str) -> Result<Self, Error> {
        KeyPair::from_pem(text).map(|key| Self(Zeroizing::new(key)))
    }

    /// For a signer.
    pub(super) fn into_der(self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialized_der().to_vec()).into()
    }

    /// For a file.
    pub(super) fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        PublicKeyData::der_bytes(&*self.0)
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&*self.0)
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message)
    }
}
