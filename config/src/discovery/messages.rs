//! The messages that resources are made of: Istio's `istio.workload` and `istio.security` (the tags are the field numbers there), and
//! the model's own in one message that carries it as JSON.
//!
//! As they are on the wire, unchecked. Nothing of the daemon but [`super`] may believe them.

pub use self::{
    security::{
        Action, Authorization, Block, Clause, Empty, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
        string_match,
    },
    workload::{
        Address, AppProtocol, ApplicationTunnel, GatewayAddress, LoadBalancing, Locality, NamespacedHostname,
        NetworkAddress, NetworkMode, Port, PortList, Service, TunnelProtocol, WeightedWaypoint, Workload,
        WorkloadStatus, address, gateway_address, load_balancing,
    },
};

mod security;
mod workload;

/// `canopy.mesh.v1alpha1.*`: one object of the model, as JSON of [`crate::model`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Facts {
    /// The object.
    #[prost(string, tag = "1")]
    pub json: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Any {
    /// The type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `istio.workload.Extension` and `istio.security.Extension`: what an implementation says beside the common words.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Extension {
    /// Whose it is.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it says.
    #[prost(message, optional, tag = "2")]
    pub config: Option<Any>,
}
