//! Stage 7: a connection to the chosen endpoint: by which delivery, from which namespace, new or pooled.
//!
//! Every function here asks for a [`Permit`](crate::policy::Permit). A connection of one workload must never be used for another.

use std::{io, net::SocketAddr, rc::Rc};

use crate::{identity::credentials::CredentialError, policy::Denied, telemetry::Reason};

pub mod choice;
pub mod connect;
pub mod course;
pub mod handoff;
pub mod pool;
pub mod rt;
pub mod shortcuts;
pub mod tunnel;

/// How an endpoint is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// To the tree's own app, from inside its namespace (inbound).
    Local,
    /// Same node, same tenant: straight to the app, from inside the app's namespace.
    Direct,
    /// Same node, another tenant: through a pipe to that tenant's cell, which answers for its app.
    Handoff,
    /// To a meshed pod, across the pods' interfaces, within mutual TLS.
    Tunnel,
    /// Across the pod's interface, from inside the caller's namespace.
    Network,
    /// As `Network`, to a destination outside the mesh.
    Passthrough,
}

impl Delivery {
    /// Whether each connection has a socket of its own.
    pub fn takes_socket(self) -> bool {
        !matches!(self, Self::Handoff | Self::Tunnel)
    }

    /// As the access log names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Direct => "direct",
            Self::Handoff => "handoff",
            Self::Tunnel => "tunnel",
            Self::Network => "network",
            Self::Passthrough => "passthrough",
        }
    }
}

/// Why an endpoint could not be reached, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The receiver's policies deny it: known here, where the receiver's cell is not asked.
    #[error(transparent)]
    Denied(Denied),
    /// It said no.
    #[error("{address} refused the connection")]
    Refused {
        /// The endpoint.
        address: SocketAddr,
    },
    /// It said nothing in time.
    #[error("{address} did not answer within {after:?}")]
    Timeout {
        /// The endpoint.
        address: SocketAddr,
        /// How long was waited.
        after: std::time::Duration,
    },
    /// The connection could not be made.
    #[error("no connection to {address}")]
    Failed {
        /// The endpoint.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The proxy in front of it said no, and why.
    #[error("the proxy of {address} declined the connection: {reason}")]
    Declined {
        /// The endpoint.
        address: SocketAddr,
        /// What it said.
        reason: Reason,
    },
    /// Its address belongs to another pod by now.
    #[error("{address} is another pod's by now")]
    Gone {
        /// The endpoint.
        address: SocketAddr,
    },
    /// There is nothing to prove with who calls.
    #[error("no tunnel to {address} can be made")]
    Credentials {
        /// The peer's proxy.
        address: SocketAddr,
        /// What is missing.
        #[source]
        source: Rc<CredentialError>,
    },
    /// The peer's proxy and this one did not come to terms.
    #[error("the handshake with {address} failed: {reason}")]
    Handshake {
        /// The peer's proxy.
        address: SocketAddr,
        /// Why.
        reason: Reason,
    },
    /// There are as many tunnels as there may be.
    #[error("there are too many tunnels for one more to {address}")]
    TunnelLimit {
        /// The peer's proxy.
        address: SocketAddr,
    },
    /// The cell has as many sockets as it may, all in use.
    #[error("there are too many connections for one more to {address}")]
    ConnectionLimit {
        /// The endpoint.
        address: SocketAddr,
    },
    /// The peer's proxy refused the connection.
    #[error("{address} refused a tunnelled connection with status {status}")]
    Refusal {
        /// The peer's proxy.
        address: SocketAddr,
        /// Its answer.
        status: http::StatusCode,
    },
    /// The tunnel broke off before the peer's proxy had answered.
    #[error("the tunnel to {address} broke off")]
    Tunnel {
        /// The peer's proxy.
        address: SocketAddr,
    },
    /// It broke off before its answer was complete.
    #[error("{address} ended the connection before its answer was complete")]
    Reset {
        /// The endpoint.
        address: SocketAddr,
    },
    /// What it sent is not HTTP.
    #[error("{address} does not speak HTTP as expected")]
    Protocol {
        /// The endpoint.
        address: SocketAddr,
        /// What the parser said.
        #[source]
        source: hyper::Error,
    },
}

impl UpstreamError {
    /// Whether the endpoint is to blame, so that it counts towards its ejection; a lack of descriptors or ports here is not.
    pub fn blames_endpoint(&self) -> bool {
        match self {
            Self::Failed { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::ConnectionReset
            ),
            Self::Denied(_) => false,
            Self::Declined { reason, .. } => {
                matches!(reason, Reason::ConnectRefused | Reason::ConnectTimeout | Reason::ConnectFailed)
            }
            // Ours alone, or a decision of the peer's policy.
            Self::Credentials { .. } | Self::TunnelLimit { .. } | Self::ConnectionLimit { .. } => false,
            Self::Refusal { status, .. } => !is_denial(*status),
            Self::Refused { .. }
            | Self::Timeout { .. }
            | Self::Gone { .. }
            | Self::Handshake { .. }
            | Self::Tunnel { .. }
            | Self::Reset { .. }
            | Self::Protocol { .. } => true,
        }
    }

    /// Whether it was decided, by policy, that this caller is not let in. Another endpoint might decide otherwise; but that must
    /// not be a matter of luck, so none is asked. One whose policies are not known is about to go, or has just come.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Denied(denied) => *denied != Denied::PolicyUnknown,
            Self::Declined { reason, .. } => is_denial(reason.status()),
            Self::Refusal { status, .. } => is_denial(*status),
            _ => false,
        }
    }

    /// The reason in answer, log and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Denied(denied) => denied.reason(),
            Self::Refused { .. } => Reason::ConnectRefused,
            Self::Timeout { .. } => Reason::ConnectTimeout,
            Self::Failed { .. } => Reason::ConnectFailed,
            Self::Declined { reason, .. } => *reason,
            Self::Gone { .. } => Reason::EndpointGone,
            Self::Credentials { source, .. } => source.reason(),
            Self::Handshake { reason, .. } => *reason,
            Self::TunnelLimit { .. } => Reason::TunnelLimit,
            Self::ConnectionLimit { .. } => Reason::ConnectionLimit,
            Self::Refusal { status, .. } => match *status {
                status if is_denial(status) => Reason::PeerDenied,
                http::StatusCode::SERVICE_UNAVAILABLE => Reason::PeerUnavailable,
                _ => Reason::PeerRefused,
            },
            Self::Tunnel { .. } => Reason::TunnelFailed,
            Self::Reset { .. } => Reason::UpstreamReset,
            Self::Protocol { .. } => Reason::UpstreamProtocol,
        }
    }

    /// The same failure, for others that waited for the same connection.
    pub(crate) fn shared(&self) -> Self {
        match self {
            Self::Denied(denied) => Self::Denied(denied.clone()),
            Self::Refused { address } => Self::Refused { address: *address },
            Self::Timeout { address, after } => Self::Timeout { address: *address, after: *after },
            Self::Failed { address, source } => {
                Self::Failed { address: *address, source: io::Error::new(source.kind(), source.to_string()) }
            }
            Self::Credentials { address, source } => {
                Self::Credentials { address: *address, source: Rc::clone(source) }
            }
            Self::Handshake { address, reason } => Self::Handshake { address: *address, reason: *reason },
            Self::TunnelLimit { address } => Self::TunnelLimit { address: *address },
            Self::ConnectionLimit { address } => Self::ConnectionLimit { address: *address },
            Self::Refusal { address, status } => Self::Refusal { address: *address, status: *status },
            Self::Tunnel { address } => Self::Tunnel { address: *address },
            Self::Declined { address, reason } => Self::Declined { address: *address, reason: *reason },
            Self::Gone { address } => Self::Gone { address: *address },
            Self::Reset { address } | Self::Protocol { address, .. } => Self::Reset { address: *address },
        }
    }
}

/// What the peer's proxy answers where its policy says no.
fn is_denial(status: http::StatusCode) -> bool {
    matches!(status, http::StatusCode::UNAUTHORIZED | http::StatusCode::FORBIDDEN)
}
