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

/// What a certificate says.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// Its names.
    pub uris: &'a [&'a str],
    /// Its DNS names.
    pub hosts: &'a [&'a str],
    /// When it may be used.
    pub valid: Valid,
    /// For what.
    pub usages: &'a str,
}

/// A certificate for a key that is somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The certificate.
    pub pem: String,
    /// Its number: hexadecimal digits, in lower case.
    pub serial: String,
}

/// When a certificate may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    /// It has expired.
    Past,
    /// For a day.
    Now,
    /// Not yet.
    Future,
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
        let uri = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        self.issue_odd((namespace, account), &Leaf { uris: &[&uri], ..Leaf::default() })
    }

    /// Puts a certificate that may be anybody's, or nobody's, where [`issue`](Self::issue) puts an account's.
    ///
    /// # Errors
    /// There is no openssl.
    pub fn issue_odd(
        &self,
        (namespace, account): (&str, &str),
        leaf: &Leaf<'_>,
    ) -> Result<PathBuf, KitError> {
        let at = self.path().join(namespace).join(account);
        fs::create_dir_all(&at).map_err(|source| KitError::file(&at, source))?;
        let (root, own) = (self.path().display(), at.display());
        self.write("issued", "")?;
        self.write("leaf.cnf", &leaf.configuration(self.path()))?;
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=workload/CN=nobody \
             -keyout {own}/tls.key -out {root}/request"
        ))?;
        self.openssl(&format!(
            "ca -batch -notext -config {root}/leaf.cnf -extensions leaf {} \
             -cert {root}/root.crt -keyfile {root}/root.key -in {root}/request -out {own}/tls.crt",
            leaf.valid.options()
        ))?;
        let (from, to) = (self.path().join("root.crt"), at.join("ca.crt"));
        fs::copy(&from, &to).map_err(|source| KitError::file(from, source))?;
        Ok(at)
    }

    /// Signs a request (PKCS #10, PEM), for a day and for this name, whatever name is in it. One at a time.
    ///
    /// # Errors
    /// There is no openssl, or it is no such request.
    pub fn sign(&self, request: &str, uri: &str) -> Result<Signed, KitError> {
        self.write("asked", request)?;
        self.write("leaf.cnf", &Leaf { uris: &[uri], ..Leaf::default() }.configuration(self.path()))?;
        let root = self.path().display();
        self.openssl(&format!(
            "x509 -req -in {root}/asked -days 1 -CA {root}/root.crt -CAkey {root}/root.key -CAcreateserial \
             -extfile {root}/leaf.cnf -extensions leaf -out {root}/signed"
        ))?;
        let signed = self.path().join("signed");
        let pem = fs::read_to_string(&signed).map_err(|source| KitError::file(&signed, source))?;
        Ok(Signed { pem, serial: serial(&signed)?.to_lowercase() })
    }

    /// Has an account trust another authority's certificates besides this one's.
    ///
    /// # Errors
    /// The account has no certificate.
    pub fn trusts(&self, (namespace, account): (&str, &str), other: &Self) -> Result<(), KitError> {
        let mut roots = String::new();
        for authority in [self, other] {
            let root = authority.path().join("root.crt");
            roots += &fs::read_to_string(&root).map_err(|source| KitError::file(root, source))?;
        }
        self.write(&format!("{namespace}/{account}/ca.crt"), &roots)
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
        let mut index = String::new();
        for (namespace, account) in accounts {
            let certificate = own.join(namespace).join(account).join("tls.crt");
            let serial = serial(&certificate)?;
            let _ = writeln!(index, "R\t491231235959Z\t200101000000Z\t{serial}\tunknown\t/O=workload");
        }
        self.write("index", &index)?;
        self.write("index.attr", "unique_subject = no\n")?;
        self.write("number", "01\n")?;
        let root = own.display();
        self.write(
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

    fn write(&self, name: &str, text: &str) -> Result<(), KitError> {
        let path = self.path().join(name);
        fs::write(&path, text).map_err(|source| KitError::file(path, source))
    }

    fn openssl(&self, arguments: &str) -> Result<(), KitError> {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace());
        tool::finish(&mut command, REMEDY).map(drop)
    }
}

/// The number of the certificate in a file.
fn serial(certificate: &Path) -> Result<String, KitError> {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-serial", "-in"]).arg(certificate);
    let printed = tool::finish(&mut command, REMEDY)?;
    Ok(printed.trim().trim_start_matches("serial=").to_owned())
}

impl Default for Leaf<'_> {
    /// Of nobody; otherwise in order.
    fn default() -> Self {
        Self { uris: &[], hosts: &[], valid: Valid::Now, usages: "serverAuth,clientAuth" }
    }
}

impl Leaf<'_> {
    /// As `openssl ca` wants it, for the authority whose directory this is.
    fn configuration(&self, authority: &Path) -> String {
        let root = authority.display();
        let hosts = self.hosts.iter().map(|host| format!("DNS:{host}"));
        let names: Vec<_> = self.uris.iter().map(|uri| format!("URI:{uri}")).chain(hosts).collect();
        let names =
            if names.is_empty() { String::new() } else { format!("subjectAltName = {}\n", names.join(",")) };
        format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {root}/issued\nnew_certs_dir = {root}\nrand_serial = yes\n\
             default_md = sha256\nunique_subject = no\npolicy = any\n[any]\norganizationName = supplied\ncommonName = supplied\n\
             [leaf]\nbasicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
             extendedKeyUsage = {}\n{names}",
            self.usages
        )
    }
}

impl Valid {
    fn options(self) -> &'static str {
        match self {
            Self::Past => "-startdate 20200101000000Z -enddate 20210101000000Z",
            Self::Now => "-days 1",
            Self::Future => "-startdate 20900101000000Z -enddate 20910101000000Z",
        }
    }
}

const REMEDY: &str = "apt-get install openssl";
