//! The control plane: from its options to a server of the mesh, and to its end.
//!
//! Everything that can fail at start fails before anybody is served. It carries no connection, and must never need what a node needs:
//! neither root nor the kernel's hooks.

use std::{io, net::SocketAddr, sync::Arc};

use config::{
    Limits,
    discovery::Site,
    identity::TrustDomain,
    name::{NodeName, RootNamespace},
    store,
};

use self::page::{ControlPage, Parts};
use super::{
    Manifests,
    sidecar::given::{GivenError, GivenSource},
    signals::Signals,
};
use crate::{
    control::{
        ConfigSource, FileSource, Status,
        directory::DirectoryError,
        discovery::server::{Certificates, Feed, FeedError, Listen, ServeError, Server, Streams, TlsFiles},
        inject::{self, Webhook, WebhookError},
        kubernetes::{
            self, Access, Authority, AuthorityOptions, Believed, Callers, KubernetesError, KubernetesSource,
            Reported, Residents, Standing,
        },
    },
    sys::descriptors,
    telemetry::{events::LeftOut, server},
};

pub mod page;

/// What the control plane is told on its command line.
#[derive(Debug, Clone)]
pub struct ControlOptions {
    /// Where the objects of the mesh are.
    pub manifests: Manifests,
    /// Where nodes find it.
    pub listen: Vec<Listen>,
    /// Its certificate, if it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// What it signs certificates by, if it is an authority.
    pub authority: Option<AuthorityOptions>,
    /// Whose tokens open the mesh over the network, where one is asked for.
    pub believed: Option<Believed>,
    /// How pods are given sidecars, if they are.
    pub webhook: Option<inject::Options>,
    /// Where metrics and readiness are served.
    pub metrics_addr: SocketAddr,
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: RootNamespace,
    /// What the mesh is called in the names of resources.
    pub site: Site,
}

/// Why the control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No configuration.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No cluster.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// What it was told of a pod is none.
    #[error(transparent)]
    Given(#[from] GivenError),
    /// Nowhere to serve, or no certificate.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// No webhook.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// No metrics port.
    #[error(transparent)]
    Metrics(#[from] server::ServerError),
    /// No thread.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// No event loop, no signal.
    #[error("the system does not give what a control plane needs: {what}")]
    System {
        /// What.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Runs the control plane until a signal ends it.
pub fn run(options: ControlOptions) -> Result<(), ControlError> {
    let system = |what| move |source| ControlError::System { what, source };
    if let Err(error) = descriptors::prepare() {
        tracing::warn!(%error, "the descriptor limit stays as it is (`ulimit -n`)");
    }
    let Followed { source, cluster } = follow(&options)?;
    let standing = cluster.as_ref().map(|cluster| Arc::clone(&cluster.standing));
    let events = cluster.as_ref().map(|cluster| Arc::clone(&cluster.events));
    let streams = Arc::new(Streams::new(options.site.clone()));
    let status = Arc::new(Status::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("an event loop"))?.block_on(async {
        let metrics = server::Server::bind(options.metrics_addr).await?;
        let authority = authority(&options, cluster.as_ref()).await?;
        let callers = callers(&options, cluster.as_ref(), authority.as_deref()).await?;
        let tls = match (&options.tls, &authority) {
            (Some(files), _) => Some(Certificates::Files(files.clone())),
            (None, authority) => authority.clone().map(Certificates::Own),
        };
        let webhook = webhook(&options, authority.as_ref()).await?;
        let served = Server::open(&options.listen, tls, Arc::clone(&streams)).await?;
        let demands_tokens = callers.is_some();
        let served = served.certifying(authority.clone()).knowing(callers.clone());
        let mut signals = Signals::new().map_err(system("signals"))?;
        let parts = Parts { cluster: standing, events, authority: authority.clone(), callers };
        let page = ControlPage::new(streams.figures(), Arc::clone(&status), parts);
        tokio::spawn(metrics.show(Arc::new(page)));
        for listen in served.addresses().map_err(system("the address of a socket"))? {
            let metrics = options.metrics_addr;
            let clients = match (&options.tls, &listen) {
                (_, Listen::Unix(_)) => "root and this user",
                (None, _) if demands_tokens && authority.is_none() => {
                    "nobody, as a token is taken over TLS alone: --certificate, --authority, or --node-tokens off"
                }
                (Some(TlsFiles { client_roots: Some(_), .. }), _) if demands_tokens => {
                    "nodes' daemons, by a certificate of the clients' roots and their token"
                }
                _ if demands_tokens => "nodes' daemons, by their token",
                (Some(TlsFiles { client_roots: Some(_), .. }), _) => {
                    "who has a certificate of the clients' roots"
                }
                (Some(_), _) => "whoever reaches it",
                (None, _) if authority.is_some() => "whoever reaches it",
                (None, _) => "whoever is on this machine",
            };
            tracing::info!(%listen, clients, %metrics, "the mesh is served");
        }
        let _feed = Feed::start(source, streams, status)?;
        if let Some(authority) = authority {
            tokio::spawn(authority.keep());
        }
        if let Some(webhook) = webhook {
            let address = webhook.address().map_err(system("the address of a socket"))?;
            tracing::info!(%address, "pods that ask for a sidecar are given one");
            tokio::spawn(webhook.serve());
        }
        served
            .serve(async {
                signals.stop().await;
                tracing::info!("ending: nobody is let in any more, and nodes are told to go elsewhere");
            })
            .await;
        tracing::info!("ended; nodes go on with what they have");
        Ok(())
    })
}

/// What is read, and how it stands with the cluster if that is one.
struct Followed {
    source: Box<dyn ConfigSource>,
    cluster: Option<Cluster>,
}

/// A cluster that is followed.
struct Cluster {
    access: Access,
    standing: Arc<Standing>,
    residents: Arc<Residents>,
    /// Those that are not written.
    events: Arc<LeftOut>,
}

/// Who is asked whose a token is, if one is asked for; of an authority, the same, with one count of strangers.
async fn callers(
    options: &ControlOptions,
    cluster: Option<&Cluster>,
    authority: Option<&Authority>,
) -> Result<Option<Arc<Callers>>, KubernetesError> {
    let (Some(believed), Some(cluster)) = (options.believed.clone(), cluster) else { return Ok(None) };
    if let Some(authority) = authority {
        return Ok(Some(authority.callers()));
    }
    let Cluster { access, standing, residents, .. } = cluster;
    Callers::open(believed, access, Arc::clone(residents), Arc::clone(standing)).await.map(Some)
}

/// The authority that it is, if it is to be one.
async fn authority(
    options: &ControlOptions,
    cluster: Option<&Cluster>,
) -> Result<Option<Arc<Authority>>, KubernetesError> {
    let (Some(own), Some(cluster)) = (options.authority.clone(), cluster) else { return Ok(None) };
    let Cluster { access, standing, residents, .. } = cluster;
    Authority::open(own, access, Arc::clone(residents), Arc::clone(standing)).await.map(Some)
}

/// The webhook that it is, if it is to be one: with its own certificate.
async fn webhook(
    options: &ControlOptions,
    authority: Option<&Arc<Authority>>,
) -> Result<Option<Webhook>, WebhookError> {
    let (Some(own), Some(authority)) = (options.webhook.clone(), authority) else { return Ok(None) };
    Webhook::open(own, Arc::clone(authority)).await.map(Some)
}

fn follow(options: &ControlOptions) -> Result<Followed, ControlError> {
    match &options.manifests {
        Manifests::Directory(directory) => {
            let source = Box::new(FileSource::open(directory, reading(options))?);
            Ok(Followed { source, cluster: None })
        }
        Manifests::Given(given) => {
            Ok(Followed { source: Box::new(GivenSource::open(given, reading(options))?), cluster: None })
        }
        Manifests::Kubernetes(access) => {
            let source = KubernetesSource::start(kubernetes::Options {
                access: access.clone(),
                watched: kubernetes::cluster(),
                reading: reading(options),
                capture: None,
            })?;
            let (standing, residents) = (source.standing(), source.residents());
            let reported = Reported::start(source, access)?;
            let events = reported.left_out();
            let cluster = Some(Cluster { access: access.clone(), standing, residents, events });
            Ok(Followed { source: Box::new(reported), cluster })
        }
    }
}

/// No pod is on this machine, whatever network namespaces they name: each node knows its own, and those of two may be called alike.
fn reading(options: &ControlOptions) -> store::Options {
    store::Options {
        trust_domain: options.trust_domain.clone(),
        root_namespace: options.root_namespace.clone(),
        node: NodeName::try_from(NO_NODE).ok(),
        limits: Limits { objects: OBJECTS, ..Limits::default() },
        ..store::Options::default()
    }
}

/// Objects that a mesh may have: ten times what a node reads of files by itself. Within it, an edit costs what it changes.
const OBJECTS: usize = 1_000_000;

/// No node's name: nobody can have a name that ends so (RFC 6761).
const NO_NODE: &str = "control-plane.invalid";

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use config::store::{FileText, Store};

    use super::*;

    #[test]
    fn pods_of_two_nodes_may_have_network_namespaces_of_one_name() {
        let options = ControlOptions {
            manifests: Manifests::Directory(PathBuf::new()),
            listen: Vec::new(),
            tls: None,
            authority: None,
            believed: None,
            webhook: None,
            metrics_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            trust_domain: TrustDomain::default(),
            root_namespace: RootNamespace::default(),
            site: Site { domain: "cluster.local".try_into().unwrap(), cluster: "c".to_owned() },
        };
        let pod = |node: &str, address: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{node}\n  annotations: {{canopy.mesh/netns: /run/netns/pod}}\n\
                 spec: {{nodeName: {node}, containers: [{{name: c}}]}}\nstatus: {{podIP: {address}}}\n"
            )
        };
        let text = format!("{}---\n{}", pod("a", "10.0.0.1"), pod("b", "10.0.0.2"));
        let files = [(Path::new("pods.yaml").to_owned(), FileText::from(&*text))].into();
        let outcome = Store::new(reading(&options)).apply(&files);
        assert_eq!(outcome.mesh.workloads.len(), 2, "{:#?}", outcome.findings);
        let alone = store::Options { node: None, ..reading(&options) };
        assert_eq!(Store::new(alone).apply(&files).mesh.workloads.len(), 1, "on one node they clash");
    }
}
