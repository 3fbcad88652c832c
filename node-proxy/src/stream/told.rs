//! Why a connection ended, where what carries it knows: it travels inside the [`io::Error`] that its reader gets.
//!
//! A peer's break-off and one that this daemon decided look alike to who reads bytes; this tells them apart. It must never be made
//! of anything but what was decided, here or by the peer's proxy.

use std::{error::Error, io};

use crate::telemetry::Reason;

/// The reason, as the payload of an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection was ended: {0}")]
pub struct Told(pub Reason);

impl From<Told> for io::Error {
    fn from(told: Told) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, told)
    }
}

/// The reason in an error, or in what caused it.
pub fn told(error: &(dyn Error + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let payload = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(Told(reason)) = payload.and_then(|payload| payload.downcast_ref()) {
            return Some(*reason);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("something that was in the way")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_reason_is_found_however_deep_it_is_and_nowhere_else() {
        let told_error = || io::Error::from(Told(Reason::CertificateRevoked));
        assert_eq!(told(&told_error()), Some(Reason::CertificateRevoked));
        assert_eq!(told(&Outer(told_error())), Some(Reason::CertificateRevoked));
        assert_eq!(told(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
        assert_eq!(told(&Outer(io::Error::other("text"))), None);
    }
}
