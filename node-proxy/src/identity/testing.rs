//! An authority for tests, real in every part: the embedded one, on a directory of its own.
//!
//! Never part of a daemon: compiled for tests only.

use std::{rc::Rc, sync::Arc, time::Duration};

use config::identity::{Identity, TrustDomain};
use rustls::{pki_types::CertificateDer, time_provider::DefaultTimeProvider};
use tempfile::TempDir;
use tokio::{sync::watch, task};

use super::{
    authority::{
        CertificateAuthority, CertificateSource, OnBehalf, Wanted,
        embedded::{Embedded, Options},
    },
    credentials::{Credentials, Kept, Sources},
    trust::{Roots, Trust},
};
use crate::tenancy::Ledger;

/// An embedded authority whose directory goes with it.
#[derive(Debug, Clone)]
pub struct TestAuthority {
    embedded: Embedded,
    directory: Arc<TempDir>,
}

impl TestAuthority {
    /// Of trust domain `cluster.local`, with leaves for an hour.
    ///
    /// # Panics
    /// If there is no room for its directory.
    pub fn new() -> Self {
        Self::of(TrustDomain::default())
    }

    /// Of another trust domain.
    ///
    /// # Panics
    /// If there is no room for its directory.
    #[expect(clippy::expect_used, reason = "for tests only")]
    pub fn of(trust_domain: TrustDomain) -> Self {
        let directory = tempfile::Builder::new().prefix("canopy-ca-").tempdir().expect("a directory");
        let embedded = Embedded::start(Options {
            directory: directory.path().to_owned(),
            trust_domain,
            lifetime: Duration::from_secs(3600),
            clock: Arc::new(DefaultTimeProvider),
        });
        Self { embedded: embedded.expect("an authority"), directory: Arc::new(directory) }
    }

    /// Its directory.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// What a cell is given.
    pub fn sources(&self) -> Sources {
        Sources::new(Arc::new(self.clone()))
    }
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl CertificateAuthority for TestAuthority {
    fn name(&self) -> &'static str {
        "test"
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        self.embedded.source(wanted)
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.embedded.roots()
    }

    fn on_behalf(&self) -> Option<Arc<dyn OnBehalf>> {
        self.embedded.on_behalf()
    }
}

/// A sound chain and what it is judged by.
#[derive(Debug)]
pub struct Fixed {
    /// Whose it is.
    pub identity: Identity,
    /// Leaf and intermediate.
    pub chain: Vec<CertificateDer<'static>>,
    /// What vouches for it.
    pub trust: Trust,
}

/// A sound chain, new at every call.
///
/// # Panics
/// If there is no room for an authority's directory.
#[expect(clippy::expect_used, reason = "for tests only")]
pub fn fixed_chain() -> Fixed {
    let authority = TestAuthority::new();
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/cart".parse().expect("an identity");
    let mut source = authority.source(&Wanted::of(identity.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let certificate = runtime.block_on(source.obtain()).expect("a certificate");
    let roots = authority.roots().borrow().clone().expect("roots");
    let trust = Trust { trust_domain: identity.trust_domain.clone(), roots, revocations: Arc::default() };
    Fixed { identity, chain: certificate.chain().to_vec(), trust }
}

/// Credentials that are looked after by a task of the `LocalSet` they are made in.
pub fn credentials(sources: Sources, identities: &[Identity]) -> (Rc<Credentials>, Vec<Kept>) {
    let credentials = Credentials::new(sources, Arc::<Ledger>::default());
    let kept = identities.iter().map(|identity| credentials.keep(identity, None)).collect();
    task::spawn_local(Rc::clone(&credentials).run());
    (credentials, kept)
}

/// What a cell is given that needs no certificates: none can be had.
pub fn no_sources() -> Sources {
    Sources::new(Arc::new(Nobody(watch::Sender::new(None))))
}

#[derive(Debug)]
struct Nobody(watch::Sender<Option<Arc<Roots>>>);

impl CertificateAuthority for Nobody {
    fn name(&self) -> &'static str {
        "none"
    }

    fn source(&self, _wanted: &Wanted) -> Box<dyn CertificateSource> {
        Box::new(Silent)
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.0.subscribe()
    }
}

struct Silent;

impl CertificateSource for Silent {
    fn obtain(
        &mut self,
    ) -> futures_util::future::LocalBoxFuture<
        '_,
        Result<super::certificate::Certificate, super::authority::AuthorityError>,
    > {
        Box::pin(std::future::pending())
    }
}
