//! Certificates of workloads, made with the system's `openssl`: for proxies that are not ours, and for ours from files.
//!
//! Not made by the code under test, so that both can be wrong in different ways only.

use std::{
    fmt::Write as _,
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
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign",
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

    /// Where [`revoke`](Self::revoke) puts its lists; empty before.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn lists(&self) -> Result<PathBuf, KitError> {
        let lists = self.path().join("lists");
        fs::create_dir_all(&lists).map_err(|source| KitError::file(&lists, source))?;
        Ok(lists)
    }

    /// Publishes a list that takes back the certificates that were issued to these accounts, and no others: in one step, so
    /// that nobody reads half of it.
    ///
    /// # Errors
    /// There is no openssl, or no such certificate.
    pub fn revoke(&self, accounts: &[(&str, &str)]) -> Result<(), KitError> {
        let (own, lists) = (self.path(), self.lists()?);
        let write = |name: &str, text: &str| {
            let path = own.join(name);
            fs::write(&path, text).map_err(|source| KitError::file(path, source))
        };
        let mut index = String::new();
        for (namespace, account) in accounts {
            let certificate = own.join(namespace).join(account).join("tls.crt");
            let mut command = Command::new("openssl");
            command.args(["x509", "-noout", "-serial", "-in"]).arg(certificate);
            let printed = tool::finish(&mut command, REMEDY)?;
            let serial = printed.trim().trim_start_matches("serial=");
            let _ = writeln!(index, "R\t491231235959Z\t200101000000Z\t{serial}\tunknown\t/O=workload");
        }
        write("index", &index)?;
        write("index.attr", "unique_subject = no\n")?;
        write("number", "01\n")?;
        let root = own.display();
        write(
            "list.cnf",
            &format!(
                "[ca]\ndefault_ca = own\n[own]\ndatabase = {root}/index\ncrlnumber = {root}/number\n\
                 default_md = sha256\ndefault_crl_days = 1\ncrl_extensions = more\n\
                 [more]\nauthorityKeyIdentifier = keyid:always\n"
            ),
        )?;
        self.openssl(&format!(
            "ca -config {root}/list.cnf -gencrl -keyfile {root}/root.key -cert {root}/root.crt -out {root}/list"
        ))?;
        let list = lists.join("own.crl");
        fs::rename(own.join("list"), &list).map_err(|source| KitError::file(list, source))
    }

    fn openssl(&self, arguments: &str) -> Result<(), KitError> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace());
        tool::finish(&mut command, REMEDY).map(drop)
    }
}

const REMEDY: &str = "apt-get install openssl";
