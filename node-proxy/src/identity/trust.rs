//! Who is trusted: the roots of the own trust domain, and what has been revoked.
//!
//! Immutable values that are swapped whole. They hold nothing secret, so all cells share them.

use std::{
    fmt,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use config::identity::TrustDomain;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime,
    pem::{self, PemObject},
};
use webpki::{CertRevocationList, OwnedCertRevocationList, anchor_from_trusted_cert};

use super::{leaf, verify::SKEW};

/// More roots than any change of authority needs; bounds the work of a verification.
const ROOTS: usize = 32;

/// The roots that are trusted; during a change of root, the old one and the new one.
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// Why something is not a set of roots or of revocation lists.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing in it.
    #[error("there is no certificate in it")]
    Empty,
    /// Too much in it.
    #[error("there are {0} certificates in it, more than {ROOTS}")]
    Many(usize),
    /// Not PEM.
    #[error("it is not PEM")]
    Pem(#[source] pem::Error),
    /// Not a certificate.
    #[error("a certificate in it is broken")]
    Encoding(#[source] webpki::Error),
    /// A leaf among roots.
    #[error("a certificate in it is not an authority's (its basic constraints do not say CA)")]
    NotAuthority,
    /// Not a revocation list.
    #[error("it is not a revocation list that can be used")]
    RevocationList(#[source] webpki::Error),
    /// The memory that another process reads it from cannot be had, or not be read.
    #[error("it cannot be shared with another process")]
    Shared(#[source] io::Error),
}

impl Roots {
    /// These roots, each once.
    pub fn new(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, TrustError> {
        let mut roots = Self { certificates: Vec::new(), anchors: Vec::new() };
        for certificate in certificates {
            if roots.certificates.contains(&certificate) {
                continue;
            }
            roots.anchors.push(anchor(&certificate)?);
            roots.certificates.push(certificate);
        }
        match roots.certificates.len() {
            0 => Err(TrustError::Empty),
            many if many > ROOTS => Err(TrustError::Many(many)),
            _ => Ok(roots),
        }
    }

    /// The roots in a PEM file; what else is in it is passed over.
    pub fn from_pem(text: &[u8]) -> Result<Self, TrustError> {
        let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
        Self::new(certificates.map_err(TrustError::Pem)?)
    }

    /// Each root.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Those whose own time is over at `now`, or as good as over; `None` where that is none. Who takes such a root away takes
    /// nothing back: its end was known from its beginning.
    pub(super) fn over(&self, now: UnixTime) -> Option<Self> {
        let ends = |root: &CertificateDer<'_>| leaf::validity_of(root).map(|validity| validity.not_after);
        let soon = now.as_secs().saturating_add(SKEW.as_secs());
        let is_over = |root: &&CertificateDer<'_>| ends(root).is_ok_and(|end| end.as_secs() <= soon);
        Self::new(self.certificates.iter().filter(is_over).cloned()).ok()
    }

    /// As the verifier takes them.
    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("certificates", &self.certificates.len()).finish()
    }
}

fn anchor(certificate: &CertificateDer<'_>) -> Result<TrustAnchor<'static>, TrustError> {
    let anchor = anchor_from_trusted_cert(certificate).map_err(TrustError::Encoding)?.to_owned();
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let constraints = parsed.as_ref().map(|(_, parsed)| parsed.basic_constraints());
    match constraints {
        Ok(Ok(Some(constraints))) if constraints.value.ca => Ok(anchor),
        _ => Err(TrustError::NotAuthority),
    }
}

/// What authorities have taken back. What no list speaks of is not revoked.
#[derive(Default)]
pub struct Revocations {
    lists: Vec<CertRevocationList<'static>>,
    /// The bytes they were made of, for other processes: what has become of their files since may be half written.
    sealed: Option<File>,
}

impl Revocations {
    /// The lists in a PEM file, or the one in a DER file.
    pub fn read(bytes: &[u8]) -> Result<Self, TrustError> {
        let is_pem = bytes.trim_ascii_start().starts_with(b"-----");
        let lists = if is_pem {
            CertificateRevocationListDer::pem_slice_iter(bytes)
                .collect::<Result<Vec<_>, _>>()
                .map_err(TrustError::Pem)?
        } else {
            vec![CertificateRevocationListDer::from(bytes.to_vec())]
        };
        let parse = |list: CertificateRevocationListDer<'_>| {
            OwnedCertRevocationList::from_der(&list).map(CertRevocationList::from)
        };
        let lists = lists.into_iter().map(parse).collect::<Result<_, _>>();
        lists.map(|lists| Self { lists, sealed: None }).map_err(TrustError::RevocationList)
    }

    /// Keeps the bytes of the files that these lists were read from, sealed, for other processes. As much memory again.
    pub fn shared(self, files: &[Vec<u8>]) -> Result<Self, TrustError> {
        let sealed = if files.is_empty() { None } else { Some(seal(files).map_err(TrustError::Shared)?) };
        Ok(Self { sealed, ..self })
    }

    /// What another process has made of its [`sealed`](Self::sealed) bytes.
    pub fn from_sealed(file: &File) -> Result<Self, TrustError> {
        let bytes = whole(file).map_err(TrustError::Shared)?;
        let files = parts(&bytes).ok_or(TrustError::Shared(io::ErrorKind::UnexpectedEof.into()))?;
        files.into_iter().try_fold(Self::default(), |all, bytes| Ok(all.merge(Self::read(bytes)?)))
    }

    /// Both together, of which nothing is shared yet.
    pub fn merge(mut self, other: Self) -> Self {
        self.lists.extend(other.lists);
        Self { sealed: None, ..self }
    }

    /// The bytes of what can be shared; nothing where there is no list.
    pub fn sealed(&self) -> Option<&File> {
        self.sealed.as_ref()
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there is no list.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Each list.
    pub(super) fn lists(&self) -> &[CertRevocationList<'static>] {
        &self.lists
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Revocations").field(&self.lists.len()).finish()
    }
}

/// Files one after the other, each with its length before it, that nobody can change any more, in memory.
fn seal(files: &[Vec<u8>]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut sealed = File::from(memfd_create(c"revocations", flags)?);
    for bytes in files {
        sealed.write_all(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
        sealed.write_all(bytes)?;
    }
    fcntl_add_seals(&sealed, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(sealed)
}

/// What was put one after the other; `None` where the last is cut short.
fn parts(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
}

/// Without the file's position, which all who have it share.
fn whole(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Everything a peer's certificate is judged by.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Whose identities are accepted.
    pub trust_domain: TrustDomain,
    /// Who vouches for them.
    pub roots: Arc<Roots>,
    /// Which are taken back.
    pub revocations: Arc<Revocations>,
}
