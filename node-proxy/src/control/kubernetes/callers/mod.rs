//! Who asks the control plane over the network: the API server's word about the token that he shows, and the node of the pod that it was
//! made for. One way for all that is asked, certificates and the mesh alike.
//!
//! It must never log a token, ask about one that others could have read, or cost the API server more than it would mind.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use config::name::NodeName;
use http::Method;
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    KubernetesError, Residents, Standing, access,
    access::Access,
    api::{Api, ApiError, JSON},
};

pub use self::{caller::Account, metrics::Scrape, refusal::Refusal};
pub(super) use self::{caller::Caller, refusal::Figures};

use self::strangers::{Entry, Place, Print, Strangers};

mod caller;
mod metrics;
mod refusal;
mod strangers;

/// Who is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// For whom tokens have to be.
    pub audience: String,
    /// Service accounts of nodes' daemons.
    pub accounts: Vec<Account>,
}

/// Asks the API server who somebody is.
pub struct Callers {
    believed: Believed,
    api: Api,
    residents: Arc<Residents>,
    standing: Arc<Standing>,
    /// Reviews of tokens that are under way.
    reviews: Semaphore,
    /// Of these, of tokens that were not good lately.
    strangers_reviews: Semaphore,
    strangers: Strangers,
    /// What became of who wanted to read the mesh.
    readers: Figures,
}

/// What somebody shows.
#[derive(Debug, Clone, Copy)]
pub struct Presents<'a> {
    /// The bearer token.
    pub token: Option<&'a str>,
    /// Where he comes from; `None` on a Unix socket.
    pub from: Option<IpAddr>,
    /// Whether nobody on the way reads along.
    pub secure: bool,
}

impl Callers {
    /// Finds the cluster. Nothing is asked yet.
    pub async fn open(
        believed: Believed,
        access: &Access,
        residents: Arc<Residents>,
        standing: Arc<Standing>,
    ) -> Result<Arc<Self>, KubernetesError> {
        Ok(Self::with(believed, access::client(access.find().await?)?, residents, standing))
    }

    /// The same, where the cluster has been found.
    pub(super) fn with(
        believed: Believed,
        client: kube::Client,
        residents: Arc<Residents>,
        standing: Arc<Standing>,
    ) -> Arc<Self> {
        Arc::new(Self {
            believed,
            api: Api::new(client, MOST_BYTES),
            residents,
            standing,
            reviews: Semaphore::new(REVIEWS),
            strangers_reviews: Semaphore::new(STRANGERS_REVIEWS),
            strangers: Strangers::new(STRANGER_BURST, STRANGER_PAUSE),
            readers: Figures::default(),
        })
    }

    /// The node whose daemon asks for the mesh; `None` if a pod's sidecar does, which reads as no node: what nodes alone are told is
    /// nothing of its own.
    pub async fn node(&self, shown: Presents<'_>) -> Result<Option<NodeName>, Refusal> {
        let caller = self.admit(shown, true).await;
        caller.and_then(|caller| self.reads_as(&caller)).inspect_err(|refusal| self.readers.refuse(*refusal))
    }

    fn reads_as(&self, caller: &Caller) -> Result<Option<NodeName>, Refusal> {
        let node = self.node_of(caller)?;
        let named = || NodeName::try_from(node.as_str()).map_err(|_| Refusal::Node);
        self.is_daemon(caller).then(named).transpose()
    }

    /// Who asks, whoever it is.
    pub(super) async fn caller(&self, shown: Presents<'_>) -> Result<Caller, Refusal> {
        self.admit(shown, false).await
    }

    /// Who asks. Who has shown nothing that was taken is listened to less, wherever he comes from.
    async fn admit(&self, shown: Presents<'_>, as_reader: bool) -> Result<Caller, Refusal> {
        if !shown.secure {
            return Err(Refusal::InTheClear);
        }
        let from = address(shown.from);
        let Some(token) = shown.token.filter(|token| !token.is_empty()) else {
            let has_paid = self.strangers.pay(&from, Instant::now());
            return Err(if has_paid { Refusal::TokenMissing } else { Refusal::Rate });
        };
        let asked = timeout(REVIEW, self.ask(token, &from, as_reader));
        // Whoever has a place then has paid: no address makes the API server busy for nothing.
        asked.await.unwrap_or_else(|_| {
            tracing::warn!(error = %ApiError::Silent(REVIEW), "a token could not be reviewed");
            Err(Refusal::ApiServer)
        })
    }

    async fn ask(&self, token: &str, from: &str, as_reader: bool) -> Result<Caller, Refusal> {
        let print = Print::of(token);
        let place = loop {
            match self.strangers.enter(from, print, as_reader, Instant::now()) {
                Entry::Known => break None,
                Entry::Stranger(place) => break Some(place),
                Entry::Refused => return Err(Refusal::Rate),
                Entry::Wait(mut reviewed) => {
                    // Its sender says nothing, and goes when it is known what came of it.
                    let _ = reviewed.changed().await;
                }
            }
        };
        if !self.standing.is_complete() {
            give_back(place);
            return Err(Refusal::NotReady);
        }
        let review = match self.review(token, place.is_some()).await {
            Ok(review) => review,
            Err(error) => {
                tracing::warn!(%error, "a token could not be reviewed");
                if !matches!(error, ApiError::Silent(_)) {
                    // That it is away is nobody's fault here, and costs it nothing.
                    give_back(place);
                }
                return Err(Refusal::ApiServer);
            }
        };
        let caller = match Caller::read(&review, &self.believed.audience) {
            Ok(caller) if as_reader && !self.may_read(&caller) => Err(Refusal::Account),
            caller => caller,
        };
        match &caller {
            Ok(caller) => {
                self.strangers.welcome(print, self.may_read(caller), Instant::now());
                give_back(place);
            }
            // A workload's, which is good where it may ask.
            Err(Refusal::Account) => {}
            Err(_) => self.strangers.forget(print),
        }
        caller
    }

    /// Whether he is told the mesh: a node's daemon, and a pod's sidecar.
    fn may_read(&self, caller: &Caller) -> bool {
        self.is_daemon(caller) || caller.has_sidecar(&self.residents)
    }

    /// Whether this is a node's daemon.
    pub(super) fn is_daemon(&self, caller: &Caller) -> bool {
        self.believed.accounts.contains(&caller.account)
    }

    /// The node that a caller asks from.
    pub(super) fn node_of(&self, caller: &Caller) -> Result<String, Refusal> {
        caller.node(&self.residents)
    }

    async fn review(&self, token: &str, is_strangers: bool) -> Result<Value, ApiError> {
        // Neither is ever closed. Strangers leave some places to those who are known.
        let _stranger = match is_strangers {
            true => Some(self.strangers_reviews.acquire().await),
            false => None,
        };
        let _place = self.reviews.acquire().await;
        let review = caller::review(token, &self.believed.audience);
        self.api.exchange(Method::POST, TOKEN_REVIEWS, Some((JSON, &review))).await
    }
}

fn give_back(place: Option<Place<'_>>) {
    if let Some(place) = place {
        place.give_back(Instant::now());
    }
}

/// Where he comes from, as the log and the bounds have it; nothing on a Unix socket.
fn address(from: Option<IpAddr>) -> String {
    from.map(|from| from.to_canonical().to_string()).unwrap_or_default()
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").field("believed", &self.believed).finish_non_exhaustive()
    }
}

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
/// Of an answer.
const MOST_BYTES: usize = 1 << 20;
/// Reviews at a time. Each takes some milliseconds of the API server's.
const REVIEWS: usize = 32;
/// Of these, for tokens that were not good lately.
const STRANGERS_REVIEWS: usize = 24;
/// How long a review may take, with waiting for a place: less than who asks waits for all.
const REVIEW: Duration = Duration::from_secs(7);
/// Tokens of an address that are refused at once, and after how long one more: each costs the API server a review.
pub(super) const STRANGER_BURST: u32 = 20;
const STRANGER_PAUSE: Duration = Duration::from_secs(1);
