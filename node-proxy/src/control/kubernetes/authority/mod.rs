//! The control plane as a certificate authority: Istio's certificate service, for nodes' daemons and for workloads that ask themselves.
//!
//! Who asks is the API server's word, which pods a node has is its word, too, and of a signing request the key alone counts. An identity
//! must never be signed for a node that has no pod of it, nor a token be logged.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use config::identity::{Identity, TrustDomain};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    time_provider::TimeProvider,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    KubernetesError, Residents, Standing, access,
    access::Access,
    api::Api,
    callers::{Account, Believed, Caller, Callers, Figures, Presents, Refusal},
    rate::{Buckets, lock},
    residents::Place,
};
use crate::identity::authority::embedded::{
    Leaf,
    directory::pem,
    held::{self, Held},
};

pub use self::metrics::Scrape;

mod metrics;
mod root;

#[cfg(test)]
mod tests;

/// What an authority is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose identities it vouches for.
    pub trust_domain: TrustDomain,
    /// Whose tokens are believed; of these accounts, each may ask for the identities of the pods of his node.
    pub believed: Believed,
    /// How long a certificate lives at most.
    pub lifetime: Duration,
    /// What the names of the cluster's Services end in.
    pub cluster_domain: String,
    /// Whether the server's own certificate is of this authority, so that nodes have to be given the root.
    pub publishes: bool,
    /// Whether the API server asks it, as a webhook, and so has to trust its certificate.
    pub webhook: bool,
    /// The time.
    pub clock: Arc<dyn TimeProvider>,
}

/// The authority of a cluster.
pub struct Authority {
    options: Options,
    api: Api,
    /// Our own, where the root is kept.
    namespace: String,
    residents: Arc<Residents>,
    keys: watch::Sender<Option<Arc<Keys>>>,
    callers: Arc<Callers>,
    /// What nodes may ask.
    nodes: Mutex<Buckets>,
    figures: Figures,
}

/// What is signed with, and what is presented.
#[derive(Debug)]
struct Keys {
    held: Held,
    /// All roots, as text.
    bundle: String,
    /// Of what was read.
    version: String,
    presented: Arc<Presented>,
}

/// The server's own certificate.
pub struct Presented {
    /// Leaf first, no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// A request for a certificate, as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The bearer token.
    pub token: Option<&'a str>,
    /// For whom, if not for the caller himself.
    pub impersonated: Option<&'a str>,
    /// PKCS #10 as PEM.
    pub request: &'a str,
    /// In seconds.
    pub lifetime: i64,
    /// Where it came from; `None` on a Unix socket.
    pub from: Option<IpAddr>,
    /// Whether nobody on the way reads along.
    pub secure: bool,
}

impl Authority {
    /// Finds the cluster. The root is read, or made, by [`keep`](Self::keep).
    pub async fn open(
        options: Options,
        access: &Access,
        residents: Arc<Residents>,
        standing: Arc<Standing>,
    ) -> Result<Arc<Self>, KubernetesError> {
        let config = access.find().await?;
        let namespace = config.default_namespace.clone();
        let client = access::client(config)?;
        let api = Api::new(client.clone(), MOST_BYTES);
        let callers = Callers::with(options.believed.clone(), client, Arc::clone(&residents), standing);
        Ok(Arc::new(Self {
            options,
            api,
            namespace,
            residents,
            keys: watch::Sender::new(None),
            callers,
            nodes: Mutex::new(Buckets::new(NODE_BURST, NODE_PAUSE)),
            figures: Figures::default(),
        }))
    }

    /// Who asks it, and whoever else is asked over the same ports.
    pub fn callers(&self) -> Arc<Callers> {
        Arc::clone(&self.callers)
    }

    /// Whether it can sign.
    pub fn is_ready(&self) -> bool {
        self.keys.borrow().is_some()
    }

    /// All its roots, as PEM; none before there is one.
    pub fn roots(&self) -> Option<String> {
        self.keys.borrow().as_ref().map(|keys| keys.bundle.clone())
    }

    /// The server's own certificate; the very same as long as it is not renewed, and none before there is a root.
    pub fn presented(&self) -> Option<Arc<Presented>> {
        self.keys.borrow().as_ref().map(|keys| Arc::clone(&keys.presented))
    }

    /// A certificate, each of its chain a text, and last all roots; or why there is none.
    pub async fn create(&self, asked: Asked<'_>) -> Result<Vec<String>, Refusal> {
        let signed = self.decide(asked).await;
        match &signed {
            Ok(_) => self.figures.sign(),
            Err(refusal) => self.figures.refuse(*refusal),
        }
        signed
    }

    async fn decide(&self, asked: Asked<'_>) -> Result<Vec<String>, Refusal> {
        let caller = match self.caller(asked).await {
            Ok(caller) => caller,
            Err(refusal) => {
                // Who asks too often is to fill no log.
                if refusal != Refusal::Rate {
                    tracing::info!(from = ?asked.from, reason = refusal.reason(), "a certificate is refused");
                }
                return Err(refusal);
            }
        };
        let node = self.callers.node_of(&caller);
        let signed = match &node {
            Ok(node) => self.sign(asked, &caller, node).await,
            Err(refusal) => Err(*refusal),
        };
        match &signed {
            Ok(_) => {}
            Err(Refusal::Rate) => {
                tracing::debug!(account = %caller.account, ?node, "certificates are asked for too often")
            }
            Err(refusal) => {
                let identity = asked.impersonated.and_then(|text| text.parse::<Identity>().ok());
                let identity = identity.map(|identity| identity.to_string());
                let node = node.ok().map(|node| config::finding::visible(&node));
                let reason = refusal.reason();
                tracing::info!(account = %caller.account, node, identity, reason, "a certificate is refused");
            }
        }
        signed
    }

    async fn caller(&self, asked: Asked<'_>) -> Result<Caller, Refusal> {
        let Asked { token, from, secure, .. } = asked;
        let is_shown = token.is_some_and(|token| !token.is_empty());
        if secure && is_shown && !self.is_ready() {
            return Err(Refusal::NotReady);
        }
        self.callers.caller(Presents { token, from, secure }).await
    }

    async fn sign(&self, asked: Asked<'_>, caller: &Caller, node: &str) -> Result<Vec<String>, Refusal> {
        if !lock(&self.nodes).take(node, Instant::now()) {
            return Err(Refusal::Rate);
        }
        let identity = self.identity(asked.impersonated, caller)?;
        let request = held::request(asked.request).ok_or(Refusal::Request)?;
        if !self.comes(&place(&identity, node)).await {
            return Err(Refusal::Pod);
        }
        let keys = self.keys.borrow().clone().ok_or(Refusal::NotReady)?;
        let most = self.options.lifetime;
        let lifetime = match u64::try_from(asked.lifetime) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).clamp(LEAST_LIFETIME.min(most), most),
            _ => most,
        };
        let leaf = Leaf { identity: &identity, lifetime, now: self.now() };
        let chain = keys.held.sign(&request, leaf).map_err(|_| Refusal::Request)?;
        let texts = chain.iter().map(pem).chain([keys.bundle.clone()]);
        Ok(texts.collect())
    }

    /// Whose certificate it is to be.
    fn identity(&self, impersonated: Option<&str>, caller: &Caller) -> Result<Identity, Refusal> {
        let trust_domain = self.options.trust_domain.clone();
        let Some(text) = impersonated else {
            let Account { namespace, name } = caller.account.clone();
            return Ok(Identity { trust_domain, namespace, service_account: name });
        };
        if !self.callers.is_daemon(caller) {
            return Err(Refusal::Account);
        }
        let identity: Identity = text.parse().map_err(|_| Refusal::Identity)?;
        if identity.trust_domain != trust_domain {
            return Err(Refusal::Identity);
        }
        Ok(identity)
    }

    /// Whether the node has such a pod, or does within a moment: a pod is known on its node a little earlier than here.
    async fn comes(&self, place: &Place) -> bool {
        let mut changes = self.residents.changes();
        let comes = async {
            while !self.residents.has(place) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(PATIENCE, comes).await;
        self.residents.has(place)
    }

    fn now(&self) -> UnixTime {
        self.options.clock.current_time().unwrap_or_else(UnixTime::now)
    }
}

fn place(identity: &Identity, node: &str) -> Place {
    Place {
        namespace: identity.namespace.to_string(),
        account: identity.service_account.to_string(),
        node: node.to_owned(),
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("options", &self.options).finish_non_exhaustive()
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").finish_non_exhaustive()
    }
}

/// Of an answer: a Secret or a ConfigMap has at most 1 MiB.
const MOST_BYTES: usize = 4 << 20;
/// How long a pod is waited for that is not known yet.
const PATIENCE: Duration = Duration::from_secs(1);
/// No certificate lives shorter, or it would be over before it is used.
const LEAST_LIFETIME: Duration = Duration::from_secs(60);
/// Certificates that a node gets at once, more than it has pods, and after how long one more.
const NODE_BURST: u32 = 500;
const NODE_PAUSE: Duration = Duration::from_millis(100);
