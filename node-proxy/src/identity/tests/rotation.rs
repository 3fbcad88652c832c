//! What changes while everything runs: certificates, roots, revocations. Nothing is refused that should not be.

use std::{
    cell::{Cell as Slot, RefCell},
    fs,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use config::identity::TrustDomain;
use futures_util::future::LocalBoxFuture;
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    time_provider::TimeProvider,
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{Instant, sleep},
};

use super::support::{Anything, NOW, Odd, Seen, at, call, cart, web};
use crate::{
    identity::{
        authority::{
            AuthorityError, CertificateAuthority, CertificateSource, Wanted,
            embedded::{
                Embedded, Options,
                rotation::{Step, step},
            },
        },
        certificate::Certificate,
        credentials::{CredentialError, Credentials, Sources},
        revocation,
        testing::{TestAuthority, credentials},
        trust::Roots,
    },
    tenancy::Ledger,
};

/// The wall clock as tokio's, so that a test may pause it.
#[derive(Debug)]
struct Paused(Instant);

impl TimeProvider for Paused {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(NOW + self.0.elapsed().as_secs()))
    }
}

/// Signs for ten minutes each, unless it is away.
struct Moody {
    authority: Anything,
    roots: watch::Sender<Option<Arc<Roots>>>,
    away: AtomicBool,
    began: Instant,
}

#[derive(Clone)]
pub(super) struct Handle(Arc<Moody>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Moody")
    }
}

struct MoodySource(Handle);

impl CertificateAuthority for Handle {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn source(&self, _: &Wanted) -> Box<dyn CertificateSource> {
        Box::new(MoodySource(self.clone()))
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.0.roots.subscribe()
    }
}

impl Handle {
    /// Trusts its own root and, besides, this one.
    pub(super) fn trust(&self, other: Option<&CertificateDer<'static>>) {
        let roots = [&self.0.authority.certificate].into_iter().chain(other).cloned();
        self.0.roots.send_replace(Some(Arc::new(Roots::new(roots).unwrap())));
    }
}

impl CertificateSource for MoodySource {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        let moody = &self.0.0;
        if moody.away.load(Relaxed) {
            return Box::pin(async { Err(AuthorityError::Unavailable("away".to_owned())) });
        }
        let now = NOW + moody.began.elapsed().as_secs();
        let (leaf, key) = moody.authority.sign(&Odd { from: now - 300, until: now + 600, ..Odd::default() });
        Box::pin(async move { Ok(Certificate::new(vec![leaf], key, &cart())?) })
    }
}

pub(super) fn moody() -> (Handle, Sources) {
    let authority = Anything::new("moody");
    let roots = watch::Sender::new(Some(authority.trust().roots));
    let began = Instant::now();
    let handle = Handle(Arc::new(Moody { authority, roots, away: AtomicBool::new(false), began }));
    let sources = Sources { clock: Arc::new(Paused(began)), ..Sources::new(Arc::new(handle.clone())) };
    (handle, sources)
}

pub(super) fn started(
    sources: Sources,
) -> (Rc<Credentials>, Arc<Ledger>, crate::identity::credentials::Kept) {
    let ledger = Arc::new(Ledger::default());
    let credentials = Credentials::new(sources, Arc::clone(&ledger));
    let kept = credentials.keep(&cart(), None);
    tokio::task::spawn_local(Rc::clone(&credentials).run());
    (credentials, ledger, kept)
}

#[tokio::test(start_paused = true)]
async fn certificate_is_renewed_at_half_of_its_time() {
    LocalSet::new()
        .run_until(async {
            let (_authority, sources) = moody();
            let (credentials, ledger, _kept) = started(sources);
            credentials.server(&cart()).await.unwrap();
            assert_eq!(ledger.certificates.load(Relaxed), 1);
            assert_eq!(ledger.certificate_expiry.load(Relaxed), NOW + 600);
            sleep(Duration::from_secs(265)).await;
            assert_eq!(ledger.certificates.load(Relaxed), 1, "not before half of it, but for the jitter");
            sleep(Duration::from_secs(70)).await;
            assert_eq!(ledger.certificates.load(Relaxed), 2);
            let until = ledger.certificate_expiry.load(Relaxed);
            assert!((NOW + 870..=NOW + 935).contains(&until), "{}", until - NOW);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn old_certificate_serves_until_it_expires_and_the_next_one_after() {
    LocalSet::new()
        .run_until(async {
            let (authority, sources) = moody();
            let (credentials, ledger, _kept) = started(sources);
            credentials.server(&cart()).await.unwrap();
            authority.0.away.store(true, Relaxed);
            sleep(Duration::from_secs(595)).await;
            credentials.server(&cart()).await.unwrap();
            // From about second 300 on: after 1, 2, 4, 8, 16 and 32 seconds, then a quarter of what is left, then 10 at a time.
            let failures = ledger.certificate_failures.load(Relaxed);
            assert!((11..=25).contains(&failures), "{failures}");
            sleep(Duration::from_secs(300)).await;
            credentials.server(&cart()).await.expect("peers take it for five minutes more");
            let later = ledger.certificate_failures.load(Relaxed) - failures;
            assert!((24..=38).contains(&later), "every 10 seconds or so: {later}");
            sleep(Duration::from_secs(10)).await;
            let error = credentials.server(&cart()).await.unwrap_err();
            assert!(matches!(error, CredentialError::Expired { .. }), "{error}");
            assert!(credentials.describe(&cart()).unwrap().problem.unwrap().contains("away"));
            authority.0.away.store(false, Relaxed);
            sleep(Duration::from_secs(13)).await;
            credentials.server(&cart()).await.unwrap();
            assert_eq!(credentials.describe(&cart()).unwrap().problem, None);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn identity_without_a_tree_is_kept_no_longer() {
    LocalSet::new()
        .run_until(async {
            let (_authority, sources) = moody();
            let (credentials, ledger, kept) = started(sources);
            let again = credentials.keep(&cart(), None);
            credentials.server(&cart()).await.unwrap();
            drop(kept);
            credentials.server(&cart()).await.unwrap();
            drop(again);
            assert!(matches!(credentials.server(&cart()).await, Err(CredentialError::Unknown(_))));
            assert_eq!(ledger.certificate_expiry.load(Relaxed), 0);
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(ledger.certificates.load(Relaxed), 1, "nobody renews it");
            let _kept = credentials.keep(&cart(), None);
            credentials.server(&cart()).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn root_is_changed_under_traffic_and_nothing_is_refused() {
    let directory = TempDir::new().unwrap();
    let daemon = || {
        let embedded = Embedded::start(Options {
            directory: directory.path().to_owned(),
            trust_domain: TrustDomain::default(),
            lifetime: Duration::from_secs(3600),
            clock: Arc::new(rustls::time_provider::DefaultTimeProvider),
        });
        Sources::new(Arc::new(embedded.unwrap()))
    };
    let turn = |which| step(directory.path(), &TrustDomain::default(), UnixTime::now(), which).unwrap();
    LocalSet::new()
        .run_until(async {
            let (a, _kept) = credentials(daemon(), &[web()]);
            let (b, _kept) = credentials(daemon(), &[cart()]);
            let serial = |of: &Rc<Credentials>, id: &_| of.describe(id).unwrap().serial.unwrap();
            let (refused, made) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Slot::new(0)));
            let (calls, log, count) = ((Rc::clone(&a), Rc::clone(&b)), Rc::clone(&refused), Rc::clone(&made));
            let traffic = tokio::task::spawn_local(async move {
                loop {
                    let seen = call((&calls.0, &web()), &cart(), (&calls.1, &cart())).await;
                    if seen != (Seen { by_client: Ok(cart()), by_server: Ok(web()) }) {
                        log.borrow_mut().push(seen);
                    }
                    count.set(count.get() + 1);
                    sleep(Duration::from_millis(2)).await;
                }
            });
            let roots = || {
                (
                    a.trust(&web()).unwrap().roots.certificates().len(),
                    b.trust(&cart()).unwrap().roots.certificates().len(),
                )
            };
            let wait = async |what: &str, done: &dyn Fn() -> bool| {
                for _ in 0..6000 {
                    if done() {
                        return;
                    }
                    sleep(Duration::from_millis(10)).await;
                }
                panic!("{what} did not happen");
            };
            call((&a, &web()), &cart(), (&b, &cart())).await;
            let before = (serial(&a, &web()), serial(&b, &cart()));
            let traffic_goes_on = async || {
                let enough = made.get() + 5;
                wait("traffic", &|| made.get() >= enough).await;
            };
            traffic_goes_on().await;
            turn(Step::Prepare);
            wait("trust in both roots", &|| roots() == (2, 2)).await;
            assert_eq!((serial(&a, &web()), serial(&b, &cart())), before, "the next root signs nothing yet");
            traffic_goes_on().await;
            turn(Step::Switch);
            wait("renewal by the new root", &|| {
                serial(&a, &web()) != before.0 && serial(&b, &cart()) != before.1
            })
            .await;
            traffic_goes_on().await;
            turn(Step::Finish);
            wait("the end of the old root", &|| roots() == (1, 1)).await;
            traffic_goes_on().await;
            traffic.abort();
            assert_eq!(*refused.borrow(), []);
        })
        .await;
}

#[test]
fn steps_of_a_change_of_root_are_taken_in_order() {
    let authority = TestAuthority::new();
    let turn = |which| step(authority.directory(), &TrustDomain::default(), UnixTime::now(), which);
    assert!(turn(Step::Switch).is_err() && turn(Step::Finish).is_err());
    turn(Step::Prepare).unwrap();
    assert!(turn(Step::Prepare).is_err() && turn(Step::Finish).is_err());
    turn(Step::Switch).unwrap();
    assert!(turn(Step::Prepare).is_err() && turn(Step::Switch).is_err());
    turn(Step::Finish).unwrap();
    let left: Vec<_> =
        fs::read_dir(authority.directory()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["root.pem"]);
}

#[tokio::test]
async fn revocation_list_is_taken_up_while_everything_runs() {
    let directory = TempDir::new().unwrap();
    let authority = Anything::new("ours");
    let list = directory.path().join("own.crl");
    fs::write(&list, authority.revoke(9)).unwrap();
    let mut lists = revocation::follow(directory.path().to_owned()).unwrap();
    let chain = [authority.sign(&Odd::default()).0];
    let is_revoked = |lists: &watch::Receiver<_>| {
        let trust =
            crate::identity::trust::Trust { revocations: Arc::clone(&lists.borrow()), ..authority.trust() };
        let usage = crate::identity::verify::Usage::Client;
        crate::identity::verify::stands(&chain, &trust, usage, at(NOW)).is_err()
    };
    assert!(!is_revoked(&lists));
    fs::write(directory.path().join("more.crl"), authority.revoke(7)).unwrap();
    tokio::time::timeout(Duration::from_secs(60), lists.changed()).await.unwrap().unwrap();
    assert!(is_revoked(&lists));
    fs::write(&list, "no list").unwrap();
    let changed = tokio::time::timeout(Duration::from_millis(1500), lists.changed()).await;
    assert!(changed.is_err() && is_revoked(&lists), "what was revoked stays revoked");
    assert!(revocation::follow(directory.path().join("absent")).is_err());
    assert!(revocation::follow(list).is_err());
}
