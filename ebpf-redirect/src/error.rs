//! What can go wrong while steering; one closed enum, each variant with what to do about it.

use std::io;

/// Why steering failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// A system call failed.
    #[error("{call} for {subject} failed")]
    Syscall {
        /// The call, for example `setns`.
        call: &'static str,
        /// What it was for.
        subject: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A connection reached an outbound listener without having been steered there: a pod dialled it directly.
    #[error("the connection was not steered: a pod dialled the listener directly")]
    NotSteered,
}

impl RedirectError {
    /// A short constant for metrics and access logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syscall { .. } => "redirect_syscall",
            Self::NotSteered => "not_steered",
        }
    }
}
