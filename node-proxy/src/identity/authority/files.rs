//! Certificates from PEM files: DIR/NAMESPACE/SERVICE_ACCOUNT/{tls.crt, tls.key, ca.crt}, as Kubernetes mounts a Secret.
//!
//! The cell itself reads them, so a key is in no other thread's memory. Files of one version only are used together: where
//! there is a `..data` link, everything is read behind where it leads at one moment.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::LocalBoxFuture;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{AuthorityError, Certificate, CertificateAuthority, CertificateSource, Wanted};
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
        let identity = &wanted.identity;
        let own = self.directory.join(identity.namespace.as_str()).join(identity.service_account.as_str());
        Box::new(Source { wanted: wanted.clone(), common: self.directory.clone(), own, seen: Vec::new() })
    }

    fn roots(&self) -> watch::Receiver<Option<Arc<Roots>>> {
        self.roots.subscribe()
    }
}

/// One identity's, in its cell.
struct Source {
    wanted: Wanted,
    common: PathBuf,
    own: PathBuf,
    seen: Vec<Option<(u64, i64, i64, u64)>>,
}

impl Source {
    fn read(&self) -> Result<Certificate, AuthorityError> {
        let data = self.own.join("..data");
        let own = fs::canonicalize(&data).unwrap_or_else(|_| self.own.clone());
        let path = own.join(CERTIFICATE);
        let chain = CertificateDer::pem_slice_iter(&read(&path)?).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(not_pem(&path))?;
        let path = own.join(KEY);
        let text = Zeroizing::new(read(&path)?);
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(not_pem(&path))?;
        let certificate = Certificate::new(chain, key, &self.wanted.identity)?;
        let path = own.join(ROOTS);
        let path = if path.exists() { path } else { self.common.join(ROOTS) };
        Ok(certificate.with_roots(Arc::new(Roots::from_pem(&read(&path)?)?)))
    }

    fn look(&self) -> Vec<Option<(u64, i64, i64, u64)>> {
        let paths =
            [self.own.join(CERTIFICATE), self.own.join(KEY), self.own.join(ROOTS), self.common.join(ROOTS)];
        let look = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
        };
        paths.iter().map(look).collect()
    }
}

impl CertificateSource for Source {
    fn obtain(&mut self) -> LocalBoxFuture<'_, Result<Certificate, AuthorityError>> {
        Box::pin(async move {
            // Seen before it is read: what changes meanwhile is read again.
            self.seen = self.look();
            self.read()
        })
    }

    fn changed(&mut self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async move {
            while self.look() == self.seen {
                tokio::time::sleep(LOOK).await;
            }
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AuthorityError> {
    let metadata = fs::metadata(path).map_err(at(path))?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(at(path)(io::Error::other("it is not a file of certificates")));
    }
    fs::read(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    move |source| AuthorityError::File { path: path.to_owned(), source }
}

fn not_pem(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> AuthorityError {
    move |error| at(path)(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}
