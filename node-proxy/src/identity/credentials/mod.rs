//! The certificates of one cell: one per identity that has a tree in it, kept fresh, and made into what rustls takes.
//!
//! `!Send`, and so are the keys' signers in it: they never leave the cell's thread. A certificate is used until it expires
//! for its peers, however long its authority is away. It must never hold up a planting: what is not there yet is waited for by who
//! needs it.

use std::{
    cell::{Cell as Slot, RefCell},
    collections::HashMap,
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use config::{identity::Identity, model::Workload};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::UnixTime,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use tokio::sync::{Notify, watch};

use self::kept::Holding;
use super::{
    authority::CertificateAuthority,
    tls,
    trust::{Revocations, Roots, Trust},
    verify::SKEW,
};
use crate::{forest::describe::CertificateDescription, telemetry::Reason, tenancy::Ledger};

pub use self::sessions::{Peer, Session, Standing};

mod kept;
mod renewal;
mod sessions;

/// How long a connection waits for the first certificate of its identity.
const FIRST: Duration = Duration::from_secs(5);

/// Where certificates and trust come from: what a cell is given. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Who signs.
    pub authority: Arc<dyn CertificateAuthority>,
    /// What has been taken back.
    pub revocations: watch::Receiver<Arc<Revocations>>,
    /// The time.
    pub clock: Arc<dyn TimeProvider>,
}

impl Sources {
    /// Certificates of `authority`; nothing is revoked, and the time is the system's.
    pub fn new(authority: Arc<dyn CertificateAuthority>) -> Self {
        let revocations = watch::Sender::new(Arc::default()).subscribe();
        Self { authority, revocations, clock: Arc::new(DefaultTimeProvider) }
    }
}

/// Why there is nothing to speak with.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// No tree of that identity is in this cell.
    #[error("{0} has no workload here")]
    Unknown(Identity),
    /// None came in time.
    #[error("{identity} has no certificate yet: {problem}")]
    NotYet {
        /// Whose.
        identity: Identity,
        /// What is in the way.
        problem: String,
    },
    /// The last one is too old, and no other came.
    #[error("the certificate of {identity} has expired: {problem}")]
    Expired {
        /// Whose.
        identity: Identity,
        /// What is in the way of another.
        problem: String,
    },
    /// rustls does not take it.
    #[error("TLS cannot be spoken with this certificate")]
    Tls(#[from] rustls::Error),
}

impl CredentialError {
    /// Its label.
    pub fn reason(&self) -> Reason {
        Reason::CertificateUnavailable
    }
}

/// The certificates of one cell.
pub struct Credentials {
    sources: Sources,
    ledger: Arc<Ledger>,
    tls: tls::Parts,
    holdings: RefCell<HashMap<Identity, Rc<Holding>>>,
    /// Those that nobody looks after yet.
    unkept: RefCell<Vec<Rc<Holding>>>,
    /// Somebody is in `unkept`.
    wanted: Notify,
    roots: RefCell<Option<Arc<Roots>>>,
    revocations: RefCell<Arc<Revocations>>,
    /// Counts up with every change of trust.
    trust_version: watch::Sender<u64>,
    /// What was established with them, and goes on.
    sessions: Rc<sessions::Sessions>,
    first: Slot<Duration>,
}

impl Credentials {
    /// No identity yet. `ledger` is told how certificates fare.
    pub fn new(sources: Sources, ledger: Arc<Ledger>) -> Rc<Self> {
        let revocations = Arc::clone(&sources.revocations.borrow());
        let clock = Arc::clone(&sources.clock);
        Rc::new(Self {
            tls: tls::Parts { provider: Arc::new(tls::provider()), clock },
            roots: RefCell::new(sources.authority.roots().borrow().clone()),
            revocations: RefCell::new(revocations),
            sources,
            ledger,
            holdings: RefCell::default(),
            unkept: RefCell::default(),
            wanted: Notify::new(),
            trust_version: watch::Sender::new(0),
            sessions: Rc::default(),
            first: Slot::new(FIRST),
        })
    }

    /// Keeps a certificate of `identity` fresh for as long as what it returns lives. Returns at once; [`Credentials::run`]
    /// does the work.
    pub fn keep(self: &Rc<Self>, identity: &Identity, workload: Option<&Arc<Workload>>) -> Kept {
        let mut holdings = self.holdings.borrow_mut();
        let holding = holdings.entry(identity.clone()).or_insert_with(|| {
            let holding = Rc::new(Holding::new(identity.clone()));
            self.unkept.borrow_mut().push(Rc::clone(&holding));
            self.wanted.notify_one();
            holding
        });
        holding.hold(workload);
        let workload = RefCell::new(workload.map(Arc::clone));
        Kept { credentials: Rc::clone(self), holding: Rc::clone(holding), workload }
    }

    /// What to connect with as `own`, to whoever proves to be one of `allowed`. Shared by equal calls until the
    /// certificate or the trust changes.
    pub async fn client(
        &self,
        own: &Identity,
        allowed: &[Identity],
    ) -> Result<Arc<ClientConfig>, CredentialError> {
        let (holding, trust) = self.ready(own).await?;
        Ok(holding.client(&self.tls, trust, allowed)?)
    }

    /// What to accept with as `own`, from whoever proves to be of its trust domain.
    pub async fn server(&self, own: &Identity) -> Result<Arc<ServerConfig>, CredentialError> {
        let (holding, trust) = self.ready(own).await?;
        Ok(holding.server(&self.tls, trust)?)
    }

    /// How long [`client`](Self::client) and [`server`](Self::server) wait for a first certificate.
    pub fn set_patience(&self, first: Duration) {
        self.first.set(first);
    }

    /// Counts up whenever roots or revocations change: who was believed before is asked about again.
    pub fn trust_version(&self) -> u64 {
        *self.trust_version.borrow()
    }

    /// What peers of `own` are judged by now; `None` as long as no root is known.
    pub fn trust(&self, own: &Identity) -> Option<Trust> {
        let holdings = self.holdings.borrow();
        let own_roots = holdings.get(own).and_then(|holding| holding.roots());
        let roots = own_roots.or_else(|| self.roots.borrow().clone())?;
        let revocations = Arc::clone(&self.revocations.borrow());
        Some(Trust { trust_domain: own.trust_domain.clone(), roots, revocations })
    }

    /// The time, as certificates are judged by it.
    pub fn now(&self) -> UnixTime {
        self.sources.clock.current_time().unwrap_or_else(UnixTime::now)
    }

    /// How the certificate of an identity fares, for `canopy tree`. Nothing secret.
    pub fn describe(&self, identity: &Identity) -> Option<CertificateDescription> {
        let holdings = self.holdings.borrow();
        holdings.get(identity).map(|holding| holding.describe(self.sources.authority.name()))
    }

    async fn ready(&self, own: &Identity) -> Result<(Rc<Holding>, Trust), CredentialError> {
        let holding = self.holdings.borrow().get(own).map(Rc::clone);
        let holding = holding.ok_or_else(|| CredentialError::Unknown(own.clone()))?;
        if !holding.has_certificate() {
            // Whether it came in time is asked below.
            let _ = tokio::time::timeout(self.first.get(), holding.arrival()).await;
        }
        let (identity, problem) = (own.clone(), holding.problem());
        match (holding.expires(), self.trust(own)) {
            // As peers judge it, whose clocks may be behind: what they would still take is not kept from them.
            (Some(at), _) if at.as_secs().saturating_add(SKEW.as_secs()) < self.now().as_secs() => {
                Err(CredentialError::Expired { identity, problem })
            }
            (Some(_), Some(trust)) => Ok((holding, trust)),
            _ => Err(CredentialError::NotYet { identity, problem }),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authority", &self.sources.authority.name())
            .field("identities", &self.holdings.borrow().len())
            .finish_non_exhaustive()
    }
}

/// Somebody needs the certificate of an identity: one per tree.
pub struct Kept {
    credentials: Rc<Credentials>,
    holding: Rc<Holding>,
    workload: RefCell<Option<Arc<Workload>>>,
}

impl Kept {
    /// Takes up what is known of the tree's workload now: authorities may ask for more than its name.
    pub fn follow(&self, now: &Arc<Workload>) {
        let mut workload = self.workload.borrow_mut();
        if let Some(before) = workload.as_mut()
            && !Arc::ptr_eq(before, now)
            && **before != **now
        {
            self.holding.replace(before, now);
            *before = Arc::clone(now);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.holding.release(self.workload.get_mut().as_ref()) {
            self.credentials.holdings.borrow_mut().remove(self.holding.identity());
            self.credentials.account();
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(self.holding.identity()).finish()
    }
}
