//! Who asks the control plane over the network: the API server's word about the token that he shows, and the node of the pod that it was
//! made for. One way for all that is asked, certificates and the mesh alike.
//!
//! It must never log a token, ask about one that others could have read, or cost the API server more than it would mind.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Method;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{
    KubernetesError, Residents, Standing, access,
    access::Access,
    api::{Api, ApiError, JSON},
    rate::{Buckets, lock},
};

pub use self::{caller::Account, refusal::Refusal};
pub(super) use self::{caller::Caller, refusal::Figures};

mod caller;
mod refusal;

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
    /// How often tokens of an address may be refused.
    strangers: Mutex<Buckets>,
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
            strangers: Mutex::new(Buckets::new(STRANGER_BURST, STRANGER_PAUSE)),
        })
    }

    /// The node whose daemon asks; `None` if a pod's sidecar does, which reads as no node: what nodes alone are told is nothing of its own.
    pub async fn node(&self, shown: Presents<'_>) -> Result<Option<String>, Refusal> {
        let caller = self.caller(shown).await?;
        let is_daemon = self.is_daemon(&caller);
        if !is_daemon && !caller.has_sidecar(&self.residents) {
            // Somebody's own, and the API server was asked for it all the same.
            lock(&self.strangers).take(&address(shown.from), Instant::now());
            return Err(Refusal::Account);
        }
        let node = self.node_of(&caller)?;
        Ok(is_daemon.then_some(node))
    }

    /// Who asks. Who has shown nothing that was taken is listened to less, wherever he comes from.
    pub(super) async fn caller(&self, shown: Presents<'_>) -> Result<Caller, Refusal> {
        if !shown.secure {
            return Err(Refusal::InTheClear);
        }
        let from = address(shown.from);
        if !lock(&self.strangers).may(&from, Instant::now()) {
            return Err(Refusal::Rate);
        }
        let caller = match shown.token.filter(|token| !token.is_empty()) {
            Some(_) if !self.standing.is_complete() => return Err(Refusal::NotReady),
            Some(token) => self.review(token).await,
            None => Err(Refusal::TokenMissing),
        };
        let is_stranger = matches!(
            caller,
            Err(Refusal::TokenMissing | Refusal::Token | Refusal::Audience | Refusal::Account)
        );
        if is_stranger {
            lock(&self.strangers).take(&from, Instant::now());
        }
        caller
    }

    /// Whether this is a node's daemon.
    pub(super) fn is_daemon(&self, caller: &Caller) -> bool {
        self.believed.accounts.contains(&caller.account)
    }

    /// The node that a caller asks from.
    pub(super) fn node_of(&self, caller: &Caller) -> Result<String, Refusal> {
        caller.node(&self.residents)
    }

    async fn review(&self, token: &str) -> Result<Caller, Refusal> {
        let audience = &self.believed.audience;
        let said = timeout(REVIEW, async {
            // Never closed.
            let _place = self.reviews.acquire().await;
            let review = caller::review(token, audience);
            self.api.exchange(Method::POST, TOKEN_REVIEWS, Some((JSON, &review))).await
        });
        match said.await.unwrap_or(Err(ApiError::Silent(REVIEW))) {
            Ok(review) => Caller::read(&review, audience),
            Err(error) => {
                tracing::warn!(%error, "a token could not be reviewed");
                Err(Refusal::ApiServer)
            }
        }
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
/// How long a review may take, with waiting for a place: less than who asks waits for all.
const REVIEW: Duration = Duration::from_secs(7);
/// Tokens of an address that are refused at once, and after how long one more: each costs the API server a review.
pub(super) const STRANGER_BURST: u32 = 20;
const STRANGER_PAUSE: Duration = Duration::from_secs(1);
