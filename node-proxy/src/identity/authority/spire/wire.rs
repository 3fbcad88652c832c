//! The messages of SPIRE's Delegated Identity API, as far as they are used
//! (`spire.api.agent.delegatedidentity.v1`, in spire-api-sdk; the tags are the field numbers there).

use std::fmt;

use zeroize::Zeroize;

/// `SubscribeToX509SVIDs(SvidsRequest) returns (stream Svids)`.
pub(super) const SVIDS: &str = "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509SVIDs";
/// `SubscribeToX509Bundles(BundlesRequest) returns (stream Bundles)`.
pub(super) const BUNDLES: &str =
    "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509Bundles";

/// `SubscribeToX509SVIDsRequest`; its `pid` (2) is not used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct SvidsRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) selectors: Vec<Selector>,
}

/// `spire.api.types.Selector`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub(super) struct Selector {
    /// The attestor that can know it: `k8s`.
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// `SubscribeToX509SVIDsResponse`: all that match, each time; its `federates_with` (2) is not used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Svids {
    #[prost(message, repeated, tag = "1")]
    pub(super) x509_svids: Vec<SvidWithKey>,
}

/// `X509SVIDWithKey`. Its key is never printed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct SvidWithKey {
    #[prost(message, optional, tag = "1")]
    pub(super) x509_svid: Option<Svid>,
    /// PKCS #8, DER.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) x509_svid_key: Vec<u8>,
}

impl Drop for SvidWithKey {
    fn drop(&mut self) {
        self.x509_svid_key.zeroize();
    }
}

impl fmt::Debug for SvidWithKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SvidWithKey").field("x509_svid", &self.x509_svid).finish_non_exhaustive()
    }
}

/// `spire.api.types.X509SVID`; its `expires_at` (3) and `hint` (4) are not used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Svid {
    /// DER, leaf first, no root.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) cert_chain: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "2")]
    pub(super) id: Option<SpiffeId>,
}

/// `spire.api.types.SPIFFEID`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct SpiffeId {
    #[prost(string, tag = "1")]
    pub(super) trust_domain: String,
    /// With its slash.
    #[prost(string, tag = "2")]
    pub(super) path: String,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

/// `SubscribeToX509BundlesRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct BundlesRequest {}

/// `SubscribeToX509BundlesResponse`: all, each time.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Bundles {
    /// By trust domain (`spiffe://DOMAIN`); DER, one after the other.
    #[prost(map = "string, bytes", tag = "1")]
    pub(super) ca_certificates: std::collections::HashMap<String, Vec<u8>>,
}
