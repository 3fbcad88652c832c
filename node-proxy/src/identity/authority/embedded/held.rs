//! An authority whose root somebody else keeps, such as a Secret of Kubernetes: the files of the directory, as texts.
//!
//! An intermediate for each reading of them, short leaves, and the certificate of a server of the authority's own. The root's key is in
//! memory only while it signs an intermediate; it must never be given out again, nor printed.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc, time::Duration};

use config::identity::TrustDomain;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use zeroize::Zeroizing;

use super::{
    Leaf,
    directory::{self, Contents, DirectoryError},
    issuer::Issuer,
    signer,
};
use crate::identity::{authority::AuthorityError, trust::Roots};

/// The name of the root that signs, among the texts.
pub const ROOT: &str = directory::ROOT;

/// What the texts are called, by the directory's names.
pub type Texts = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// What is to be made of the texts.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// What errors call the place where they are kept.
    pub place: &'a Path,
    /// Whose identities it vouches for.
    pub trust_domain: &'a TrustDomain,
    /// How long leaves live at most.
    pub lifetime: Duration,
    /// The time.
    pub now: UnixTime,
}

/// An authority that can sign.
pub struct Held {
    roots: Arc<Roots>,
    intermediate: Issuer,
    renew_at: UnixTime,
    trust_domain: TrustDomain,
}

/// A new root, as it lies in its file: for who keeps it.
pub fn new_root(trust_domain: &TrustDomain, now: UnixTime) -> Result<Zeroizing<String>, DirectoryError> {
    let root = Issuer::root(trust_domain, now).map_err(DirectoryError::Make)?;
    Ok(directory::root_pem(&root))
}

/// The bytes of a signing request that is a text, as strangers send it (RFC 7468, section 7); `None` for what is none, or too large.
pub fn request(text: &str) -> Option<Vec<u8>> {
    if text.len() > MOST_REQUEST {
        return None;
    }
    let found = pem::parse(text).ok()?;
    matches!(found.tag(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST").then(|| found.into_contents())
}

impl Held {
    /// Reads the texts, and makes an intermediate.
    pub fn read(texts: &Texts, reading: Reading<'_>) -> Result<Self, DirectoryError> {
        let Reading { place, trust_domain, lifetime, now } = reading;
        let Contents { root, roots } = directory::parse(texts, place, trust_domain, now)?;
        let made = signer::intermediate(&root, trust_domain, lifetime, now);
        let (intermediate, renew_at) = made.map_err(DirectoryError::Make)?;
        Ok(Self { roots: Arc::new(roots), intermediate, renew_at, trust_domain: trust_domain.clone() })
    }

    /// The roots that are trusted: the one that signs, the next and the previous ones.
    pub fn roots(&self) -> &Arc<Roots> {
        &self.roots
    }

    /// Whether it is time to read the texts again, for another intermediate.
    pub fn is_due(&self, now: UnixTime) -> bool {
        now.as_secs() >= self.renew_at.as_secs()
    }

    /// A chain for the key of a signing request: leaf first, no root.
    pub fn sign(
        &self,
        request: &[u8],
        leaf: Leaf<'_>,
    ) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
        if leaf.identity.trust_domain != self.trust_domain {
            return Err(AuthorityError::Refused(format!("{} is of another trust domain", leaf.identity)));
        }
        let leaf = self.intermediate.leaf(request, leaf);
        let leaf = leaf.map_err(|error| AuthorityError::Refused(error.to_string()))?;
        Ok(vec![leaf, self.intermediate.certificate().clone()])
    }

    /// A chain and a key for a server of these DNS names, as long as the intermediate is valid.
    pub fn server(
        &self,
        names: &[String],
        now: UnixTime,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), DirectoryError> {
        let (leaf, key) = self.intermediate.server(names, now).map_err(DirectoryError::Make)?;
        Ok((vec![leaf, self.intermediate.certificate().clone()], key))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// Bytes of a signing request as text; one of a P-256 key has some 400.
pub(crate) const MOST_REQUEST: usize = 8 << 10;
