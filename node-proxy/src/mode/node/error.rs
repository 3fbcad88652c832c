//! Why a node's daemon, or a sidecar, does not start or does not end well: each with what to do about it.

use std::io;

use ebpf_redirect::RedirectError;

use crate::{
    admin,
    control::{directory::DirectoryError, gate::GateError, kubernetes::KubernetesError},
    identity::{
        authority::{AuthorityError, embedded},
        revocation::RevocationError,
    },
    mode::sidecar::given::GivenError,
    telemetry::{access::AccessLogError, server},
};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No way of steering.
    #[error("connections cannot be steered; see `canopy check`")]
    Redirect(#[source] RedirectError),
    /// No configuration.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No cluster.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// No name.
    #[error("--kubernetes: name this node, as the cluster calls it: --node NAME (spec.nodeName of this pod)")]
    NoNode,
    /// No pod.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// No access log.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// No admin socket.
    #[error(transparent)]
    Admin(#[from] admin::server::AdminError),
    /// No gate.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// No embedded authority.
    #[error(transparent)]
    Authority(#[from] embedded::DirectoryError),
    /// No revocation lists.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// No certificates from files.
    #[error("certificates cannot be read from files")]
    Files(#[source] AuthorityError),
    /// No metrics port.
    #[error(transparent)]
    Metrics(#[from] server::ServerError),
    /// The forest did not end in time.
    #[error(
        "the daemon ends although its forest does not; pods may still be steered: the next start with the same --instance takes them over"
    )]
    Unfinished,
    /// No thread, no event loop, no signal.
    #[error("the system does not give what a daemon needs: {what}")]
    System {
        /// What.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}
