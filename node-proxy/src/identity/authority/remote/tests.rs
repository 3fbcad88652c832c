//! Both halves together, as two processes have them: between them go bytes and descriptors only.

use std::{cell::RefCell, fs, path::Path, rc::Rc, sync::Arc, time::Duration};

use config::identity::{Identity, TrustDomain};
use futures_util::future::BoxFuture;
use rustls::{pki_types::UnixTime, time_provider::DefaultTimeProvider};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, LocalSet, spawn_local},
    time::timeout,
};

use super::{
    desk::{self, Line, WAITING},
    *,
};
use crate::identity::{
    authority::{
        OnBehalf,
        embedded::{Options, export::export, rotation},
        files::Files,
    },
    credentials::Sources,
    revocation,
    testing::{TestAuthority, credentials},
    tests::support::{Anything, Seen, call, cart, web},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A cell's half and what it asked, with the daemon's half at work.
struct Pair {
    remote: Remote,
    asked: Rc<RefCell<Vec<Vec<u8>>>>,
    raw: mpsc::Sender<Vec<u8>>,
    desk: JoinHandle<Result<(), WireError>>,
}

/// A cell whose tenant has the workload `cart` here, and no other.
fn pair(sources: Sources) -> Pair {
    let terms = Terms::of(&*sources.authority).unwrap();
    let (asks, mut asked_of_us) = mpsc::channel::<Vec<u8>>(WAITING);
    let (raw, asks_of_cell) = mpsc::channel(WAITING);
    let (tells, mut told) = mpsc::channel(8);
    let line = Line { asks: asks_of_cell, tells };
    let desk = spawn_local(desk::serve(sources, line, |identity| *identity == cart()));
    let remote = Remote::new(&terms, asks);
    let (asked, way, cell) = (Rc::<RefCell<Vec<_>>>::default(), raw.clone(), remote.clone());
    let log = Rc::clone(&asked);
    spawn_local(async move {
        while let Some(bytes) = asked_of_us.recv().await {
            log.borrow_mut().push(bytes.clone());
            way.send(bytes).await.unwrap();
        }
    });
    spawn_local(async move {
        while let Some(parcel) = told.recv().await {
            cell.told(parcel).unwrap();
        }
    });
    Pair { remote, asked, raw, desk }
}

async fn obtain(remote: &Remote, identity: Identity) -> Result<Certificate, AuthorityError> {
    timeout(PATIENCE, remote.source(&Wanted::of(identity)).obtain()).await.unwrap()
}

#[tokio::test]
async fn a_cell_elsewhere_speaks_with_a_certificate_whose_key_it_alone_has() {
    LocalSet::new()
        .run_until(async {
            let authority = TestAuthority::new();
            let Pair { remote, asked, .. } = pair(authority.sources());
            assert_eq!(remote.name(), "remote", "a test's authority has no name that is known");
            let (there, _kept) = credentials(remote.sources(), &[cart()]);
            let (here, _kept_too) = credentials(authority.sources(), &[web()]);
            let seen = call((&there, &cart()), &web(), (&here, &web())).await;
            assert_eq!(seen, Seen { by_client: Ok(web()), by_server: Ok(cart()) });
            let asked = asked.borrow();
            let [ask] = &asked[..] else { panic!("{} questions", asked.len()) };
            // All that left: who it is for, and a signing request that fills the rest.
            let ask = Ask::decode(ask).unwrap();
            assert_eq!(ask.identity, cart());
            use x509_parser::prelude::FromDer;
            let (rest, _request) =
                x509_parser::certification_request::X509CertificationRequest::from_der(&ask.request).unwrap();
            assert!(rest.is_empty());
        })
        .await;
}

#[tokio::test]
async fn an_identity_that_is_not_the_tenants_here_is_refused_however_it_is_asked_for() {
    LocalSet::new()
        .run_until(async {
            let Pair { remote, .. } = pair(TestAuthority::new().sources());
            let refused = obtain(&remote, web()).await.unwrap_err();
            assert!(matches!(refused, AuthorityError::Refused(_)), "{refused}");
            obtain(&remote, cart()).await.unwrap();
            // With its own request, in another's name: what is signed is the name that was checked.
            let request = Request::new(&web()).unwrap().der().to_vec();
            let issued = remote.0.ask(&cart(), request).await.unwrap();
            let Issued::Chain(chain) = issued else { panic!("files") };
            assert_eq!(crate::identity::leaf::read(&chain[0]).unwrap().identity, cart());
        })
        .await;
}

#[tokio::test]
async fn a_change_of_root_and_what_was_revoked_reach_the_cell() {
    LocalSet::new()
        .run_until(async {
            let (authority, lists) = (TestAuthority::new(), TempDir::new().unwrap());
            fs::write(lists.path().join("own.crl"), Anything::new("ours").revoke(9)).unwrap();
            let revocations = revocation::follow(lists.path().to_owned()).unwrap();
            let Pair { remote, .. } = pair(Sources { revocations, ..authority.sources() });
            let (mut roots, mut revoked) = (remote.roots(), remote.sources().revocations);
            let known = timeout(PATIENCE, roots.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
            assert_eq!(known, *authority.roots().borrow());
            timeout(PATIENCE, revoked.wait_for(|lists| lists.len() == 1)).await.unwrap().unwrap();
            // More files than a message has descriptors.
            for number in 0..20 {
                let path = lists.path().join(format!("more-{number}.crl"));
                fs::write(path, Anything::new("ours").revoke(number)).unwrap();
            }
            timeout(PATIENCE, revoked.wait_for(|lists| lists.len() == 21)).await.unwrap().unwrap();
            let mut source = remote.source(&Wanted::of(cart()));
            source.obtain().await.unwrap();
            let unchanged = timeout(Duration::from_millis(50), source.changed()).await;
            assert!(unchanged.is_err());
            for step in [rotation::Step::Prepare, rotation::Step::Switch] {
                let domain = TrustDomain::default();
                rotation::step(authority.directory(), &domain, UnixTime::now(), step).unwrap();
            }
            timeout(PATIENCE, source.changed()).await.expect("another root signs, and the cell is told");
            assert_eq!(roots.borrow_and_update().as_ref().unwrap().certificates().len(), 2);
        })
        .await;
}

fn export_to(directory: &Path, root: &Path) {
    let options = Options {
        directory: root.to_owned(),
        trust_domain: TrustDomain::default(),
        lifetime: Duration::from_secs(600),
        clock: Arc::new(DefaultTimeProvider),
    };
    export(&options, &cart(), directory).unwrap();
}

#[tokio::test]
async fn files_are_opened_by_the_daemon_and_read_by_the_cell_and_read_again_when_they_change() {
    LocalSet::new()
        .run_until(async {
            let (root, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
            let own = out.path().join("shop/cart");
            export_to(&own, root.path());
            let files = Arc::new(Files::open(out.path().to_owned()).unwrap());
            let Pair { remote, asked, .. } = pair(Sources::new(files));
            assert_eq!(remote.name(), "files");
            let mut source = remote.source(&Wanted::of(cart()));
            let first = source.obtain().await.unwrap();
            assert!(first.roots().is_some());
            assert!(Ask::decode(&asked.borrow()[0]).unwrap().request.is_empty());
            fs::remove_dir_all(&own).unwrap();
            export_to(&own, root.path());
            timeout(PATIENCE, source.changed()).await.unwrap();
            assert_ne!(source.obtain().await.unwrap().serial(), first.serial());
            fs::remove_file(own.join("tls.key")).unwrap();
            let missing = source.obtain().await.unwrap_err();
            assert!(missing.to_string().contains("tls.key"), "{missing}");
        })
        .await;
}

#[tokio::test]
async fn what_no_cell_says_ends_the_conversation() {
    LocalSet::new()
        .run_until(async {
            let Pair { raw, desk, .. } = pair(TestAuthority::new().sources());
            raw.send(b"garbage".to_vec()).await.unwrap();
            assert_eq!(timeout(PATIENCE, desk).await.unwrap().unwrap(), Err(WireError::Unreadable));
        })
        .await;
}

#[tokio::test]
async fn a_cell_that_asks_without_end_is_served_no_faster_than_others_can_bear() {
    LocalSet::new()
        .run_until(async {
            let Pair { remote, .. } = pair(TestAuthority::new().sources());
            let begun = tokio::time::Instant::now();
            let certificates = (0..40).map(|_| obtain(&remote, cart()));
            for certificate in futures_util::future::join_all(certificates).await {
                certificate.unwrap();
            }
            // Forty, eight at a time, each for a tenth of a second: the last eight are answered after four rests.
            assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
        })
        .await;
}

#[tokio::test]
async fn what_was_answered_but_not_asked_is_of_no_use() {
    let (asks, _asked) = mpsc::channel(WAITING);
    let terms = Terms { authority: "embedded".to_owned(), signs: true };
    let remote = Remote::new(&terms, asks);
    assert_eq!(remote.name(), "embedded");
    let chain = Tell::Chain { number: 99, chain: vec![vec![1]] };
    remote.told(Parcel { bytes: chain.encode().unwrap(), descriptors: Vec::new() }).unwrap();
    let bare = Tell::Files { number: 1 }.encode().unwrap();
    assert_eq!(remote.told(Parcel { bytes: bare, descriptors: Vec::new() }), Err(WireError::Descriptors));
    let torn = File::from(rustix::fs::memfd_create(c"torn", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    std::io::Write::write_all(&mut &torn, &[9, 0, 0, 0, 1]).unwrap();
    let torn = Parcel { bytes: Tell::Revocations.encode().unwrap(), descriptors: vec![torn.into()] };
    assert!(matches!(remote.told(torn), Err(WireError::Useless(_))));
    let none = Tell::Roots(Vec::new()).encode().unwrap();
    let useless = remote.told(Parcel { bytes: none, descriptors: Vec::new() });
    assert!(matches!(useless, Err(WireError::Useless(_))), "{useless:?}");
}

/// Says how many wait for a newer certificate than the one they have.
#[derive(Debug, Default)]
struct Waits(Arc<()>);

impl CertificateAuthority for Waits {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn source(&self, _: &Wanted) -> Box<dyn CertificateSource> {
        unreachable!("it is asked in the name of others only")
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        watch::Sender::default().subscribe()
    }

    fn on_behalf(&self) -> Option<Arc<dyn OnBehalf>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}

impl OnBehalf for Waits {
    fn issue(&self, _: &Identity, _: Vec<u8>) -> BoxFuture<'static, Result<Issued, AuthorityError>> {
        Box::pin(async { Ok(Issued::Chain(Vec::new())) })
    }

    fn newer(&self, _: &Identity) -> BoxFuture<'static, ()> {
        let waits = Arc::clone(&self.0);
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(waits);
        })
    }
}

#[tokio::test]
async fn nobody_waits_for_a_newer_certificate_of_an_identity_whose_workloads_have_gone() {
    LocalSet::new()
        .run_until(async {
            let waits = Arc::new(Waits::default());
            let here = Rc::new(RefCell::new(vec![cart()]));
            let own = Rc::clone(&here);
            let (asks, asked) = mpsc::channel(WAITING);
            let (tells, mut told) = mpsc::channel(8);
            let sources = Sources::new(Arc::<Waits>::clone(&waits));
            let line = Line { asks: asked, tells };
            spawn_local(desk::serve(sources, line, move |identity| own.borrow().contains(identity)));
            let before = Arc::strong_count(&waits.0);
            let mut waiting = async |number, identity| {
                let ask = Ask { number, identity, request: Vec::new() };
                asks.send(ask.encode().unwrap()).await.unwrap();
                loop {
                    let parcel = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
                    if matches!(Tell::decode(&parcel.bytes), Ok(Tell::Chain { number: of, .. }) if of == number) {
                        break;
                    }
                }
                tokio::task::yield_now().await;
                Arc::strong_count(&waits.0) - before
            };
            assert_eq!(waiting(1, cart()).await, 2, "the desk's own, and one that waits");
            assert_eq!(waiting(2, cart()).await, 2);
            *here.borrow_mut() = vec![web()];
            assert_eq!(waiting(3, web()).await, 2, "another's in its place");
        })
        .await;
}
