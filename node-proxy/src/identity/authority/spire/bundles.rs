//! The roots that SPIRE trusts, followed by one stream for the whole daemon.

use std::sync::Arc;

use config::identity::TrustDomain;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::{
    Options, connect, refusal,
    wire::{BUNDLES, Bundles, BundlesRequest},
};
use crate::identity::{
    authority::{AuthorityError, grpc},
    trust::{Roots, TrustError},
};

/// Puts every set of roots that the agent tells into `roots`, and tells `adopted`, until the stream ends; says why it did.
pub(super) async fn follow(
    options: &Options,
    roots: &watch::Sender<Option<Arc<Roots>>>,
    mut adopted: impl FnMut(),
) -> AuthorityError {
    let channel = match connect(&options.socket).await {
        Ok(channel) => channel,
        Err(error) => return error,
    };
    let mut updates = match grpc::subscribe::<_, Bundles>(channel, BUNDLES, BundlesRequest {}).await {
        Ok(updates) => updates,
        Err(status) => return refusal(&status),
    };
    loop {
        let update = match updates.message().await {
            Ok(Some(update)) => update,
            Ok(None) => return AuthorityError::Unavailable("the agent ended the stream".to_owned()),
            Err(status) => return refusal(&status),
        };
        match roots_of(&options.trust_domain, &update) {
            Ok(new) => adopt(roots, new),
            Err(error) => return error,
        }
        adopted();
    }
}

fn adopt(roots: &watch::Sender<Option<Arc<Roots>>>, new: Roots) {
    roots.send_if_modified(|known| {
        let changed = known.as_deref() != Some(&new);
        if changed {
            tracing::info!(roots = new.certificates().len(), "the roots that are trusted have changed");
            *known = Some(Arc::new(new));
        }
        changed
    });
}

/// Of all trust domains, ours alone: peers of others are refused.
pub(super) fn roots_of(domain: &TrustDomain, update: &Bundles) -> Result<Roots, AuthorityError> {
    let Some(bundle) = update.ca_certificates.get(&format!("spiffe://{domain}")) else {
        let mut others: Vec<_> = update.ca_certificates.keys().map(String::as_str).collect();
        others.sort_unstable();
        return Err(AuthorityError::Setup {
            problem: format!("SPIRE knows the roots of {}, not of spiffe://{domain}", others.join(", ")),
            remedy: "--trust-domain has to be the `trust_domain` of SPIRE's configuration".to_owned(),
        });
    };
    Ok(Roots::new(split(bundle)?)?)
}

/// Certificates that lie one behind the other.
pub(super) fn split(mut der: &[u8]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, _) = x509_parser::parse_x509_certificate(der)
            .map_err(|_| TrustError::Encoding(webpki::Error::BadDer))?;
        let (certificate, _) = der.split_at(der.len() - rest.len());
        certificates.push(certificate.to_vec().into());
        der = rest;
    }
    Ok(certificates)
}
