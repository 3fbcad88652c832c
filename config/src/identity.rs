//! Workload identities: SPIFFE IDs of the shape `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
//!
//! The shape is Istio's, which other mesh implementations share (SPIFFE ID standard, section 2). An identity
//! names a service account; it must never be derived from an IP address.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::name::{Namespace, ServiceAccount};

/// Why a text is not a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a trust domain: 1 to 255 lower case letters, digits, '.', '-' or '_'")]
pub struct TrustDomainError(String);

/// A SPIFFE trust domain (SPIFFE ID standard, section 2.1), for example `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `cluster.local`, which Kubernetes meshes use where nothing else is said.
impl Default for TrustDomain {
    fn default() -> Self {
        Self(Arc::from("cluster.local"))
    }
}

impl TryFrom<&str> for TrustDomain {
    type Error = TrustDomainError;
    fn try_from(text: &str) -> Result<Self, TrustDomainError> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        if text.is_empty() || text.len() > 255 || !text.bytes().all(allowed) {
            return Err(TrustDomainError(text.to_owned()));
        }
        Ok(Self(Arc::from(text)))
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = TrustDomainError;
    fn try_from(text: String) -> Result<Self, TrustDomainError> {
        Self::try_from(text.as_str())
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0.as_ref().to_owned()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload. Prints as its SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Who vouches for it.
    pub trust_domain: TrustDomain,
    /// The namespace of the service account.
    pub namespace: Namespace,
    /// The service account itself.
    pub service_account: ServiceAccount,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_prints_as_a_spiffe_id() {
        let identity = Identity {
            trust_domain: TrustDomain::default(),
            namespace: Namespace::try_from("shop").unwrap(),
            service_account: ServiceAccount::try_from("cart").unwrap(),
        };
        assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/shop/sa/cart");
    }

    #[test]
    fn trust_domain_is_refused_when_it_could_be_read_as_a_path() {
        for text in ["", "a/b", "A.b", "a b", "a:1"] {
            assert!(TrustDomain::try_from(text).is_err(), "{text}");
        }
    }
}
