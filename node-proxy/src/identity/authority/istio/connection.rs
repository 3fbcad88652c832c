//! The connection to the authority: TLS 1.3 over TCP, the server known by its DNS name and the mesh's root.

use std::{fs, io, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::Options;
use crate::identity::{
    authority::{AuthorityError, retry::report},
    tls,
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Made when it is first used; the root is read again with every connection.
pub(super) fn channel(options: &Arc<Options>) -> Result<Channel, AuthorityError> {
    let uri = Uri::builder()
        .scheme("https")
        .authority(options.address.to_string())
        .path_and_query("/")
        .build()
        .map_err(|error| AuthorityError::Unavailable(error.to_string()))?;
    let options = Arc::clone(options);
    let connector = service_fn(move |_| {
        let options = Arc::clone(&options);
        async move { dial(&options).await.map(TokioIo::new).map_err(|error| io::Error::other(report(&error))) }
    });
    Ok(Endpoint::from(uri).connect_with_connector_lazy(connector))
}

/// Connects and shakes hands.
pub(super) async fn dial(options: &Options) -> Result<TlsStream<TcpStream>, AuthorityError> {
    let config = Arc::new(config(options)?);
    let host = options.server_name.as_deref().unwrap_or_else(|| options.address.host());
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| AuthorityError::Unavailable(format!("{host:?} is not the name of a server")))?;
    let address = &options.address;
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

fn config(options: &Options) -> Result<ClientConfig, AuthorityError> {
    let path = &options.root;
    let setup = |problem: String| AuthorityError::Setup {
        problem: format!("{}: {problem}", path.display()),
        remedy:
            "mount the ConfigMap istio-ca-root-cert there, or name the authority's root with --istio-root"
                .to_owned(),
    };
    let text = fs::read(path).map_err(|error| setup(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| setup(error.to_string()))?;
        roots.add(certificate).map_err(|error| setup(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(setup("there is no certificate in it".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(tls::provider()));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(|error| setup(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    Ok(config)
}
