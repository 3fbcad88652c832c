//! The wall clock is set while a daemon runs: certificates are valid by it, and by no other.
//!
//! The machine's own clock is everybody's and is never set here: it is an argument of what is tested.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::LocalBoxFuture;
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, sleep},
};

use super::{
    rotation::started,
    support::{Anything, NOW, Odd, at, cart},
};
use crate::identity::{
    authority::{AuthorityError, CertificateAuthority, CertificateSource, Wanted},
    certificate::Certificate,
    credentials::{CredentialError, Sources},
    trust::Roots,
};

/// A wall clock that goes as tokio's does, and can be set.
#[derive(Debug, Clone)]
struct Settable {
    began: Instant,
    /// Seconds.
    ahead: Arc<AtomicI64>,
}

impl TimeProvider for Settable {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at((NOW + self.began.elapsed().as_secs()).saturating_add_signed(self.ahead.load(Relaxed))))
    }
}

/// Signs for an hour each, by the same clock: it is on the same machine.
#[derive(Clone)]
struct Beside {
    authority: Arc<Anything>,
    roots: Arc<watch::Sender<Option<Arc<Roots>>>>,
    clock: Settable,
    signed: Arc<AtomicU64>,
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

impl CertificateAuthority for Beside {
    fn name(&self) -> &'static str {
        "beside"
    }

    fn source(&self, _: &Wanted) -> Box<dyn CertificateSource> {
        Box::new(self.clone())
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.roots.subscribe()
    }
}

impl CertificateSource for Beside {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        let now = self.clock.current_time().map_or(NOW, |now| now.as_secs());
        let (leaf, key) = self.authority.sign(&Odd { from: now - 60, until: now + 3600, ..Odd::default() });
        self.signed.fetch_add(1, Relaxed);
        Box::pin(async move { Ok(Certificate::new(vec![leaf], key, &cart())?) })
    }
}

fn beside() -> (Beside, Sources) {
    let authority = Arc::new(Anything::new("beside"));
    let roots = Arc::new(watch::Sender::new(Some(authority.trust().roots)));
    let clock = Settable { began: Instant::now(), ahead: Arc::default() };
    let beside = Beside { authority, roots, clock: clock.clone(), signed: Arc::default() };
    let sources = Sources { clock: Arc::new(clock), ..Sources::new(Arc::new(beside.clone())) };
    (beside, sources)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_past_a_certificates_end_has_it_renewed_within_a_minute() {
    LocalSet::new()
        .run_until(async {
            let (beside, sources) = beside();
            let (credentials, _ledger, _kept) = started(sources);
            credentials.server(&cart()).await.unwrap();
            beside.clock.ahead.store(7200, Relaxed);
            let error = credentials.server(&cart()).await.unwrap_err();
            assert!(matches!(error, CredentialError::Expired { .. }), "{error}");
            sleep(Duration::from_secs(61)).await;
            credentials.server(&cart()).await.expect("another by the new time");
            assert_eq!(beside.signed.load(Relaxed), 2);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_before_a_certificates_begin_has_it_renewed_within_a_minute() {
    LocalSet::new()
        .run_until(async {
            let (beside, sources) = beside();
            let (credentials, _ledger, _kept) = started(sources);
            credentials.server(&cart()).await.unwrap();
            beside.clock.ahead.store(-7200, Relaxed);
            sleep(Duration::from_secs(61)).await;
            assert_eq!(beside.signed.load(Relaxed), 2, "peers take a certificate only from its begin on");
        })
        .await;
}
