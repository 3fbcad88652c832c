//! What `canopy check` looks at where certificates come from elsewhere: whether that answers, and takes this process.
//!
//! Asks for no certificate.

use std::{io, time::Duration};

use config::identity::TrustDomain;

use super::{Look, State};
use crate::{
    identity::authority::{
        AuthorityError,
        files::Files,
        istio::Istio,
        report,
        spire::{self, Spire},
    },
    mode::node::Certificates,
};

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(10);

/// Looks at the source of certificates; nothing to see at the embedded one.
pub(super) fn look(source: Certificates, trust_domain: TrustDomain) -> io::Result<Option<Look>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = async {
        Some(match source {
            Certificates::Embedded { .. } => return None,
            Certificates::Files(directory) => {
                let text = format!("PEM files below {}", directory.display());
                Files::open(directory).map(|_| text)
            }
            Certificates::Spire(socket) => Spire::probe(&spire::Options { socket, trust_domain }).await,
            Certificates::Istio(options) => Istio::probe(&options).await,
        })
    };
    // A timer is made inside the runtime.
    let answer = runtime.block_on(async { tokio::time::timeout(ANSWER, ask).await });
    Ok(answer.unwrap_or(Some(Err(AuthorityError::Timeout))).map(|answer| match answer {
        Ok(detail) => Look::fine(NAME, detail),
        Err(error) => missing(error),
    }))
}

fn missing(error: AuthorityError) -> Look {
    let (detail, remedy) = match error {
        AuthorityError::Setup { problem, remedy } => (problem, Some(remedy)),
        other => (report(&other), None),
    };
    Look { name: NAME.to_owned(), state: State::Missing, detail, remedy }
}

const NAME: &str = "certificates";
