//! Where a daemon has things from: its configuration, and its certificates.
//!
//! What cannot be had at start is an error; what may come later is waited for by the source itself.

use std::{io, sync::Arc};

use config::store;
use rustls::time_provider::DefaultTimeProvider;

use super::{
    Manifests,
    node::{Certificates, NodeOptions, RunError},
    sidecar::given::GivenSource,
};
use crate::{
    cell::Find,
    control::{
        ConfigSource, FileSource,
        discovery::{
            client::{Demand, Standing},
            source::DiscoverySource,
        },
        kubernetes::{self, Annotated, Capture, KubernetesSource, Sandboxes},
        sandboxes::{Places, cri},
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

/// Where configuration comes from.
#[derive(Debug)]
pub(super) struct Configured {
    /// What to follow.
    pub(super) source: Box<dyn ConfigSource>,
    /// How it stands with the control plane, if that is one.
    pub(super) standing: Option<Arc<Standing>>,
    /// Who says what a destination is that nobody has been told of yet, where they are asked for one by one.
    pub(super) find: Option<Arc<dyn Find>>,
    /// The same, by whatever is asked for.
    pub(super) demand: Option<Demand>,
}

/// Begins to read manifests. Of a cluster, a node that follows a control plane reads which of its own pods it carries, and no more.
pub(super) fn manifests(
    options: &NodeOptions,
    places: &Places,
    reading: store::Options,
) -> Result<Box<dyn ConfigSource>, RunError> {
    match (&options.manifests, &options.node) {
        (Manifests::Directory(directory), _) => {
            if options.runtime.is_some() {
                tracing::warn!(
                    "--container-runtime does nothing without --kubernetes: in files, each pod's annotation canopy.mesh/netns says where it is"
                );
            }
            Ok(Box::new(FileSource::open(directory, reading)?))
        }
        (Manifests::Given(given), _) => Ok(Box::new(GivenSource::open(given, reading)?)),
        (Manifests::Kubernetes(_), None) => Err(RunError::NoNode),
        (Manifests::Kubernetes(access), Some(node)) => {
            let alone = options.discovery.is_some();
            let watched = if alone { kubernetes::pods_of(node.as_str()) } else { kubernetes::cluster() };
            let capture = Capture { node: node.clone(), sandboxes: sandboxes(options, places)?, alone };
            let (access, capture) = (access.clone(), Some(capture));
            let options = kubernetes::Options { access, watched, reading, capture };
            Ok(Box::new(KubernetesSource::start(options)?))
        }
    }
}

/// Who knows where pods are: the container runtime, or a CNI agent that tells of all of them. The gate alone does not, since it tells of
/// none that ran before.
fn sandboxes(options: &NodeOptions, places: &Places) -> Result<Box<dyn Sandboxes>, RunError> {
    let system = |source| RunError::System { what: "the container runtime's thread", source };
    if let Some(socket) = options.runtime.clone() {
        cri::follow(socket, places.clone()).map_err(system)?;
    } else if options.zds.is_none() {
        tracing::warn!(
            "where a pod's network namespace is is taken from its annotation canopy.mesh/netns, which must be kept to administrators by \
             admission: name the container runtime's socket (--container-runtime)"
        );
        return Ok(Box::new(Annotated));
    }
    Ok(Box::new(places.clone()))
}

/// Begins to follow it.
pub(super) fn configuration(
    options: &NodeOptions,
    (manifests, places): (Box<dyn ConfigSource>, &Places),
    reading: store::Options,
) -> io::Result<Configured> {
    let Some(mut client) = options.discovery.clone() else {
        return Ok(Configured { source: manifests, standing: None, find: None, demand: None });
    };
    client.introduction.addresses = reading.node_addresses.clone();
    let source = DiscoverySource::start(client, manifests, reading, options.site.domain.clone())?;
    let source = source.with_gate(places.clone());
    let standing = Some(source.standing());
    let demand = source.demand();
    let find = demand.clone().map(|demand| Arc::new(demand) as Arc<dyn Find>);
    Ok(Configured { source: Box::new(source), standing, find, demand })
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
