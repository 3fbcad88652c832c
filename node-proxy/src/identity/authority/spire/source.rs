//! The certificates of one identity, in its cell: one stream of the agent's, on a connection of its own.
//!
//! The agent renews at half of a certificate's time by itself and pushes what is new. An identity that SPIRE has no entry for yet
//! keeps its stream open: the entry arrives by it.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use config::{identity::Identity, model::Workload};
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
    certificate::{Certificate, CertificateError},
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
    /// There is no entry that fits.
    missing: bool,
    /// What the agent was told to be true of the workloads.
    told: Vec<Selector>,
}

impl Source {
    pub(super) fn new(socket: Arc<Path>, wanted: Wanted, roots: watch::Receiver<Option<Arc<Roots>>>) -> Self {
        Self {
            socket,
            wanted,
            roots,
            channel: None,
            updates: None,
            pushed: None,
            missing: false,
            told: Vec::new(),
        }
    }

    /// Asks anew: the first answer is what the agent has now.
    pub(super) async fn subscribe(&mut self) -> Result<SvidWithKey, AuthorityError> {
        self.updates = None;
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => connect(&self.socket).await?,
        };
        let workloads = self.wanted.workloads.borrow_and_update().clone();
        self.told = selectors(&self.wanted.identity, &workloads);
        let question = SvidsRequest { selectors: self.told.clone() };
        let mut updates = match grpc::subscribe::<_, Svids>(channel.clone(), SVIDS, question).await {
            Ok(updates) => updates,
            Err(status) => return Err(refusal(&status)),
        };
        let first = updates.message().await.map_err(|status| refusal(&status))?;
        let first =
            first.ok_or_else(|| AuthorityError::Unavailable("the agent ended the stream".to_owned()))?;
        (self.channel, self.updates) = (Some(channel), Some(updates));
        let chosen = choose(&self.wanted.identity, first);
        self.missing = chosen.is_err();
        chosen
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
            Ok(certificate(svid, &self.wanted.identity)?)
        })
    }

    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(updates) = &mut self.updates else { return std::future::pending().await };
            let update = loop {
                tokio::select! {
                    update = updates.message() => break update,
                    Ok(()) = self.wanted.workloads.changed() => {}
                }
                let workloads = self.wanted.workloads.borrow_and_update();
                // What is true of another workload may fit an entry; and what an entry asked for may not be true any more.
                if self.missing || is_outdated(&self.told, &selectors(&self.wanted.identity, &workloads)) {
                    return;
                }
            };
            match update {
                Ok(Some(update)) => match choose(&self.wanted.identity, update) {
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

/// Whether something that the agent was told is not true any more.
pub(super) fn is_outdated(told: &[Selector], now: &[Selector]) -> bool {
    told.iter().any(|selector| !now.contains(selector))
}

/// The wanted identity's among those that match its selectors; never another's.
pub(super) fn choose(identity: &Identity, update: Svids) -> Result<SvidWithKey, AuthorityError> {
    let wanted = identity.to_string();
    let id = |svid: &SvidWithKey| Some(svid.x509_svid.as_ref()?.id.as_ref()?.to_string());
    let others: Vec<_> = update.x509_svids.iter().filter_map(id).collect();
    let found = update.x509_svids.into_iter().find(|svid| id(svid).as_ref() == Some(&wanted));
    found.ok_or_else(|| {
        let besides = match others.len() {
            0 => String::new(),
            _ => format!("; what fits is of no use: {}", others.join(", ")),
        };
        let (namespace, account) = (&identity.namespace, &identity.service_account);
        AuthorityError::Setup {
            problem: format!("SPIRE has no entry for {wanted} on this node yet{besides}"),
            remedy: format!(
                "register one whose parent is this node's agent, with -selector k8s:ns:{namespace} \
                 -selector k8s:sa:{account}"
            ),
        }
    })
}

/// What the agent gave, as the wanted identity's certificate.
pub(super) fn certificate(
    mut svid: SvidWithKey,
    identity: &Identity,
) -> Result<Certificate, CertificateError> {
    let chain = svid.x509_svid.take().map(|svid| svid.cert_chain).unwrap_or_default();
    let chain = chain.into_iter().map(Into::into).collect();
    let key = PrivatePkcs8KeyDer::from(std::mem::take(&mut svid.x509_svid_key));
    Certificate::new(chain, key.into(), identity)
}

/// All that is true of the identity's workloads and that a registration entry may ask for. The agent gives every entry that asks
/// for no more than this, and of those only the identity itself is taken.
pub(super) fn selectors(identity: &Identity, workloads: &[Arc<Workload>]) -> Vec<Selector> {
    let mut values =
        BTreeSet::from([format!("ns:{}", identity.namespace), format!("sa:{}", identity.service_account)]);
    for workload in workloads {
        values.insert(format!("pod-name:{}", workload.pod.name));
        values.extend(workload.uid.iter().map(|uid| format!("pod-uid:{uid}")));
        values.extend(workload.node.iter().map(|node| format!("node-name:{node}")));
        values.extend(workload.labels.iter().map(|(key, value)| format!("pod-label:{key}:{value}")));
    }
    values.into_iter().map(|value| Selector { kind: "k8s".to_owned(), value }).collect()
}
