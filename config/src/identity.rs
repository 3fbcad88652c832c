//! Workload identities: SPIFFE IDs of the shape `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
//!
//! The shape is Istio's, which other mesh implementations share (SPIFFE ID standard, section 2). An identity
//! names a service account; it must never be derived from an IP address.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::name::{NameError, Namespace, ServiceAccount};

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
#[serde(deny_unknown_fields)]
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

/// Why a text is not the SPIFFE ID of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Another scheme, more or fewer segments, or other words between them.
    #[error("{0:?} is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    Shape(String),
    /// The trust domain is none.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// The namespace or the service account is not a name.
    #[error("{name:?} in a SPIFFE ID")]
    Name {
        /// What stands in its place.
        name: String,
        /// Why it is none.
        #[source]
        error: NameError,
    },
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let shape = || IdentityError::Shape(text.to_owned());
        let path = text.strip_prefix("spiffe://").ok_or_else(shape)?;
        let mut segments = path.split('/');
        let mut segment = || segments.next();
        let (Some(trust_domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) =
            (segment(), segment(), segment(), segment(), segment(), segment())
        else {
            return Err(shape());
        };
        let name = |name: &str| {
            let name = name.to_owned();
            move |error| IdentityError::Name { name, error }
        };
        Ok(Self {
            trust_domain: TrustDomain::try_from(trust_domain)?,
            namespace: Namespace::try_from(namespace).map_err(name(namespace))?,
            service_account: ServiceAccount::try_from(account).map_err(name(account))?,
        })
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
    fn spiffe_id_of_a_workload_is_read_back() {
        let text = "spiffe://cluster.local/ns/shop/sa/cart.v2";
        assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
    }

    #[test]
    fn spiffe_ids_of_other_shapes_are_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns/shop/sa/cart/",
            "spiffe://cluster.local/ns/shop/sa/cart/x",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://cluster.local/ns//sa/cart",
            "spiffe://cluster.local/sa/cart/ns/shop",
            "spiffe://cluster.local/ns/shop/sa/cart?x=1",
            "spiffe://cluster.local/ns/shop/sa/%63art",
            "spiffe://Cluster.local/ns/shop/sa/cart",
            "spiffe:///ns/shop/sa/cart",
            "SPIFFE://cluster.local/ns/shop/sa/cart",
            "https://cluster.local/ns/shop/sa/cart",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn trust_domain_is_refused_when_it_could_be_read_as_a_path() {
        for text in ["", "a/b", "A.b", "a b", "a:1"] {
            assert!(TrustDomain::try_from(text).is_err(), "{text}");
        }
    }
}
