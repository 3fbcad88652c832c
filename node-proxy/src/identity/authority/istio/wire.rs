//! The messages of Istio's certificate service (`istio.v1.auth`, in istio/api; the tags are the field numbers there).

use std::collections::HashMap;

/// `CreateCertificate(Request) returns (Response)`.
pub(crate) const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `IstioCertificateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Request {
    /// PKCS #10, PEM.
    #[prost(string, tag = "1")]
    pub(crate) csr: String,
    /// Seconds.
    #[prost(int64, tag = "3")]
    pub(crate) validity_duration: i64,
    #[prost(message, optional, tag = "4")]
    pub(crate) metadata: Option<Struct>,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Response {
    /// PEM: the leaf, each intermediate, and last all roots together.
    #[prost(string, repeated, tag = "1")]
    pub(crate) cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Struct {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, of which only texts are sent.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Value {
    #[prost(string, optional, tag = "3")]
    pub(crate) string_value: Option<String>,
}

impl Struct {
    /// The key by which a node's proxy says for whom it asks.
    pub(crate) const IMPERSONATED: &str = "ImpersonatedIdentity";

    /// For whom a node's proxy asks, if it says so.
    pub(crate) fn impersonated(&self) -> Option<&str> {
        self.fields.get(Self::IMPERSONATED)?.string_value.as_deref()
    }

    /// One text.
    pub(crate) fn text(key: &str, value: String) -> Self {
        Self { fields: HashMap::from([(key.to_owned(), Value { string_value: Some(value) })]) }
    }
}
