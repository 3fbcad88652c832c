//! A connection to a server of the control plane's: TLS 1.3 over TCP, the server known by its DNS name and the roots of a file.
//!
//! Files are read again with every connection. It must never go on without a root.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{AuthorityError, istio::Address, retry::report};
use crate::identity::tls;

/// How long a connection may take to be made.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);

/// Whom to connect to, and as whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server<'a> {
    /// Where it is.
    pub(crate) address: &'a Address,
    /// The name its certificate has to have; `None` is the host of its address.
    pub(crate) name: Option<&'a str>,
    /// The roots that its certificate has to lead to, PEM.
    pub(crate) root: &'a Path,
    /// What to do where there are none.
    pub(crate) remedy: &'a str,
    /// The certificate to show, and its key, PEM.
    pub(crate) certificate: Option<(&'a Path, &'a Path)>,
}

/// Connects and shakes hands.
pub(crate) async fn dial(server: Server<'_>) -> Result<TlsStream<TcpStream>, AuthorityError> {
    let config = Arc::new(config(&server)?);
    let address = server.address;
    let host = server.name.unwrap_or_else(|| address.host());
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| AuthorityError::Unavailable(format!("{host:?} is not the name of a server")))?;
    let connect = async {
        let stream = TcpStream::connect((address.host(), address.port())).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    match tokio::time::timeout(CONNECT, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(AuthorityError::Unavailable(format!("{address}: {}", report(&error)))),
        Err(_) => Err(AuthorityError::Unavailable(format!("{address}: no connection within {CONNECT:?}"))),
    }
}

/// The roots of a file, PEM; or why there are none.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(roots) }
}

fn config(server: &Server<'_>) -> Result<ClientConfig, AuthorityError> {
    let setup = |path: &Path, problem: String, remedy: &str| AuthorityError::Setup {
        problem: format!("{}: {problem}", path.display()),
        remedy: remedy.to_owned(),
    };
    let bad_root = |problem: String| setup(server.root, problem, server.remedy);
    let roots = roots(server.root).map_err(bad_root)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(tls::provider()));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(|error| bad_root(error.to_string()))?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match server.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let remedy = "a chain and its key are needed, each as PEM";
            let bad = |path, error: String| setup(path, error, remedy);
            let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
            let chain: Vec<_> = chain.map_err(|error| bad(certificate, error.to_string()))?;
            let own = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
            let with = builder.with_client_auth_cert(chain, own);
            with.map_err(|error| bad(certificate, error.to_string()))?
        }
    };
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    Ok(config)
}
