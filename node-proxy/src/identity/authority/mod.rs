//! Where certificates come from: one trait, called from inside the tenant's cell, and its sources.
//!
//! A key is generated in the cell, and only the bytes of a signing request leave it; where a source makes the key, the cell
//! itself reads it. No source may keep a key, log it, or pass it through another thread's memory.

use std::{fmt, sync::Arc};

use config::{identity::Identity, model::Workload};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::{
    certificate::{Certificate, CertificateError},
    trust::{Roots, TrustError},
};

pub use self::{files::Opened, request::Request, retry::report};

pub mod embedded;
pub mod files;
pub mod istio;
pub mod remote;
pub mod spire;

pub(crate) mod dial;
pub(crate) mod grpc;
pub(crate) mod retry;

mod key;
mod request;

/// A source of certificates, shared by all cells. It holds nothing of any tenant.
pub trait CertificateAuthority: fmt::Debug + Send + Sync + 'static {
    /// As logs and `canopy tree` name it: `embedded`, `spire`.
    fn name(&self) -> &'static str;

    /// The certificates of one identity. Called in the cell, where what it returns lives as long as the identity has a
    /// workload there. Must not block nor do I/O.
    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource>;

    /// The roots that are trusted, and their changes. `None` until they are known; never `None` again.
    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>>;

    /// What the daemon does for cells that are processes of their own (see [`remote`]). `None` where a source can do nothing
    /// for them without having their keys.
    fn on_behalf(&self) -> Option<Arc<dyn OnBehalf>> {
        None
    }
}

/// What a source does for a cell that is another process. It is in the daemon, and never sees the cell's key.
pub trait OnBehalf: fmt::Debug + Send + Sync {
    /// Whether the cell makes the key, and `request` below is its signing request; otherwise that is empty.
    fn signs(&self) -> bool {
        true
    }

    /// A certificate of this identity, which is the cell's.
    fn issue(
        &self,
        identity: &Identity,
        request: Vec<u8>,
    ) -> BoxFuture<'static, Result<Issued, AuthorityError>>;

    /// Comes back when there is a newer certificate than at the time of this call.
    fn newer(&self, identity: &Identity) -> BoxFuture<'static, ()>;
}

/// What a source has for a cell that is another process.
#[derive(Debug)]
pub enum Issued {
    /// A chain for the key of the request.
    Chain(Vec<CertificateDer<'static>>),
    /// Files that the cell reads itself, open.
    Files(Opened),
}

/// Whom a certificate is for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The identity.
    pub identity: Identity,
    /// Its workloads in this cell, and their changes: for sources that ask by what is true of them.
    pub workloads: watch::Receiver<Vec<Arc<Workload>>>,
}

impl Wanted {
    /// For an identity of which no workload is known.
    pub fn of(identity: Identity) -> Self {
        Self { identity, workloads: watch::Sender::default().subscribe() }
    }
}

/// The certificates of one identity, one after the other. Lives in the cell.
pub trait CertificateSource {
    /// A certificate, as new as can be had. Called at the start, when half of the last one's time is over, after
    /// [`changed`](Self::changed), and again after each failure, with growing pauses. May be dropped half-way.
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>>;

    /// Comes back when the source has a newer certificate by itself. May be dropped half-way and called again.
    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// Why a source gives no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be reached, or has too much to do. Tried again.
    #[error("the authority does not answer: {0}")]
    Unavailable(String),
    /// It says no.
    #[error("the authority refuses: {0}")]
    Refused(String),
    /// What it gave is of no use.
    #[error("the authority gave a certificate that cannot be used")]
    Certificate(#[from] CertificateError),
    /// The roots it gave are of no use.
    #[error("the authority gave roots that cannot be used")]
    Roots(#[from] TrustError),
    /// No key could be made.
    #[error("no key could be made")]
    Key(#[source] rcgen::Error),
    /// A file cannot be read.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something is not set up as it has to be.
    #[error("{problem}; {remedy}")]
    Setup {
        /// What.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// It took too long.
    #[error("the authority did not answer in time")]
    Timeout,
}
