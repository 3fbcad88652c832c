//! Where a daemon has things from: its configuration, and its certificates.
//!
//! What cannot be had at start is an error; what may come later is waited for by the source itself.

use std::{io, sync::Arc};

use config::store;
use rustls::time_provider::DefaultTimeProvider;

use super::node::{Certificates, NodeOptions, RunError};
use crate::{
    control::{
        ConfigSource, FileSource,
        discovery::{client::Standing, source::DiscoverySource},
    },
    identity::{
        authority::{
            CertificateAuthority,
            embedded::{self, Embedded},
            files::Files,
            istio::Istio,
            spire::{self, Spire},
        },
        credentials::Sources,
        revocation,
    },
};

/// Where configuration comes from, and how it stands with the control plane if that is one.
pub(super) fn configuration(
    options: &NodeOptions,
    files: FileSource,
    reading: store::Options,
) -> io::Result<(Box<dyn ConfigSource>, Option<Arc<Standing>>)> {
    let Some(mut client) = options.discovery.clone() else { return Ok((Box::new(files), None)) };
    client.introduction.addresses = reading.node_addresses.clone();
    let source = DiscoverySource::start(client, Box::new(files), reading, options.site.domain.clone())?;
    let standing = source.standing();
    Ok((Box::new(source), Some(standing)))
}

/// Where certificates come from.
pub(super) fn certificates(options: &NodeOptions) -> Result<Sources, RunError> {
    let thread = |source| RunError::System { what: "the authority's thread", source };
    let authority: Arc<dyn CertificateAuthority> = match options.certificates.clone() {
        Certificates::Embedded { directory, lifetime } => Arc::new(Embedded::start(embedded::Options {
            directory,
            trust_domain: options.trust_domain.clone(),
            lifetime,
            clock: Arc::new(DefaultTimeProvider),
        })?),
        Certificates::Files(directory) => Arc::new(Files::open(directory).map_err(RunError::Files)?),
        Certificates::Spire(socket) => {
            let options = spire::Options { socket, trust_domain: options.trust_domain.clone() };
            Arc::new(Spire::start(options).map_err(thread)?)
        }
        Certificates::Istio(options) => Arc::new(Istio::start(options).map_err(thread)?),
    };
    let mut sources = Sources::new(authority);
    if let Some(path) = &options.revocations {
        sources.revocations = revocation::follow(path.clone())?;
    }
    Ok(sources)
}
