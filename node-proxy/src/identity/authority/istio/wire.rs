//! The messages of Istio's certificate service (`istio.v1.auth`, in istio/api; the tags are the field numbers there).

use std::collections::HashMap;

/// `CreateCertificate(Request) returns (Response)`.
pub(super) const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `IstioCertificateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    /// PKCS #10, PEM.
    #[prost(string, tag = "1")]
    pub(super) csr: String,
    /// Seconds.
    #[prost(int64, tag = "3")]
    pub(super) validity_duration: i64,
    #[prost(message, optional, tag = "4")]
    pub(super) metadata: Option<Struct>,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Response {
    /// PEM: the leaf, each intermediate, and last all roots together.
    #[prost(string, repeated, tag = "1")]
    pub(super) cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Struct {
    #[prost(map = "string, message", tag = "1")]
    pub(super) fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, of which only texts are sent.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Value {
    #[prost(string, optional, tag = "3")]
    pub(super) string_value: Option<String>,
}

impl Struct {
    /// The key by which a node's proxy says for whom it asks.
    pub(super) const IMPERSONATED: &str = "ImpersonatedIdentity";

    /// One text.
    pub(super) fn text(key: &str, value: String) -> Self {
        Self { fields: HashMap::from([(key.to_owned(), Value { string_value: Some(value) })]) }
    }
}
