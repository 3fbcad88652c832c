//! A certificate for something that is not a workload of this node: a gateway, another proxy, a test.
//!
//! The one place where a key is written: to a file that only its owner can read, on the demand of whoever may read the root's.

use std::path::Path;

use config::identity::Identity;
use rustls::pki_types::UnixTime;

use super::{
    Leaf, Options,
    directory::{self, DirectoryError},
};
use crate::identity::authority::{AuthorityError, key::Key, request};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The authority's directory is of no use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No request could be made.
    #[error(transparent)]
    Request(#[from] AuthorityError),
}

/// Writes `tls.crt` (leaf and intermediate), `tls.key` (mode 0600) and `ca.crt` (every root that is trusted) to `out`,
/// replacing what is there.
pub fn export(options: &Options, identity: &Identity, out: &Path) -> Result<(), ExportError> {
    let now = options.clock.current_time().unwrap_or_else(UnixTime::now);
    directory::prepare(&options.directory, &options.trust_domain, now)?;
    let contents = directory::load(&options.directory, &options.trust_domain, now)?;
    // With a margin, so that the leaf is valid for as long as was asked.
    let issuer = contents.root.intermediate(&options.trust_domain, options.lifetime * 2, now);
    let issuer = issuer.map_err(DirectoryError::Make)?;
    let key = Key::generate().map_err(DirectoryError::Make)?;
    let leaf = Leaf { identity, lifetime: options.lifetime, now };
    let leaf = issuer.leaf(&request::sign(&key, identity)?, leaf).map_err(DirectoryError::Make)?;
    let roots: String = contents.roots.certificates().iter().map(|root| directory::pem(root)).collect();
    let chain = directory::pem(&leaf) + &directory::pem(issuer.certificate());
    directory::make(out)?;
    directory::replace(out, "tls.key", &key.pem(), 0o600)?;
    directory::replace(out, "tls.crt", &chain, 0o644)?;
    directory::replace(out, "ca.crt", &roots, 0o644)?;
    Ok(())
}
