//! Certificates from PEM files: DIR/NAMESPACE/SERVICE_ACCOUNT/{tls.crt, tls.key, ca.crt}, as Kubernetes mounts a Secret.
//!
//! The cell itself reads them, so a key is in no other thread's memory; a cell that is another process is given them open.
//! Files of one version only are used together: where there is a `..data` link, everything is read behind where it leads at one
//! moment.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use config::identity::Identity;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{AuthorityError, Certificate, CertificateAuthority, CertificateSource, Issued, OnBehalf, Wanted};
use crate::identity::trust::Roots;

/// How often the files are looked at: three `stat`s, a few microseconds. Works with every way of replacing files.
const LOOK: Duration = Duration::from_secs(1);
/// Files that are larger hold no certificate of a workload.
const LARGEST: u64 = 1 << 20;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const ROOTS: &str = "ca.crt";

/// Certificates from files.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    roots: watch::Sender<Option<Arc<Roots>>>,
}

impl Files {
    /// Those below `directory`. Each identity brings its own roots; `ca.crt` in `directory` itself, if it is there, is
    /// for identities that bring none.
    pub fn open(directory: PathBuf) -> Result<Self, AuthorityError> {
        let metadata = fs::metadata(&directory).map_err(at(&directory))?;
        if !metadata.is_dir() {
            return Err(at(&directory)(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { directory, roots: watch::Sender::new(None) })
    }
}

impl CertificateAuthority for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn source(&self, wanted: &Wanted) -> Box<dyn CertificateSource> {
        let place = self.place(&wanted.identity);
        Box::new(Source { identity: wanted.identity.clone(), place, seen: Vec::new() })
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.roots.subscribe()
    }

    fn on_behalf(&self) -> Option<Arc<dyn OnBehalf>> {
        Some(Arc::new(OpensFiles(self.directory.clone())))
    }
}

impl Files {
    fn place(&self, identity: &Identity) -> Place {
        Place::of(&self.directory, identity)
    }
}

/// Opens the files for others, and never reads one.
#[derive(Debug)]
struct OpensFiles(PathBuf);

impl OnBehalf for OpensFiles {
    fn signs(&self) -> bool {
        false
    }

    fn issue(&self, identity: &Identity, _: Vec<u8>) -> BoxFuture<'static, Result<Issued, AuthorityError>> {
        let place = Place::of(&self.0, identity);
        Box::pin(async move { place.open().map(Issued::Files) })
    }

    fn newer(&self, identity: &Identity) -> BoxFuture<'static, ()> {
        let place = Place::of(&self.0, identity);
        let seen = place.look();
        Box::pin(async move { place.changed(&seen).await })
    }
}

/// Where one identity's files are.
struct Place {
    common: PathBuf,
    own: PathBuf,
}

/// What tells two states of the files apart without reading them.
type Seen = Vec<Option<(u64, i64, i64, u64)>>;

impl Place {
    fn of(directory: &Path, identity: &Identity) -> Self {
        let own = directory.join(identity.namespace.as_str()).join(identity.service_account.as_str());
        Self { common: directory.to_owned(), own }
    }

    fn open(&self) -> Result<Opened, AuthorityError> {
        let own = fs::canonicalize(self.own.join("..data")).unwrap_or_else(|_| self.own.clone());
        let roots = own.join(ROOTS);
        let roots = if roots.exists() { roots } else { self.common.join(ROOTS) };
        Ok(Opened {
            certificate: Named::open(own.join(CERTIFICATE))?,
            key: Named::open(own.join(KEY))?,
            roots: Named::open(roots)?,
        })
    }

    fn look(&self) -> Seen {
        let paths =
            [self.own.join(CERTIFICATE), self.own.join(KEY), self.own.join(ROOTS), self.common.join(ROOTS)];
        let look = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
        };
        paths.iter().map(look).collect()
    }

    async fn changed(&self, seen: &Seen) {
        while self.look() == *seen {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// One identity's files, open: what is read of them is read by who has this.
#[derive(Debug)]
pub struct Opened {
    certificate: Named,
    key: Named,
    roots: Named,
}

/// An open file, and what it is called in messages.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    file: File,
}

impl Opened {
    /// As descriptors, to be passed on.
    pub fn into_descriptors(self) -> [OwnedFd; 3] {
        [self.certificate, self.key, self.roots].map(|named| named.file.into())
    }

    /// What was passed on.
    pub fn from_descriptors([certificate, key, roots]: [OwnedFd; 3]) -> Self {
        let named = |name: &str, file: OwnedFd| Named { path: name.into(), file: file.into() };
        Self {
            certificate: named(CERTIFICATE, certificate),
            key: named(KEY, key),
            roots: named(ROOTS, roots),
        }
    }

    /// Reads them: a certificate of this identity and of nobody else.
    pub fn read(self, identity: &Identity) -> Result<Certificate, AuthorityError> {
        let Self { certificate, key, roots } = self;
        let (text, path) = certificate.read()?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(not_pem(&path))?;
        let (text, path) = key.read()?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(not_pem(&path))?;
        let certificate = Certificate::new(chain, key, identity)?;
        Ok(certificate.with_roots(Arc::new(Roots::from_pem(&roots.read()?.0)?)))
    }
}

impl Named {
    /// Waits for nobody: a FIFO in the file's place is opened as it is, and refused.
    fn open(path: PathBuf) -> Result<Self, AuthorityError> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        Ok(Self { file: file.map_err(at(&path))?, path })
    }

    fn read(mut self) -> Result<(Zeroizing<Vec<u8>>, PathBuf), AuthorityError> {
        let metadata = self.file.metadata().map_err(at(&self.path))?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(at(&self.path)(io::Error::other("it is not a file of certificates")));
        }
        // With room for one byte more, so that reading to its end does not move the bytes, which would leave some behind.
        let room = usize::try_from(metadata.len()).unwrap_or_default() + 1;
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        self.file.by_ref().take(LARGEST).read_to_end(&mut text).map_err(at(&self.path))?;
        Ok((text, self.path))
    }
}

/// One identity's, in its cell.
struct Source {
    identity: Identity,
    place: Place,
    seen: Seen,
}

impl CertificateSource for Source {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        Box::pin(async move {
            // Seen before it is read: what changes meanwhile is read again.
            self.seen = self.place.look();
            self.place.open()?.read(&self.identity)
        })
    }

    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(self.place.changed(&self.seen))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    move |source| AuthorityError::File { path: path.to_owned(), source }
}

fn not_pem(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> AuthorityError {
    move |error| at(path)(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
