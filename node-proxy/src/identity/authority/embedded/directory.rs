//! The authority's directory: one root that signs, and the roots that are trusted besides.
//!
//! `root.pem` is the certificate and the key of the root that signs, in one file, so that both are replaced in one rename. Every
//! other `*.pem` and `*.crt` holds certificates that are trusted too: the next root, the previous one. Nothing here may
//! leave half a file, nor use a key that others can read.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use config::identity::TrustDomain;
use rcgen::PublicKeyData;
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use super::issuer::Issuer;
use crate::identity::{
    authority::key::Key,
    leaf,
    trust::{Roots, TrustError},
};

/// The root that signs.
pub(super) const ROOT: &str = "root.pem";
/// Files that are larger are none of ours.
const LARGEST: u64 = 1 << 20;

/// Why the embedded authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system says no.
    #[error("the authority's directory {} cannot be used (run as root, or name another with --ca-dir)", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Others could read a key, or put their own in its place.
    #[error("{} may be {what} by others than its owner (mode {mode:04o}): `chmod {right} {}`", path.display(), path.display())]
    Permissions {
        /// Which.
        path: PathBuf,
        /// `read` or `changed`.
        what: &'static str,
        /// The mode it has.
        mode: u32,
        /// The mode it should have.
        right: &'static str,
    },
    /// Somebody else's.
    #[error("{} belongs to user {owner}: it must belong to root or to the user the daemon runs as", path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Not what should be in it.
    #[error("{} {problem}: restore it, or move it away to have a new root made", path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A file of further roots is none.
    #[error("{} cannot be trusted: repair or remove it", path.display())]
    Trusted {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: TrustError,
    },
    /// The root vouches for others.
    #[error("the root in {} is of trust domain {theirs}, not {ours}: see --trust-domain and --ca-dir", path.display())]
    TrustDomain {
        /// Which.
        path: PathBuf,
        /// The root's.
        theirs: String,
        /// The daemon's.
        ours: TrustDomain,
    },
    /// The root is too old.
    #[error(
        "the root in {} has expired: `canopy root prepare`, then `canopy root switch`, and a new one signs (with --ca-dir where the daemon has it; see `canopy root --help`)",
        path.display()
    )]
    Expired {
        /// Which.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Make(#[source] rcgen::Error),
    /// No thread to sign on.
    #[error("no thread for the authority")]
    Thread(#[source] io::Error),
}

/// What is in the directory.
pub(super) struct Contents {
    /// The root that signs.
    pub(super) root: Issuer,
    /// It, and those that are trusted besides.
    pub(super) roots: Roots,
}

/// Makes the directory and a root in it, unless they are there. Several daemons may do so at once: all find the same root.
pub(super) fn prepare(
    directory: &Path,
    trust_domain: &TrustDomain,
    now: UnixTime,
) -> Result<(), DirectoryError> {
    make(directory)?;
    let path = directory.join(ROOT);
    if path.try_exists().map_err(io_at(&path))? {
        return Ok(());
    }
    let root = Issuer::root(trust_domain, now).map_err(DirectoryError::Make)?;
    publish(directory, ROOT, &root_pem(&root)).map(drop)
}

/// Makes a directory that only its owner can enter, unless it is there.
pub(super) fn make(directory: &Path) -> Result<(), DirectoryError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_at(directory))
}

/// Writes a file in the place of another; readers see one or the other, whole.
pub(super) fn replace(directory: &Path, name: &str, content: &str, mode: u32) -> Result<(), DirectoryError> {
    let path = directory.join(name);
    let draft = draft(directory, name, content, mode).map_err(io_at(&path))?;
    fs::rename(&draft, &path).map_err(io_at(&path))
}

/// Writes a file that is there whole or not at all; says whether it is this one. One that is there already stays.
pub(super) fn publish(directory: &Path, name: &str, content: &str) -> Result<bool, DirectoryError> {
    let path = directory.join(name);
    let draft = draft(directory, name, content, 0o600).map_err(io_at(&path))?;
    // Unlike a rename, a link never replaces.
    let linked = match fs::hard_link(&draft, &path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    };
    let removed = fs::remove_file(&draft);
    let written = linked.and_then(|written| removed.map(|()| written)).map_err(io_at(&path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_at(directory))?;
    Ok(written)
}

/// A file under a name that nobody looks for.
fn draft(directory: &Path, name: &str, content: &str, mode: u32) -> io::Result<PathBuf> {
    let draft = directory.join(format!(".{name}.{}.{:016x}", std::process::id(), fastrand::u64(..)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&draft);
    }
    written.map(|()| draft)
}

/// A root as it lies in its file.
pub(super) fn root_pem(root: &Issuer) -> Zeroizing<String> {
    let (certificate, key) = (pem(root.certificate()), root.key_pem());
    let mut text = Zeroizing::new(String::with_capacity(certificate.len() + key.len()));
    text.push_str(&certificate);
    text.push_str(&key);
    text
}

/// A certificate in PEM.
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.as_ref()), config)
}

/// Reads the directory.
pub(super) fn load(
    directory: &Path,
    trust_domain: &TrustDomain,
    now: UnixTime,
) -> Result<Contents, DirectoryError> {
    let metadata = fs::metadata(directory).map_err(io_at(directory))?;
    check_permissions(directory, &metadata, 0o022, "changed", "go-w")?;
    let root = load_root(&directory.join(ROOT), trust_domain, now)?;
    let mut certificates = vec![root.certificate().clone()];
    for path in trusted_files(directory)? {
        let roots = Roots::from_pem(&read(&path)?);
        let roots = roots.map_err(|source| DirectoryError::Trusted { path, source })?;
        certificates.extend(roots.certificates().iter().cloned());
    }
    let roots = Roots::new(certificates);
    let roots = roots.map_err(|source| DirectoryError::Trusted { path: directory.to_owned(), source })?;
    Ok(Contents { root, roots })
}

/// What tells two states of the directory apart without reading its files.
pub(super) fn fingerprint(directory: &Path) -> io::Result<Vec<(PathBuf, u64, i64, i64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_ours(&path) {
            let metadata = fs::metadata(&path)?;
            files.push((path, metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    files.sort();
    Ok(files)
}

fn trusted_files(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let entries = fs::read_dir(directory).map_err(io_at(directory))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(io_at(directory))?;
    paths.retain(|path| is_ours(path) && path.file_name().is_some_and(|name| name != ROOT));
    paths.sort();
    Ok(paths)
}

fn is_ours(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "pem" || extension == "crt")
}

fn load_root(path: &Path, trust_domain: &TrustDomain, now: UnixTime) -> Result<Issuer, DirectoryError> {
    let metadata = fs::metadata(path).map_err(io_at(path))?;
    check_permissions(path, &metadata, 0o077, "read", "600")?;
    parse_root(path, &Zeroizing::new(read(path)?), trust_domain, now)
}

/// The same of texts that are kept elsewhere, by the names that the directory's files have; `place` is what errors call it.
pub(super) fn parse(
    files: &BTreeMap<String, Zeroizing<Vec<u8>>>,
    place: &Path,
    trust_domain: &TrustDomain,
    now: UnixTime,
) -> Result<Contents, DirectoryError> {
    let path = place.join(ROOT);
    let missing = || DirectoryError::Corrupt { path: path.clone(), problem: "is not there" };
    let root = parse_root(&path, files.get(ROOT).ok_or_else(missing)?, trust_domain, now)?;
    let mut certificates = vec![root.certificate().clone()];
    for (name, text) in files.iter().filter(|(name, _)| *name != ROOT && is_ours(Path::new(name))) {
        let roots = Roots::from_pem(text);
        let roots = roots.map_err(|source| DirectoryError::Trusted { path: place.join(name), source })?;
        certificates.extend(roots.certificates().iter().cloned());
    }
    let roots = Roots::new(certificates);
    let roots = roots.map_err(|source| DirectoryError::Trusted { path: place.to_owned(), source })?;
    Ok(Contents { root, roots })
}

fn parse_root(
    path: &Path,
    text: &[u8],
    trust_domain: &TrustDomain,
    now: UnixTime,
) -> Result<Issuer, DirectoryError> {
    let corrupt = |problem| DirectoryError::Corrupt { path: path.to_owned(), problem };
    let certificate =
        CertificateDer::from_pem_slice(text).map_err(|_| corrupt("has no certificate in it"))?;
    let text = std::str::from_utf8(text).map_err(|_| corrupt("is not text"))?;
    let key = Key::from_pem(key_section(text).ok_or_else(|| corrupt("has no private key in it"))?);
    let key = key.map_err(|_| corrupt("has no private key in it that can be used"))?;
    let not_after = check_root(path, &certificate, &key, trust_domain)?;
    if not_after.as_secs() <= now.as_secs() {
        return Err(DirectoryError::Expired { path: path.to_owned() });
    }
    Issuer::existing(certificate, key, not_after)
        .map_err(|_| corrupt("has a certificate that cannot be used"))
}

/// From the first line of the key to the end.
fn key_section(text: &str) -> Option<&str> {
    let label = text.find("PRIVATE KEY-----")?;
    text.get(text.get(..label)?.rfind("-----BEGIN ")?..)
}

/// Until when the root is valid, if it is one and the key is its key.
fn check_root(
    path: &Path,
    certificate: &CertificateDer<'_>,
    key: &Key,
    trust_domain: &TrustDomain,
) -> Result<UnixTime, DirectoryError> {
    let corrupt = |problem| DirectoryError::Corrupt { path: path.to_owned(), problem };
    let broken = |_| corrupt("has a certificate that cannot be read");
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| corrupt("has a certificate that cannot be read"))?;
    if *parsed.public_key().subject_public_key.data != *PublicKeyData::der_bytes(key) {
        return Err(corrupt("has a certificate and a key that do not belong together"));
    }
    let constraints = parsed.basic_constraints().map_err(broken)?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(corrupt("has a certificate that is not an authority's"));
    }
    let names = parsed.subject_alternative_name().map_err(broken)?;
    let names = names.as_ref().map_or(&[][..], |names| &names.value.general_names);
    for name in names {
        let GeneralName::URI(uri) = name else { continue };
        let theirs = uri.strip_prefix("spiffe://").unwrap_or(uri);
        if theirs != trust_domain.as_str() {
            let (theirs, ours) = (theirs.to_owned(), trust_domain.clone());
            return Err(DirectoryError::TrustDomain { path: path.to_owned(), theirs, ours });
        }
    }
    Ok(leaf::validity(&parsed).map_err(|_| corrupt("has a certificate without an end"))?.not_after)
}

fn check_permissions(
    path: &Path,
    metadata: &fs::Metadata,
    forbidden: u32,
    what: &'static str,
    right: &'static str,
) -> Result<(), DirectoryError> {
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    if mode & forbidden != 0 {
        return Err(DirectoryError::Permissions { path: path.to_owned(), what, mode, right });
    }
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(DirectoryError::Owner { path: path.to_owned(), owner });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, DirectoryError> {
    let metadata = fs::metadata(path).map_err(io_at(path))?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        let problem = "is not a file of certificates";
        return Err(DirectoryError::Corrupt { path: path.to_owned(), problem });
    }
    fs::read(path).map_err(io_at(path))
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    move |source| DirectoryError::Io { path: path.to_owned(), source }
}
