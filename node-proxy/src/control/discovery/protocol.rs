//! The delta protocol of xDS (`envoy.service.discovery.v3`; the tags are the field numbers there), as far as discovery needs it.

use std::collections::HashMap;

use config::discovery::messages::Any;

/// `DeltaAggregatedResources(stream DeltaDiscoveryRequest) returns (stream DeltaDiscoveryResponse)`.
pub const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The largest message that is taken, in bytes: a first response has all resources of a type.
pub const LARGEST_MESSAGE: usize = 200 * 1024 * 1024;

/// Bytes of resources that one response of ours brings at most, but for one more resource: well below what a node takes in one message.
pub const LARGEST_DRAFT: usize = LARGEST_MESSAGE / 2;

/// `DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Who asks; with the first request of a stream.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The type that is spoken of.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names that are wanted from now on.
    #[prost(string, repeated, tag = "3")]
    pub subscribe: Vec<String>,
    /// Names that are not wanted any more.
    #[prost(string, repeated, tag = "4")]
    pub unsubscribe: Vec<String>,
    /// What is known from before, by name; with the first request of a type.
    #[prost(map = "string, string", tag = "5")]
    pub initial_versions: HashMap<String, String>,
    /// The response that is answered, if one is.
    #[prost(string, tag = "6")]
    pub nonce: String,
    /// Why it is not taken, if it is not.
    #[prost(message, optional, tag = "7")]
    pub error: Option<Status>,
}

/// `DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// For people.
    #[prost(string, tag = "1")]
    pub system_version: String,
    /// New or changed.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// The type that is spoken of.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// By which it is answered.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names of what is not there (any more).
    #[prost(string, repeated, tag = "6")]
    pub removed: Vec<String>,
}

impl Response {
    /// Says that with this one all of its type has been sent on the stream that the other end had not said it has: what it then neither
    /// has said nor been sent is not there. The protocol has no such word, and a server may send all in any number of responses.
    pub fn say_whole(&mut self) {
        self.system_version.push_str(WHOLE);
    }

    /// Whether it says so.
    pub fn is_whole(&self) -> bool {
        self.system_version.ends_with(WHOLE)
    }
}

/// At the end of a version of a mesh, which is for people and of which no other server's can be taken for this.
const WHOLE: &str = " (whole, canopy.mesh/v1alpha1)";

/// `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Its version.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Its message; a sign of life where there is none.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Other names of it.
    #[prost(string, repeated, tag = "4")]
    pub aliases: Vec<String>,
}

impl Resource {
    /// Bytes of its message: what [`LARGEST_DRAFT`] bounds.
    pub fn body_bytes(&self) -> usize {
        self.resource.as_ref().map_or(0, |body| body.value.len())
    }
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Its name in the words of who is asked.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What else is said of it.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Struct>,
    /// What asks.
    #[prost(string, tag = "6")]
    pub user_agent_name: String,
    /// Its version.
    #[prost(string, tag = "7")]
    pub user_agent_version: String,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    /// By name.
    #[prost(map = "string, message", tag = "1")]
    pub fields: HashMap<String, Value>,
}

/// `google.protobuf.Value`, of which only texts are sent and read.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Value {
    /// A text.
    #[prost(string, optional, tag = "3")]
    pub text: Option<String>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    /// Of gRPC: 3 where something was invalid.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Why.
    #[prost(string, tag = "2")]
    pub message: String,
}
