//! The container runtime interface (`runtime.v1.RuntimeService` of kubernetes/cri-api, api.proto; the tags are the field numbers there),
//! as far as sandboxes need it.

use std::collections::HashMap;

/// `ListPodSandbox(ListPodSandboxRequest) returns (ListPodSandboxResponse)`.
pub(super) const LIST: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
/// `PodSandboxStatus(PodSandboxStatusRequest) returns (PodSandboxStatusResponse)`.
pub(super) const STATUS: &str = "/runtime.v1.RuntimeService/PodSandboxStatus";
/// `GetContainerEvents(GetEventsRequest) returns (stream ContainerEventResponse)`; since CRI of Kubernetes 1.26, and not everywhere on.
pub(super) const EVENTS: &str = "/runtime.v1.RuntimeService/GetContainerEvents";

/// `PodSandboxState`.
pub(super) const READY: i32 = 0;
/// `NamespaceMode`: the node's own.
pub(super) const NODE: i32 = 2;

/// `ListPodSandboxRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) filter: Option<Filter>,
}

/// `PodSandboxFilter`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Filter {
    #[prost(message, optional, tag = "2")]
    pub(super) state: Option<State>,
}

/// `PodSandboxStateValue`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct State {
    #[prost(int32, tag = "1")]
    pub(super) state: i32,
}

/// `ListPodSandboxResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct List {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Item>,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Item {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<Metadata>,
    #[prost(int32, tag = "3")]
    pub(super) state: i32,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "4")]
    pub(super) created_at: i64,
    #[prost(string, tag = "7")]
    pub(super) runtime_handler: String,
}

/// `PodSandboxMetadata`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Metadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

/// `PodSandboxStatusRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct StatusRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(bool, tag = "2")]
    pub(super) verbose: bool,
}

/// `PodSandboxStatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    /// What the runtime says besides, as JSON, in words of its own.
    #[prost(map = "string, string", tag = "2")]
    pub(super) info: HashMap<String, String>,
}

/// `PodSandboxStatus`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(message, optional, tag = "5")]
    pub(super) network: Option<Network>,
    #[prost(message, optional, tag = "6")]
    pub(super) linux: Option<Linux>,
    #[prost(string, tag = "9")]
    pub(super) runtime_handler: String,
}

/// `PodSandboxNetworkStatus`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Network {
    #[prost(string, tag = "1")]
    pub(super) ip: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) additional: Vec<Ip>,
}

/// `PodIP`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Ip {
    #[prost(string, tag = "1")]
    pub(super) ip: String,
}

/// `LinuxPodSandboxStatus`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Linux {
    #[prost(message, optional, tag = "1")]
    pub(super) namespaces: Option<Namespaces>,
}

/// `Namespace`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Namespaces {
    #[prost(message, optional, tag = "2")]
    pub(super) options: Option<NamespaceOption>,
}

/// `NamespaceOption`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct NamespaceOption {
    #[prost(int32, tag = "1")]
    pub(super) network: i32,
}

/// `GetEventsRequest`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct EventsRequest {}

/// `ContainerEventResponse`, of which it only matters that it came.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Event {
    #[prost(string, tag = "1")]
    pub(super) container: String,
}
