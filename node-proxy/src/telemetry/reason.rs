//! The closed set of reasons for which Canopy refuses or ends work: in the answer, the access log, the metrics.
//!
//! Every stage's error maps to exactly one of these. A reason must never be a free text.

use std::fmt;

/// Whose doing a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client's.
    Client,
    /// The upstream's.
    Upstream,
    /// Configuration or policy said so.
    Configuration,
    /// A tenant has used up what it may have: by its budget, or by its share of the node where that is less. There may be room again
    /// in a moment.
    Budget,
    /// Ours.
    Canopy,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $label:literal, $status:literal, $fault:ident;)*) => {
        /// Why a connection or request was refused, or ended before its time.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of the path.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label: of metrics, of the access log, of the `canopy-refused` header.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The HTTP status it is answered with.
            pub fn status(self) -> http::StatusCode {
                let code = match self { $(Self::$variant => $status,)* };
                http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// Whose doing it is.
            pub fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }
        }
    };
}

reasons! {
    /// A pod dialled an outbound listener directly.
    NotSteered, "not_steered", 502, Client;
    /// The kernel did not say where a connection was going.
    OriginUnknown, "origin_unknown", 502, Canopy;
    /// Nobody says whether the destination is of the mesh: the control plane does not answer, and did not say it before.
    DestinationUnknown, "destination_unknown", 503, Canopy;
    /// What the client sent is not the protocol of the port.
    ProtocolError, "protocol_error", 400, Client;
    /// A request that could be read in two ways (RFC 9112, 6.3 and 11.2).
    AmbiguousFraming, "ambiguous_framing", 400, Client;
    /// The request's head is larger than allowed.
    HeadTooLarge, "head_too_large", 431, Client;
    /// The request's head did not arrive in time.
    HeadTimeout, "head_timeout", 408, Client;
    /// The client went away first.
    ClientClosed, "client_closed", 499, Client;
    /// Neither side sent anything for too long.
    IdleTimeout, "idle_timeout", 408, Client;
    /// A tunnel's CONNECT is none for this pod.
    InvalidConnect, "invalid_connect", 400, Client;
    /// A tunnel's CONNECT names a port that is the mesh's own.
    ReservedPort, "reserved_port", 503, Client;
    /// A tunnel's CONNECT names a host that this pod does not answer for.
    UnknownHost, "unknown_host", 503, Client;
    /// A TLS handshake took too long.
    HandshakeTimeout, "handshake_timeout", 408, Client;
    /// More TLS handshakes are under way than the tenant may have at a time.
    HandshakeLimit, "handshake_limit", 503, Configuration;
    /// There are as many tunnels as the tenant may have one way, in all or with this peer.
    TunnelLimit, "tunnel_limit", 503, Configuration;
    /// A delivery that the network cannot see is not known to be allowed by NetworkPolicies, or not any more.
    NetworkPolicy, "network_policy", 503, Configuration;
    /// There are policies that allow, and none allows this.
    NoPolicyAllows, "no_policy_allows", 403, Configuration;
    /// The receiver takes no plaintext (PeerAuthentication STRICT).
    PlaintextRefused, "plaintext_refused", 403, Configuration;
    /// A policy denies it.
    PolicyDenied, "policy_denied", 403, Configuration;
    /// No policies are known of the receiving workload yet.
    PolicyUnknown, "policy_unknown", 503, Canopy;
    /// A policy that cannot be read denies whatever it may be about.
    PolicyUnreadable, "policy_unreadable", 403, Configuration;
    /// The tenant may not connect to anything outside the mesh.
    EgressForbidden, "egress_forbidden", 403, Configuration;
    /// The destination is behind a waypoint, which Canopy does not speak to and does not go around.
    Waypoint, "waypoint", 503, Configuration;
    /// The peer's certificate has expired.
    CertificateExpired, "certificate_expired", 503, Upstream;
    /// The peer's certificate cannot be read, or is used for what it is not made for.
    CertificateMalformed, "certificate_malformed", 503, Upstream;
    /// The peer showed no certificate.
    CertificateMissing, "certificate_missing", 503, Upstream;
    /// The peer's certificate is not valid yet.
    CertificateNotYetValid, "certificate_not_yet_valid", 503, Upstream;
    /// The peer refuses this workload's certificate.
    CertificateRefused, "certificate_refused", 503, Upstream;
    /// The peer's certificate was revoked.
    CertificateRevoked, "certificate_revoked", 503, Upstream;
    /// This workload has no certificate that is valid.
    CertificateUnavailable, "certificate_unavailable", 503, Canopy;
    /// The peer is not who was called, or nobody of the mesh.
    IdentityMismatch, "identity_mismatch", 503, Upstream;
    /// The TLS handshake failed, not because of a certificate.
    TlsFailed, "tls_failed", 503, Upstream;
    /// The peer is of another trust domain.
    TrustDomainMismatch, "trust_domain_mismatch", 503, Upstream;
    /// Nobody who is trusted vouches for the peer's certificate.
    UnknownAuthority, "unknown_authority", 503, Upstream;
    /// Routes are attached to the Service, and none matches.
    NoRoute, "no_route", 404, Configuration;
    /// The matching rule's backend does not exist or may not be used.
    InvalidBackend, "invalid_backend", 500, Configuration;
    /// The Service has no endpoint that is ready.
    NoEndpoint, "no_endpoint", 503, Upstream;
    /// The Service is for callers on the node of its endpoints, and this node has none that is ready.
    NoLocalEndpoint, "no_local_endpoint", 503, Upstream;
    /// The endpoint's address belongs to another pod by now, or to none.
    EndpointGone, "endpoint_gone", 503, Upstream;
    /// The endpoint refused the connection.
    ConnectRefused, "connect_refused", 503, Upstream;
    /// The endpoint did not answer the connection in time.
    ConnectTimeout, "connect_timeout", 503, Upstream;
    /// The connection could not be made for another reason.
    ConnectFailed, "connect_failed", 503, Upstream;
    /// The endpoint ended the connection before its answer was complete.
    UpstreamReset, "upstream_reset", 502, Upstream;
    /// What the endpoint sent is not HTTP.
    UpstreamProtocol, "upstream_protocol", 502, Upstream;
    /// The peer's proxy says that its policy denies the caller.
    PeerDenied, "peer_denied", 403, Configuration;
    /// The peer's proxy could not reach its app.
    PeerUnavailable, "peer_unavailable", 503, Upstream;
    /// The peer's proxy refused the tunnel in another way.
    PeerRefused, "peer_refused", 502, Upstream;
    /// The tunnel's other end did not answer whether it is still there.
    PeerSilent, "peer_silent", 503, Upstream;
    /// The tunnel to the peer broke before it was answered.
    TunnelFailed, "tunnel_failed", 503, Upstream;
    /// The rule's request time-out passed.
    RequestTimeout, "request_timeout", 504, Configuration;
    /// The rule's backend request time-out passed.
    BackendTimeout, "backend_timeout", 504, Configuration;
    /// The tenant holds as many connections as it may, or sockets to endpoints.
    ConnectionLimit, "connection_limit", 503, Budget;
    /// One workload of the tenant holds as many connections as each may, by its budget.
    WorkloadConnectionLimit, "workload_connection_limit", 503, Budget;
    /// The tenant has begun as many connections in this second as its budget lets it.
    ConnectionRate, "connection_rate", 429, Budget;
    /// The tenant has begun as many requests in this second as its budget lets it.
    RequestRate, "request_rate", 429, Budget;
    /// The tenant has as many requests in flight as its budget lets it.
    RequestLimit, "request_limit", 503, Budget;
    /// The tenant's cell holds as much memory as its budget lets it.
    MemoryLimit, "memory_limit", 503, Budget;
    /// The connection was ended because the tenant's cell held more memory than its budget lets it.
    MemoryShed, "memory_shed", 503, Budget;
    /// The cell of the endpoint's tenant, on this node, has as many connections waiting to be taken as it may.
    HandoffFull, "handoff_full", 503, Upstream;
    /// The daemon is draining.
    Draining, "draining", 503, Canopy;
    /// A bug: the task of this connection panicked and was contained.
    Panic, "panic", 500, Canopy;
    /// The cell was restarted.
    CellRestarted, "cell_restarted", 503, Canopy;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_distinct_and_every_status_is_real() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.status().as_u16() >= 400, "{reason}");
        }
    }
}
