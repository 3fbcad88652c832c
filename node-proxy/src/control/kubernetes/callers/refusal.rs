//! Why somebody is refused who asks the control plane: a closed set, each with a word for logs and metrics, and what is counted of them.
//!
//! What is said to who asks must never tell more than the word: no token, and nothing of pods of other nodes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tonic::{Code, Status};

/// Why a request is refused: for the mesh, or for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Others would read the token.
    #[error("a token is taken over TLS alone")]
    InTheClear,
    /// No token.
    #[error("there is no bearer token: mount a projected service account token")]
    TokenMissing,
    /// The API server does not know the token, or not for this audience, or not any more.
    #[error(
        "the API server does not take the token: it has expired, its pod is gone, or it is for another audience than \
         --authority-audience"
    )]
    Token,
    /// The API server takes it, but says nothing of our audience.
    #[error("the token is not for the audience of --authority-audience")]
    Audience,
    /// Not the daemon's account, and so nobody who asks for others.
    #[error(
        "this account is no node's daemon, which reads the mesh and asks for others (--authority-accounts lists those that are), and its pod has no \
         sidecar, which reads the mesh: just after a pod was made that passes"
    )]
    Account,
    /// Not known where the token is used.
    #[error("the token says no pod whose node is known: it has to be a projected one, of the pod that asks")]
    Node,
    /// Not an identity of ours.
    #[error("what is asked for is no identity of this trust domain")]
    Identity,
    /// The node has no such pod.
    #[error("the node has no pod of this identity; just after a pod was made this passes")]
    Pod,
    /// Not a signing request.
    #[error("the signing request cannot be used: PKCS #10 as PEM, signed with its own key, of at most 8 KiB")]
    Request,
    /// Too often.
    #[error("too many requests: ask again later")]
    Rate,
    /// The API server does not say who asks.
    #[error("the API server does not say whose token it is: ask again later")]
    ApiServer,
    /// Not yet able to.
    #[error("the root or the pods of the cluster are not known yet: ask again later")]
    NotReady,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::InTheClear,
        Self::TokenMissing,
        Self::Token,
        Self::Audience,
        Self::Account,
        Self::Node,
        Self::Identity,
        Self::Pod,
        Self::Request,
        Self::Rate,
        Self::ApiServer,
        Self::NotReady,
    ];

    /// The word for it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InTheClear => "in_the_clear",
            Self::TokenMissing => "token_missing",
            Self::Token => "token",
            Self::Audience => "audience",
            Self::Account => "account",
            Self::Node => "node",
            Self::Identity => "identity",
            Self::Pod => "pod",
            Self::Request => "request",
            Self::Rate => "rate",
            Self::ApiServer => "api_server",
            Self::NotReady => "not_ready",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::InTheClear => Code::FailedPrecondition,
            Self::TokenMissing | Self::Token | Self::Audience => Code::Unauthenticated,
            Self::Account | Self::Node | Self::Identity | Self::Pod => Code::PermissionDenied,
            Self::Request => Code::InvalidArgument,
            Self::Rate => Code::ResourceExhausted,
            Self::ApiServer | Self::NotReady => Code::Unavailable,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}

/// What an authority has done.
#[derive(Debug, Default)]
pub(in crate::control::kubernetes) struct Figures {
    signed: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Figures {
    pub(in crate::control::kubernetes) fn sign(&self) {
        self.signed.fetch_add(1, Relaxed);
    }

    pub(in crate::control::kubernetes) fn refuse(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Relaxed);
    }

    pub(in crate::control::kubernetes) fn signed(&self) -> u64 {
        self.signed.load(Relaxed)
    }

    pub(in crate::control::kubernetes) fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize].load(Relaxed)
    }
}
