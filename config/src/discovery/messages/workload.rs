//! `istio.workload`: workloads and Services. The tags are the field numbers there.
//!
//! As they are on the wire, unchecked. Maps are in order, so that the same content is always the same bytes.

use std::collections::BTreeMap;

use super::Extension;

/// `istio.workload.Address`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    /// Which of the two it is.
    #[prost(oneof = "address::Type", tags = "1, 2")]
    pub r#type: Option<address::Type>,
}

/// Of [`Address`].
pub mod address {
    /// A workload or a Service.
    #[expect(clippy::large_enum_variant, reason = "one at a time, and most of them are workloads")]
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Type {
        /// A workload.
        #[prost(message, tag = "1")]
        Workload(super::Workload),
        /// A Service.
        #[prost(message, tag = "2")]
        Service(super::Service),
    }
}

/// `istio.workload.Workload`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Workload {
    /// `CLUSTER/GROUP/KIND/NAMESPACE/NAME`.
    #[prost(string, tag = "20")]
    pub uid: String,
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Each of 4 or 16 bytes.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub addresses: Vec<Vec<u8>>,
    /// Where it is not known by its addresses.
    #[prost(string, tag = "21")]
    pub hostname: String,
    /// The network that its addresses are of.
    #[prost(string, tag = "4")]
    pub network: String,
    /// How it is reached.
    #[prost(enumeration = "TunnelProtocol", tag = "5")]
    pub tunnel_protocol: i32,
    /// Empty for `cluster.local`.
    #[prost(string, tag = "6")]
    pub trust_domain: String,
    /// Empty for `default`.
    #[prost(string, tag = "7")]
    pub service_account: String,
    /// The proxy that stands before it.
    #[prost(message, optional, tag = "8")]
    pub waypoint: Option<GatewayAddress>,
    /// The node.
    #[prost(string, tag = "9")]
    pub node: String,
    /// The app's name.
    #[prost(string, tag = "10")]
    pub canonical_name: String,
    /// The app's version.
    #[prost(string, tag = "11")]
    pub canonical_revision: String,
    /// What made it.
    #[prost(int32, tag = "12")]
    pub workload_type: i32,
    /// The name of what made it.
    #[prost(string, tag = "13")]
    pub workload_name: String,
    /// It ends tunnels itself.
    #[prost(bool, tag = "14")]
    pub native_tunnel: bool,
    /// Policies that select it, each `NAMESPACE/NAME`.
    #[prost(string, repeated, tag = "16")]
    pub authorization_policies: Vec<String>,
    /// Whether new connections may go to it.
    #[prost(enumeration = "WorkloadStatus", tag = "17")]
    pub status: i32,
    /// Its cluster; empty for `Kubernetes`.
    #[prost(string, tag = "18")]
    pub cluster_id: String,
    /// How its network is reached.
    #[prost(message, optional, tag = "19")]
    pub network_gateway: Option<GatewayAddress>,
    /// The Services it is behind, each `NAMESPACE/HOSTNAME`, with their ports.
    #[prost(btree_map = "string, message", tag = "22")]
    pub services: BTreeMap<String, PortList>,
    /// How it is reached past its own proxy.
    #[prost(message, optional, tag = "23")]
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Where it is.
    #[prost(message, optional, tag = "24")]
    pub locality: Option<Locality>,
    /// Whose network namespace it is in.
    #[prost(enumeration = "NetworkMode", tag = "25")]
    pub network_mode: i32,
    /// What implementations say beside that.
    #[prost(message, repeated, tag = "26")]
    pub extensions: Vec<Extension>,
}

/// `istio.workload.Service`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Service {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Its name in DNS.
    #[prost(string, tag = "3")]
    pub hostname: String,
    /// Its VIPs.
    #[prost(message, repeated, tag = "4")]
    pub addresses: Vec<NetworkAddress>,
    /// Its ports; what a workload says of them comes first.
    #[prost(message, repeated, tag = "5")]
    pub ports: Vec<Port>,
    /// Identities that its endpoints may have beside their own.
    #[prost(string, repeated, tag = "6")]
    pub subject_alt_names: Vec<String>,
    /// The proxy that stands before it.
    #[prost(message, optional, tag = "7")]
    pub waypoint: Option<GatewayAddress>,
    /// Which of its endpoints connections go to.
    #[prost(message, optional, tag = "8")]
    pub load_balancing: Option<LoadBalancing>,
    /// What implementations say beside that.
    #[prost(message, repeated, tag = "10")]
    pub extensions: Vec<Extension>,
    /// Whether it is the one of its host name.
    #[prost(bool, tag = "11")]
    pub canonical: bool,
    /// Proxies that stand before it, by weight.
    #[prost(message, repeated, tag = "13")]
    pub weighted_waypoints: Vec<WeightedWaypoint>,
}

/// `istio.workload.Locality`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Locality {
    /// The region.
    #[prost(string, tag = "1")]
    pub region: String,
    /// The zone in it.
    #[prost(string, tag = "2")]
    pub zone: String,
    /// A part of the zone.
    #[prost(string, tag = "3")]
    pub subzone: String,
}

/// `istio.workload.LoadBalancing`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LoadBalancing {
    /// What endpoints are to have in common with the caller, the most important first.
    #[prost(enumeration = "load_balancing::Scope", repeated, tag = "1")]
    pub routing_preference: Vec<i32>,
    /// What becomes of the others.
    #[prost(enumeration = "load_balancing::Mode", tag = "2")]
    pub mode: i32,
    /// Whether endpoints have to be ready.
    #[prost(enumeration = "load_balancing::HealthPolicy", tag = "3")]
    pub health_policy: i32,
}

/// Of [`LoadBalancing`].
pub mod load_balancing {
    /// What two places can have in common.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum Scope {
        /// Nothing.
        Unspecified = 0,
        /// The region.
        Region = 1,
        /// The zone.
        Zone = 2,
        /// The part of the zone.
        Subzone = 3,
        /// The node.
        Node = 4,
        /// The cluster.
        Cluster = 5,
        /// The network.
        Network = 6,
    }

    /// What becomes of endpoints that have not all of it in common with the caller.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum Mode {
        /// All endpoints are equal.
        Unspecified = 0,
        /// They get nothing.
        Strict = 1,
        /// They get something where there are no others.
        Failover = 2,
        /// The client has chosen already.
        Passthrough = 3,
    }

    /// Whether endpoints have to be ready.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum HealthPolicy {
        /// They have to.
        OnlyHealthy = 0,
        /// They do not.
        AllowAll = 1,
    }
}

/// `istio.workload.PortList`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PortList {
    /// The ports.
    #[prost(message, repeated, tag = "1")]
    pub ports: Vec<Port>,
}

/// `istio.workload.Port`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Port {
    /// The Service's.
    #[prost(uint32, tag = "1")]
    pub service_port: u32,
    /// The workload's; 0 where each workload says its own.
    #[prost(uint32, tag = "2")]
    pub target_port: u32,
    /// What is spoken.
    #[prost(enumeration = "AppProtocol", tag = "3")]
    pub app_protocol: i32,
}

/// `istio.workload.AppProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AppProtocol {
    /// Not declared.
    Unknown = 0,
    /// HTTP/1.1.
    Http11 = 1,
    /// HTTP/2 with prior knowledge.
    Http2 = 2,
    /// gRPC.
    Grpc = 3,
    /// Opaque.
    Tcp = 4,
    /// TLS of the application's own.
    Tls = 5,
}

/// `istio.workload.TunnelProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TunnelProtocol {
    /// None.
    None = 0,
    /// HBONE.
    Hbone = 1,
    /// Plain mutual TLS of sidecars.
    LegacyIstioMtls = 2,
}

/// `istio.workload.WorkloadStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum WorkloadStatus {
    /// Takes new connections.
    Healthy = 0,
    /// Is not ready, or ends.
    Unhealthy = 1,
}

/// `istio.workload.NetworkMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum NetworkMode {
    /// A namespace of its own.
    Standard = 0,
    /// The node's: its address says nothing of who it is.
    HostNetwork = 1,
}

/// `istio.workload.GatewayAddress`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GatewayAddress {
    /// Where it is.
    #[prost(oneof = "gateway_address::Destination", tags = "1, 2")]
    pub destination: Option<gateway_address::Destination>,
    /// Its port for HBONE.
    #[prost(uint32, tag = "3")]
    pub hbone_mtls_port: u32,
}

/// Of [`GatewayAddress`].
pub mod gateway_address {
    /// By name or by address.
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Destination {
        /// A host name of a namespace.
        #[prost(message, tag = "1")]
        Hostname(super::NamespacedHostname),
        /// An address.
        #[prost(message, tag = "2")]
        Address(super::NetworkAddress),
    }
}

/// `istio.workload.NamespacedHostname`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NamespacedHostname {
    /// The namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The name.
    #[prost(string, tag = "2")]
    pub hostname: String,
}

/// `istio.workload.NetworkAddress`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NetworkAddress {
    /// The network.
    #[prost(string, tag = "1")]
    pub network: String,
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub address: Vec<u8>,
    /// The length of its prefix; a single address without.
    #[prost(uint32, optional, tag = "3")]
    pub length: Option<u32>,
}

/// `istio.workload.WeightedWaypoint`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WeightedWaypoint {
    /// Where it is.
    #[prost(message, optional, tag = "1")]
    pub destination: Option<GatewayAddress>,
    /// Its share.
    #[prost(uint32, tag = "2")]
    pub weight: u32,
}

/// `istio.workload.ApplicationTunnel`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ApplicationTunnel {
    /// 0 none, 1 PROXY.
    #[prost(int32, tag = "1")]
    pub protocol: i32,
    /// The port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}
