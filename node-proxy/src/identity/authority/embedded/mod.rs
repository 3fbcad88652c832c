//! The authority inside the daemon: a root on disk, an intermediate per start, short leaves.
//!
//! Signing is on a thread of its own, which sees the bytes of signing requests and nothing else of a cell. The root's key is in
//! memory only while it signs an intermediate.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use config::identity::{Identity, TrustDomain};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use rustls::{pki_types::CertificateDer, time_provider::TimeProvider};
use tokio::sync::{oneshot, watch};

use self::signer::Signer;
pub use self::{directory::DirectoryError, issuer::Leaf};
use super::{
    AuthorityError, Certificate, CertificateAuthority, CertificateSource, Issued, OnBehalf, Request, Wanted,
};
use crate::identity::trust::Roots;

// What lies on disk, and how it is changed.
pub mod directory;
pub mod held;
pub mod rotation;

// What is made of it.
mod issuer;
mod signer;

pub mod export;

/// Signing requests that may wait. A cell whose request finds no room tries again.
const WAITING: usize = 1024;
/// Enough to sign and to parse.
const STACK_BYTES: usize = 512 * 1024;

/// What the embedded authority is made with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the root lies, or is made.
    pub directory: PathBuf,
    /// Whose identities it vouches for.
    pub trust_domain: TrustDomain,
    /// How long a leaf is valid.
    pub lifetime: Duration,
    /// The time.
    pub clock: Arc<dyn TimeProvider>,
}

/// The embedded authority. Ends with its last clone.
#[derive(Debug, Clone)]
pub struct Embedded {
    orders: SyncSender<Order>,
    roots: watch::Receiver<Option<Arc<Roots>>>,
    signer: watch::Receiver<u64>,
}

/// What the signing thread is asked.
#[derive(Debug)]
struct Order {
    identity: Identity,
    request: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<CertificateDer<'static>>, AuthorityError>>,
}

impl Embedded {
    /// Opens the directory, making a root if it has none, and starts the signing thread.
    pub fn start(options: Options) -> Result<Self, DirectoryError> {
        let signer = Signer::open(options)?;
        let (orders, inbox) = mpsc::sync_channel(WAITING);
        let (roots, generation) = (signer.roots(), signer.generation());
        thread::Builder::new()
            .name("authority".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || signer.run(&inbox))
            .map_err(DirectoryError::Thread)?;
        Ok(Self { orders, roots, signer: generation })
    }
}

impl CertificateAuthority for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        Box::new(Source {
            identity: wanted.identity.clone(),
            orders: self.orders.clone(),
            signer: self.signer.clone(),
        })
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.roots.clone()
    }

    fn on_behalf(&self) -> Option<Arc<dyn OnBehalf>> {
        Some(Arc::new(self.clone()))
    }
}

impl OnBehalf for Embedded {
    fn issue(
        &self,
        identity: &Identity,
        request: Vec<u8>,
    ) -> BoxFuture<'static, Result<Issued, AuthorityError>> {
        let (orders, identity) = (self.orders.clone(), identity.clone());
        Box::pin(async move { Ok(Issued::Chain(sign(&orders, &identity, request).await?)) })
    }

    fn newer(&self, _: &Identity) -> BoxFuture<'static, ()> {
        let mut signer = self.signer.clone();
        signer.mark_unchanged();
        Box::pin(async move { another(&mut signer).await })
    }
}

/// One identity's, in its cell.
struct Source {
    identity: Identity,
    orders: SyncSender<Order>,
    signer: watch::Receiver<u64>,
}

impl CertificateSource for Source {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        Box::pin(async move {
            self.signer.mark_unchanged();
            let request = Request::new(&self.identity)?;
            let chain = sign(&self.orders, &self.identity, request.der().to_vec()).await?;
            Ok(request.fulfil(chain)?)
        })
    }

    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(another(&mut self.signer))
    }
}

/// Has a request signed.
async fn sign(
    orders: &SyncSender<Order>,
    identity: &Identity,
    request: Vec<u8>,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let (answer, chain) = oneshot::channel();
    orders.try_send(Order { identity: identity.clone(), request, answer }).map_err(|error| {
        AuthorityError::Unavailable(match error {
            TrySendError::Full(_) => "too many requests wait".to_owned(),
            TrySendError::Disconnected(_) => "its thread has ended".to_owned(),
        })
    })?;
    chain.await.map_err(|_| AuthorityError::Unavailable("its thread has ended".to_owned()))?
}

/// Another root signs from now on.
async fn another(signer: &mut watch::Receiver<u64>) {
    if signer.changed().await.is_err() {
        std::future::pending().await
    }
}
