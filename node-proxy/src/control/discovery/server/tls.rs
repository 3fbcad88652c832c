//! TLS of the server's ports: TLS 1.3 alone; with roots for clients, nobody is spoken to who has no certificate of theirs.
//!
//! The files are read again when they change, so that certificates can be renewed while it runs. What cannot be read must never take
//! the place of what could.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    control::kubernetes::{Authority, Presented},
    identity::{ALPN, provider},
    sys::stamp::{Stamp, stamp},
};

/// Where certificates are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's own certificate and what it rests on (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// Roots of clients' certificates (PEM); without, clients show none.
    pub client_roots: Option<PathBuf>,
}

/// A certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read ({option})", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The option that names it.
        option: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has not what it should have.
    #[error("{}: {problem} ({option})", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The option that names it.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// Where the server's certificate is from.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// From files.
    Files(TlsFiles),
    /// From the authority that the control plane itself is.
    Own(Arc<Authority>),
}

/// The server's end of TLS.
#[derive(Debug)]
pub(crate) enum Tls {
    Files(FromFiles),
    Own {
        authority: Arc<Authority>,
        alpn: &'static [u8],
        presented: Option<(Arc<Presented>, Arc<ServerConfig>)>,
    },
}

impl Tls {
    /// Files have to be right now; the authority may have no certificate yet.
    pub(crate) fn open(certificates: Certificates) -> Result<Self, TlsError> {
        match certificates {
            Certificates::Files(files) => FromFiles::open(files).map(Self::Files),
            Certificates::Own(authority) => Ok(Self::own(authority, ALPN)),
        }
    }

    /// Of the own authority, for this protocol.
    pub(crate) fn own(authority: Arc<Authority>, alpn: &'static [u8]) -> Self {
        Self::Own { authority, alpn, presented: None }
    }

    /// To accept a connection with; `None` before there is a certificate.
    pub(crate) fn acceptor(&mut self) -> Option<TlsAcceptor> {
        let (authority, alpn, presented) = match self {
            Self::Files(files) => return Some(files.acceptor()),
            Self::Own { authority, alpn, presented } => (authority, *alpn, presented),
        };
        let now = authority.presented()?;
        if let Some((before, config)) = presented
            && Arc::ptr_eq(before, &now)
        {
            return Some(TlsAcceptor::from(Arc::clone(config)));
        }
        let config =
            own(&now, alpn).inspect_err(|error| tracing::error!(%error, "the own certificate is of no use"));
        let config = Arc::new(config.ok()?);
        *presented = Some((now, Arc::clone(&config)));
        Some(TlsAcceptor::from(config))
    }

    /// Whether clients have to prove by certificates who they are.
    pub(super) fn demands_certificates(&self) -> bool {
        matches!(self, Self::Files(files) if files.files.client_roots.is_some())
    }
}

/// As the files are now.
#[derive(Debug)]
pub(crate) struct FromFiles {
    files: TlsFiles,
    seen: Vec<Option<Stamp>>,
    config: Arc<ServerConfig>,
}

impl FromFiles {
    /// The files have to be right now; later they may be wrong for a while.
    fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = stamps(&files);
        let config = Arc::new(config(&files)?);
        Ok(Self { files, seen, config })
    }

    /// To accept a connection with: as the files are now, or were when they were right last.
    fn acceptor(&mut self) -> TlsAcceptor {
        let seen = stamps(&self.files);
        if seen != self.seen {
            self.seen = seen;
            match config(&self.files) {
                Ok(config) => {
                    tracing::info!("the certificate was read anew");
                    self.config = Arc::new(config);
                }
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, source, "the certificate is not renewed; the one before goes on");
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// With a certificate of the own authority.
fn own(presented: &Presented, alpn: &[u8]) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(&[&TLS13])?;
    let builder = builder.with_no_client_auth();
    Ok(settled(builder.with_single_cert(presented.chain.clone(), presented.key.clone_key())?, alpn))
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    [Some(&files.certificate), Some(&files.key), files.client_roots.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| stamp(path))
        .collect()
}

fn config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate, CERTIFICATE)?;
    let key = read(&files.key, KEY)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong(&files.key, KEY, &error))?;
    let provider = Arc::new(provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(|error| wrong(&files.certificate, CERTIFICATE, &error))?;
    let builder = match &files.client_roots {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path, ROOTS)? {
                roots.add(root).map_err(|error| wrong(path, ROOTS, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(path, ROOTS, &error))?)
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, key);
    Ok(settled(config.map_err(|error| wrong(&files.certificate, CERTIFICATE, &error))?, ALPN))
}

/// What holds whatever the certificate is.
fn settled(mut config: ServerConfig, alpn: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    // Each client proves anew who it is.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

fn certificates(path: &Path, option: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path, option)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(path, option, &"there is no certificate in it")),
        Err(error) => Err(wrong(path, option, &error)),
    }
}

fn read(path: &Path, option: &'static str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), option, source })
}

fn wrong(path: &Path, option: &'static str, problem: &dyn ToString) -> TlsError {
    TlsError::Content { path: path.to_owned(), option, problem: problem.to_string() }
}

const CERTIFICATE: &str = "--certificate";
const KEY: &str = "--key";
const ROOTS: &str = "--client-roots";
