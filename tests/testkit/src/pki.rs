//! Certificates of workloads, made with the system's `openssl`: for proxies that are not ours, and for ours from files.
//!
//! Not made by the code under test, so that both can be wrong in different ways only.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{KitError, scratch, tool};

/// An authority, and the certificates it has issued: `NAMESPACE/SERVICE_ACCOUNT/{tls.crt,tls.key,ca.crt}`.
#[derive(Debug)]
pub struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    /// A new root.
    ///
    /// # Errors
    /// There is no openssl.
    pub fn new() -> Result<Self, KitError> {
        let directory = scratch::directory("authority")?;
        let authority = Self { directory };
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /O=test \
             -keyout {0}/root.key -out {0}/root.crt \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign",
            authority.path().display()
        ))?;
        Ok(authority)
    }

    /// Where the certificates are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Issues a certificate for `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`; the directory of its files.
    ///
    /// # Errors
    /// There is no openssl.
    pub fn issue(&self, namespace: &str, account: &str) -> Result<PathBuf, KitError> {
        let at = self.path().join(namespace).join(account);
        fs::create_dir_all(&at).map_err(|source| KitError::file(&at, source))?;
        let (root, own) = (self.path().display(), at.display());
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /O=workload \
             -CA {root}/root.crt -CAkey {root}/root.key -keyout {own}/tls.key -out {own}/tls.crt \
             -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
             -addext extendedKeyUsage=serverAuth,clientAuth \
             -addext subjectAltName=URI:spiffe://cluster.local/ns/{namespace}/sa/{account}"
        ))?;
        let (from, to) = (self.path().join("root.crt"), at.join("ca.crt"));
        fs::copy(&from, &to).map_err(|source| KitError::file(from, source))?;
        Ok(at)
    }

    fn openssl(&self, arguments: &str) -> Result<(), KitError> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace());
        tool::finish(&mut command, "apt-get install openssl")
    }
}
