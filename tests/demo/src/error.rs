//! Why the demo did not go to its end.

use std::io;

use testkit::{KitError, grpc::CallError, http::RequestError};

/// The one error of the demo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// Another demo is running.
    #[error("another demo is running (it holds {path}); wait for its end, or end it with Ctrl-C")]
    AlreadyRunning {
        /// The lock.
        path: &'static str,
    },
    /// A gRPC call failed.
    #[error("a gRPC call: {0}")]
    Call(#[from] CallError),
    /// Something that the demo says was not so.
    #[error("this did not hold: {claim}\n{evidence}")]
    Claim {
        /// What should have been.
        claim: String,
        /// What was.
        evidence: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The pods or the daemon could not be had.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// An HTTP request failed.
    #[error("an HTTP request: {0}")]
    Request(#[from] RequestError),
    /// The machine is too slow for what is promised.
    #[error(
        "it was not over within its time; is the machine busy with something else? `--limit` gives it more"
    )]
    TooLong,
}

impl DemoError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// An error if what the demo is about to say is not so.
pub(crate) fn claim(
    holds: bool,
    claim: impl Into<String>,
    evidence: impl FnOnce() -> String,
) -> Result<(), DemoError> {
    if holds {
        return Ok(());
    }
    Err(DemoError::Claim { claim: claim.into(), evidence: evidence() })
}
