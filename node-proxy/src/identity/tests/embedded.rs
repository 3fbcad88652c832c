//! The embedded authority's directory: made once, by whoever is first; never used where it could be somebody else's.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use config::identity::TrustDomain;
use rustls::{pki_types::UnixTime, time_provider::DefaultTimeProvider};
use tempfile::TempDir;

use super::support::{cart, web};
use crate::identity::{
    authority::{
        AuthorityError, CertificateAuthority, Wanted,
        embedded::{
            Embedded, Options,
            directory::DirectoryError,
            export::export,
            rotation::{self, Step},
        },
        files::Files,
    },
    certificate::Certificate,
    trust::Roots,
};

fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        trust_domain: TrustDomain::default(),
        lifetime: Duration::from_secs(600),
        clock: Arc::new(DefaultTimeProvider),
    }
}

fn roots(authority: &Embedded) -> Arc<Roots> {
    authority.roots().borrow().clone().unwrap()
}

#[test]
fn root_is_made_once_for_its_owner_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("new/ca");
    let first = roots(&Embedded::start(options(&path)).unwrap());
    let file = path.join("root.pem");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(*roots(&Embedded::start(options(&path)).unwrap()), *first);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn daemons_that_start_at_once_find_the_same_root() {
    for _ in 0..10 {
        let dir = TempDir::new().unwrap();
        let barrier = Barrier::new(8);
        let found = thread::scope(|scope| {
            let start = || {
                barrier.wait();
                roots(&Embedded::start(options(dir.path())).unwrap())
            };
            let starting: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            starting.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(found.iter().all(|roots| **roots == *found[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn directory_that_cannot_be_relied_on_is_refused_with_what_to_do() {
    type Spoil = (&'static str, fn(&Path), &'static str);
    let spoil: [Spoil; 8] = [
        ("readable key", |dir| mode(&dir.join("root.pem"), 0o640), "`chmod 600"),
        ("writable directory", |dir| mode(dir, 0o770), "`chmod go-w"),
        ("empty file", |dir| fs::write(dir.join("root.pem"), "").unwrap(), "has no certificate"),
        (
            "no key",
            |dir| edit(dir, |pem| pem.split("-----BEGIN PRIVATE").next().unwrap().into()),
            "no private key",
        ),
        (
            "cut off",
            |dir| edit(dir, |pem| pem[..pem.len() - 60].into()),
            "no private key in it that can be used",
        ),
        ("another's key", another_key, "do not belong together"),
        (
            "broken neighbour",
            |dir| fs::write(dir.join("more.crt"), "x").unwrap(),
            "more.crt cannot be trusted",
        ),
        ("expired root", expire, "has expired: `canopy root prepare`, then `canopy root switch`"),
    ];
    for (what, spoil, advice) in spoil {
        let dir = TempDir::new().unwrap();
        Embedded::start(options(dir.path())).unwrap();
        spoil(dir.path());
        let before = fs::read(dir.path().join("root.pem")).unwrap();
        let error = Embedded::start(options(dir.path())).map(drop).unwrap_err().to_string();
        assert!(error.contains(advice), "{what}: {error}");
        assert_eq!(fs::read(dir.path().join("root.pem")).unwrap(), before, "{what}: it is left as it was");
    }
}

#[test]
fn root_that_has_expired_is_replaced_as_its_refusal_says() {
    let dir = TempDir::new().unwrap();
    Embedded::start(options(dir.path())).unwrap();
    expire(dir.path());
    assert!(matches!(Embedded::start(options(dir.path())), Err(DirectoryError::Expired { .. })));
    for step in [Step::Prepare, Step::Switch] {
        rotation::step(dir.path(), &TrustDomain::default(), UnixTime::now(), step).unwrap();
    }
    Embedded::start(options(dir.path())).unwrap();
}

#[test]
fn root_of_another_trust_domain_is_refused() {
    let dir = TempDir::new().unwrap();
    Embedded::start(options(dir.path())).unwrap();
    let trust_domain = TrustDomain::try_from("other.test").unwrap();
    let error = Embedded::start(Options { trust_domain, ..options(dir.path()) }).unwrap_err();
    assert!(matches!(error, DirectoryError::TrustDomain { .. }), "{error}");
}

#[tokio::test]
async fn certificate_is_short_backdated_and_holds() {
    let dir = TempDir::new().unwrap();
    let authority = Embedded::start(options(dir.path())).unwrap();
    let wanted = Wanted::of(cart());
    let certificate = authority.source(&wanted).obtain().await.unwrap();
    let validity = certificate.validity();
    assert_eq!(validity.not_after.as_secs() - validity.not_before.as_secs(), 600 + 300);
    assert_eq!(certificate.chain().len(), 2, "the root is not sent");
    let trust = super::support::Anything::new("x").trust();
    let trust = crate::identity::trust::Trust { roots: roots(&authority), ..trust };
    certificate.check(&trust, UnixTime::now()).unwrap();
}

#[tokio::test]
async fn exported_files_are_what_the_files_authority_reads() {
    let (ca, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let own = out.path().join("shop/cart");
    export(&options(ca.path()), &cart(), &own).unwrap();
    assert_eq!(fs::metadata(own.join("tls.key")).unwrap().mode() & 0o7777, 0o600);
    let obtain = |identity| {
        let files = Files::open(out.path().to_owned()).unwrap();
        async move { files.source(&Wanted::of(identity)).obtain().await }
    };
    let certificate: Certificate = obtain(cart()).await.unwrap();
    assert!(certificate.roots().is_some());
    assert!(matches!(obtain(web()).await, Err(AuthorityError::File { .. })));
    // Somebody else's files in the wrong place.
    fs::rename(&own, out.path().join("shop/web")).unwrap();
    let error = obtain(web()).await.unwrap_err();
    assert!(matches!(error, AuthorityError::Certificate(_)), "{error}");
}

#[tokio::test]
async fn swap_of_a_mounted_secret_is_noticed_and_read_whole() {
    let (ca, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let own = out.path().join("shop/cart");
    fs::create_dir_all(&own).unwrap();
    for version in ["..1", "..2"] {
        export(&options(ca.path()), &cart(), &own.join(version)).unwrap();
    }
    let link = |version: &str| {
        std::os::unix::fs::symlink(version, own.join("..new")).unwrap();
        fs::rename(own.join("..new"), own.join("..data")).unwrap();
    };
    link("..1");
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), own.join(file)).unwrap();
    }
    let files = Files::open(out.path().to_owned()).unwrap();
    let mut source = files.source(&Wanted::of(cart()));
    let before = source.obtain().await.unwrap().serial().to_owned();
    let unchanged = tokio::time::timeout(Duration::from_millis(50), source.changed()).await;
    assert!(unchanged.is_err());
    link("..2");
    tokio::time::timeout(Duration::from_secs(60), source.changed()).await.unwrap();
    assert_ne!(source.obtain().await.unwrap().serial(), before);
}

/// Changes the root for one that was made at the beginning of the century, and lived ten years.
fn expire(dir: &Path) {
    let then = UnixTime::since_unix_epoch(Duration::from_secs(1_000_000_000));
    for step in [Step::Prepare, Step::Switch, Step::Finish] {
        rotation::step(dir, &TrustDomain::default(), then, step).unwrap();
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn edit(directory: &Path, edit: impl FnOnce(&str) -> String) {
    let path = directory.join("root.pem");
    let text = edit(&fs::read_to_string(&path).unwrap());
    fs::write(path, text).unwrap();
}

fn another_key(directory: &Path) {
    let other = TempDir::new().unwrap();
    Embedded::start(options(other.path())).unwrap();
    let key = fs::read_to_string(other.path().join("root.pem")).unwrap();
    let at = key.find("-----BEGIN PRIVATE").unwrap();
    edit(directory, |pem| pem.split("-----BEGIN PRIVATE").next().unwrap().to_owned() + &key[at..]);
}
