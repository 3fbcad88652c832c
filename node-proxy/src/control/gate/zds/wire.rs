//! The protocol between a CNI agent and a node's proxy (`istio.workload.zds` of istio's zds.proto; the tags are the field numbers there).
//!
//! One message is one packet; the agent's words have a network namespace's descriptor beside them where a pod is added.

/// `ZdsHello`: what the proxy says first.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Hello {
    /// `Version`: 1 is V1.
    #[prost(int32, tag = "1")]
    pub(super) version: i32,
}

/// `WorkloadRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Request {
    #[prost(oneof = "Payload", tags = "1, 2, 3, 5")]
    pub(super) payload: Option<Payload>,
}

/// Its payload.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(super) enum Payload {
    #[prost(message, tag = "1")]
    Add(Add),
    #[prost(message, tag = "2")]
    Del(Del),
    #[prost(message, tag = "3")]
    SnapshotSent(SnapshotSent),
    #[prost(message, tag = "5")]
    Keep(Keep),
}

/// `AddWorkload`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Add {
    #[prost(string, tag = "1")]
    pub(super) uid: String,
    #[prost(message, optional, tag = "2")]
    pub(super) info: Option<Info>,
}

/// `WorkloadInfo`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
}

/// `DelWorkload`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Del {
    #[prost(string, tag = "2")]
    pub(super) uid: String,
}

/// `SnapshotSent`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct SnapshotSent {}

/// `KeepWorkload`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Keep {
    #[prost(string, tag = "1")]
    pub(super) uid: String,
}

/// `WorkloadResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) ack: Option<Ack>,
}

/// `Ack`; without an error it is one of success.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Ack {
    #[prost(string, tag = "1")]
    pub(super) error: String,
}
