//! The certificates of one identity, in its cell: one stream of the agent's, on a connection of its own.
//!
//! The agent renews at half of a certificate's time by itself and pushes what is new. An identity that SPIRE has no entry for yet
//! keeps its stream open: the entry arrives by it.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::{sync::watch, time::sleep};
use tonic::{Streaming, transport::Channel};

use super::{
    connect, refusal,
    wire::{SVIDS, Selector, SvidWithKey, Svids, SvidsRequest},
};
use crate::identity::{
    authority::{AuthorityError, CertificateSource, Wanted, grpc},
    certificate::Certificate,
    trust::Roots,
};

/// How long after the end of a stream the agent is asked again: one that ends every stream at once is not asked in a circle.
const AFTER_END: Duration = Duration::from_secs(1);

/// One identity's certificates.
pub(super) struct Source {
    socket: Arc<Path>,
    wanted: Wanted,
    roots: watch::Receiver<Option<Arc<Roots>>>,
    channel: Option<Channel>,
    updates: Option<Streaming<Svids>>,
    /// Came by itself, and is not used yet.
    pushed: Option<SvidWithKey>,
}

impl Source {
    pub(super) fn new(socket: Arc<Path>, wanted: Wanted, roots: watch::Receiver<Option<Arc<Roots>>>) -> Self {
        Self { socket, wanted, roots, channel: None, updates: None, pushed: None }
    }

    /// Asks anew: the first answer is what the agent has now.
    async fn subscribe(&mut self) -> Result<SvidWithKey, AuthorityError> {
        self.updates = None;
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => connect(&self.socket).await?,
        };
        let question = SvidsRequest { selectors: selectors(&self.wanted) };
        let mut updates = match grpc::subscribe::<_, Svids>(channel.clone(), SVIDS, question).await {
            Ok(updates) => updates,
            Err(status) => return Err(refusal(&status)),
        };
        let first = updates.message().await.map_err(|status| refusal(&status))?;
        let first =
            first.ok_or_else(|| AuthorityError::Unavailable("the agent ended the stream".to_owned()))?;
        (self.channel, self.updates) = (Some(channel), Some(updates));
        self.choose(first)
    }

    /// The wanted identity's among those that match its selectors; never another's.
    fn choose(&self, update: Svids) -> Result<SvidWithKey, AuthorityError> {
        let wanted = self.wanted.identity.to_string();
        let id = |svid: &SvidWithKey| Some(svid.x509_svid.as_ref()?.id.as_ref()?.to_string());
        let others: Vec<_> = update.x509_svids.iter().filter_map(id).collect();
        let found = update.x509_svids.into_iter().find(|svid| id(svid).as_ref() == Some(&wanted));
        found.ok_or_else(|| {
            let besides = match others.len() {
                0 => String::new(),
                _ => format!("; what fits is of no use: {}", others.join(", ")),
            };
            let (namespace, account) =
                (&self.wanted.identity.namespace, &self.wanted.identity.service_account);
            AuthorityError::Setup {
                problem: format!("SPIRE has no entry for {wanted} on this node yet{besides}"),
                remedy: format!(
                    "register one whose parent is this node's agent, with -selector k8s:ns:{namespace} \
                     -selector k8s:sa:{account}"
                ),
            }
        })
    }
}

impl CertificateSource for Source {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        Box::pin(async move {
            let svid = match self.pushed.take() {
                Some(svid) => svid,
                None => self.subscribe().await?,
            };
            // The certificate is judged by them as soon as it is there.
            if self.roots.wait_for(Option::is_some).await.is_err() {
                return Err(AuthorityError::Unavailable("its roots are not known".to_owned()));
            }
            let chain = svid.x509_svid.map(|svid| svid.cert_chain).unwrap_or_default();
            let chain = chain.into_iter().map(Into::into).collect();
            let key = PrivatePkcs8KeyDer::from(svid.x509_svid_key);
            Ok(Certificate::new(chain, key.into(), &self.wanted.identity)?)
        })
    }

    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(updates) = &mut self.updates else { return std::future::pending().await };
            match updates.message().await {
                Ok(Some(update)) => match self.choose(update) {
                    Ok(svid) => self.pushed = Some(svid),
                    // Not with these selectors any more: asked anew, and told where there is none.
                    Err(_) => self.updates = None,
                },
                Ok(None) | Err(_) => {
                    (self.updates, self.channel) = (None, None);
                    sleep(AFTER_END).await;
                }
            }
        })
    }
}

/// All that is true of the identity's workload and that a registration entry may ask for. The agent gives what asks for
/// no more than this.
fn selectors(wanted: &Wanted) -> Vec<Selector> {
    let selector = |value| Selector { kind: "k8s".to_owned(), value };
    let identity = &wanted.identity;
    let mut all = vec![
        selector(format!("ns:{}", identity.namespace)),
        selector(format!("sa:{}", identity.service_account)),
    ];
    if let Some(workload) = &wanted.workload {
        all.push(selector(format!("pod-name:{}", workload.pod.name)));
        all.extend(workload.uid.as_ref().map(|uid| selector(format!("pod-uid:{uid}"))));
        all.extend(workload.node.as_ref().map(|node| selector(format!("node-name:{node}"))));
        all.extend(workload.labels.iter().map(|(key, value)| selector(format!("pod-label:{key}:{value}"))));
    }
    all
}
